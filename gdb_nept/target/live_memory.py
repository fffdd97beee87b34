# SPDX-License-Identifier: GPL-2.0-or-later
"""The physical memory of the machine that a debugger is connected to: chosen once a connection,
kept, cached while the machine stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Callable

from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput
from gdb_nept.memory.direct import DirectMapMemory
from gdb_nept.memory.owner import owners
from gdb_nept.memory.process import process_memory
from gdb_nept.memory.qemu import QemuMemory
from gdb_nept.memory.reader import PageCache
from gdb_nept.memory.shared_file import file_memory
from gdb_nept.memory.transport import AUTO, KINDS, Choice, NotOffered, Transport, choose
from gdb_nept.target.remote import Remote

BY_HAND = "maint packet Qqemu.PhyMemMode:0"
OWED = (
    "the stub is left in physical memory mode: it refused to be put back, so that gdb's own "
    f"commands read physical addresses.  The next command of ours tries again; by hand: {BY_HAND}"
)
FOUND_ON = (
    "the stub was in physical memory mode before us, as a gdb that was killed leaves it, so that "
    f"gdb's own commands read physical addresses.  If you did not set it: {BY_HAND}"
)


class LiveMemory:
    """`cache` reads through the transport that was chosen; both are of one connection."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._wanted = AUTO
        self._file: Path | None = None
        self._where = ""  # what we were connected to last, and by which connection
        self._connection = ""
        self._mode: QemuMemory | None = None  # outlasts a connection: it may owe the stub a mode
        self._found_on = False
        self._choice: Choice | None = None
        self._cache: PageCache[HostPhys] | None = None

    def want(self, kind: str) -> None:
        """Read memory in this way only, or `auto`.  Raises BadInput."""
        if kind not in (AUTO, *KINDS):
            raise BadInput(f"no way '{kind}' to read memory", f"There are {AUTO}, {words(KINDS)}.")
        self._wanted = kind
        self.forget()

    def name_file(self, file: Path | None) -> None:
        """The file that holds the machine's memory, where QEMU's own name for it does not do."""
        self._file = file
        self.forget()

    @property
    def choice(self) -> Choice | None:
        """What is used, if anything was read from the machine that we are connected to."""
        return self._choice if self._connection == self._remote.connection() else None

    @property
    def virtual_only(self) -> bool:
        """Whether all that is read comes from kernel addresses, through a stub that knows no
        others, as kgdb."""
        if self._mode is None or self._choice is None or self._choice.transport.kind != "direct":
            return False
        try:
            self._mode.mode()
        except NotOffered:
            return True
        return False

    def ready(self) -> tuple[Transport, PageCache[HostPhys]]:
        """What to read with now.  Raises NotOffered, and NeptError where nothing is attached."""
        self._remote.check()
        connection = self._remote.connection()
        if self._choice is None or self._cache is None or connection != self._connection:
            self.forget()
            self._choice = choose(self._ways(self._physical_mode()), self._wanted)
            self._cache = PageCache(self._choice.transport)
            self._connection = connection
            self._found_on = self._mode is not None and self._mode.found_on()
        return self._choice.transport, self._cache

    def settle(self) -> None:
        """Puts back a mode that a command before could not."""
        if self._mode is not None and self._mode.owed and self._connected():
            self._mode.settle()

    def _connected(self) -> bool:
        return bool(self._where) and self._remote.connected() == self._where

    @property
    def owes(self) -> str:
        """What is said while a mode is not put back; ''  if none is owed."""
        return OWED if self._mode is not None and self._mode.owed else ""

    @property
    def found_on(self) -> str:
        """What is said of a mode that was on when we came; '' if it was not."""
        return FOUND_ON if self._found_on else ""

    def drop(self) -> None:
        """The machine ran: what was read is stale."""
        if self._cache is not None:
            self._cache.drop()

    def forget(self) -> None:
        """Choose anew before the next read."""
        self._choice = self._cache = None
        self._connection = ""

    def _physical_mode(self) -> QemuMemory:
        """Of this connection, with what a lost one to the same machine left undone."""
        where = self._remote.connected()
        owed = self._mode.owed if self._mode and where == self._where else ""
        self._where = where
        self._mode = QemuMemory(self._remote.stub, owed)
        if owed:
            with self._mode.held():
                pass  # puts it back
        return self._mode

    def _ways(self, mode: QemuMemory) -> Mapping[str, Callable[[], Transport]]:
        stub = self._remote.stub

        def by_mode() -> Transport:
            mode.mode()
            return mode

        def direct() -> Transport:
            base = self._remote.direct_map()
            return DirectMapMemory(stub, base, mode.ranges)

        return {
            "process": lambda: process_memory(stub, mode, owners(self._remote.address())),
            "file": lambda: file_memory(stub, mode, self._file),
            "phymem": by_mode,
            "direct": direct,
        }


def words(kinds: Mapping[str, str]) -> str:
    """The names, with what they mean."""
    return ", ".join(f"{kind} ({meaning})" for kind, meaning in kinds.items())
