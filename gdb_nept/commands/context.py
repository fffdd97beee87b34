# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a command runs: what it may ask of gdb, or of a dump, alike."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # a command imports what it needs of them
    from gdb_nept.live.stops import Stops
    from gdb_nept.memory.ram import Ram
    from gdb_nept.memory.taken import Taken
    from gdb_nept.nested.session import Session
    from gdb_nept.target.attachment import Attachment
    from gdb_nept.target.running import Running, Selected


class Context(Protocol):
    """Where a command runs: in gdb, or on a dump."""

    @property
    def stops(self) -> Stops:
        """Those of `session`'s kernel; raises NeptError where it does not run."""
        ...

    @property
    def columns(self) -> int:
        """In how many `tell` writes."""
        ...

    @property
    def taken(self) -> Taken:
        """How the memory that was read so far was taken."""
        ...

    def session(self) -> Session:
        """The kernel that is attached; raises NeptError where there is none."""
        ...

    def attachment(self) -> Attachment:
        """The same for nept-target: says what is missing instead of raising."""
        ...

    def physical(self) -> Ram:
        """The target's physical memory, whatever runs on it; raises NeptError where there is
        none."""
        ...

    def number(self, written: str) -> int:
        """The number that a user wrote; raises BadInput."""
        ...

    def selected(self) -> Selected:
        """The processor of whose registers `number` knows; raises NeptError where it knows none."""
        ...

    def running(self) -> AbstractContextManager[Running]:
        """The target, to be let run; raises NeptError where it cannot."""
        ...

    def tell(self, line: str, plain: bool = False) -> None:
        """Show a line at once, before the answer; `plain`: in no colour."""
        ...

    def doubt(self) -> None:
        """What was read is not all there is: it is read anew when it is asked for again."""
        ...
