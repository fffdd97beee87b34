# SPDX-License-Identifier: GPL-2.0-or-later
"""What a debugger does for us over its connection to a remote stub."""

from __future__ import annotations

from typing import Protocol


class Stub(Protocol):
    """All raise TargetGone when the connection is lost."""

    def packet(self, text: str) -> str:
        """The stub's answer to a packet; '' if it does not know it."""
        ...

    def monitor(self, text: str) -> str:
        """What QEMU's monitor answers; '' if there is none behind the stub."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Memory as the stub gives it now; raises MemoryUnreadable."""
        ...

    def forget(self) -> None:
        """Drop what the debugger itself cached of the target's memory."""
        ...
