# SPDX-License-Identifier: GPL-2.0-or-later
"""A second serial port for a machine in Bochs.

Bochs offers a socket for that too, but in its own network namespace, where nobody else is; and it
would wait at its start for somebody to connect.
"""

from __future__ import annotations

import os
import tty


class SerialLine:
    """A pair of terminals: Bochs has one end as its second serial port, we hold the other."""

    def __init__(self) -> None:
        self.descriptor, self._far = os.openpty()
        tty.setraw(self._far)
        self._name = os.ttyname(self._far)

    @property
    def configuration(self) -> str:
        """The line of Bochs' configuration."""
        return f"com2: enabled=1, mode=term, dev={self._name}\n"

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self._far)
