# SPDX-License-Identifier: GPL-2.0-or-later
"""A second serial port for a machine in Bochs.

Bochs offers a socket for that too, but in its own network namespace, where nobody else is; and it
would wait at its start for somebody to connect.
"""

from __future__ import annotations

import os
import tty

INSTRUCTIONS = 10_000_000  # in a second of the machine's; Bochs executes more in one of ours


class SerialLine:
    """A pair of terminals: Bochs has one end as its second serial port, we hold the other."""

    def __init__(self) -> None:
        self.descriptor, self._far = os.openpty()
        tty.setraw(self._far)
        self._name = os.ttyname(self._far)

    @property
    def configuration(self) -> str:
        """The lines of Bochs' configuration.  A slow clock of instructions makes a fast line: its
        bytes take 87 microseconds each by the machine's own time, of which there is more then."""
        return f"com2: enabled=1, mode=term, dev={self._name}\ncpu: ips={INSTRUCTIONS}\n"

    def close(self) -> None:
        os.close(self.descriptor)
        os.close(self._far)
