# SPDX-License-Identifier: GPL-2.0-or-later
"""What we ask of a debugger about the machine that it is connected to (`target/gdb/remote.py`)."""

from __future__ import annotations

from typing import Protocol

from gdb_nept.memory.stub import Stub
from gdb_nept.target.debugger import Debugger


class Remote(Protocol):
    """A debugger with a remote target, or none.  All may raise TargetGone."""

    @property
    def stub(self) -> Stub: ...

    def connected(self) -> str:
        """'remote 127.0.0.1:1234', or '' where the debugger is attached to nothing that runs."""
        ...

    def address(self) -> str:
        """What the debugger is connected to: '127.0.0.1:1234', a socket's path, '| COMMAND'; ''
        if it does not tell."""
        ...

    def connection(self) -> str:
        """The same, with what tells this connection from those before it."""
        ...

    def check(self) -> None:
        """Raises NeptError where the target's memory cannot be read as things stand."""
        ...

    def cr3s(self) -> tuple[int, ...]:
        """CR3 of the selected CPU, if the stub gives it."""
        ...

    def direct_map(self) -> int:
        """What the kernel's `page_offset_base` holds.  Raises NotOffered if that is not known."""
        ...

    def vmlinux(self) -> Debugger | None:
        """The kernel with debug information that the user loaded, if there is one."""
        ...
