# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a command runs without gdb: on a dump."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from gdb_nept.address import HostPhys
from gdb_nept.commands.command import Usage, plain_number
from gdb_nept.errors import NoKernel

if TYPE_CHECKING:  # what a question does not need is not read
    from gdb_nept.live.stops import Stops
    from gdb_nept.memory.reader import PhysicalMemory
    from gdb_nept.nested.session import Session
    from gdb_nept.target.attachment import Attachment
    from gdb_nept.target.kernel import LinuxKernel
    from gdb_nept.target.running import Running, Selected


class DumpContext:
    """The session on a dump, made when a command first asks for it and kept for the next."""

    def __init__(self, dump: Path | None, btf: Sequence[Path]) -> None:
        self.dump = dump
        self._btf = tuple(btf)
        self._kernel: LinuxKernel | None = None
        self._session: Session | None = None

    def another(self, dump: Path) -> DumpContext:
        """The same on another dump."""
        return DumpContext(dump, self._btf)

    def kernel(self) -> LinuxKernel:
        if self._kernel is None:
            self._kernel = self._attached()
        return self._kernel

    def _attached(self) -> LinuxKernel:
        from gdb_nept.target.linux import attach

        memory, ranges = self.physical()
        return attach(memory, ranges, btf_files=self._btf, near=True)

    def physical(self) -> tuple[PhysicalMemory[HostPhys], list[range]]:
        from gdb_nept.memory.raw import RawMemory

        if self.dump is None:
            raise Usage("this command needs a dump", "Name a raw image of memory: --dump FILE")
        memory: RawMemory[HostPhys] = RawMemory(self.dump)
        return memory, memory.data_ranges()

    def session(self) -> Session:
        from gdb_nept.nested.session import Session

        if self._session is None:
            self._session = Session(self.kernel())
        return self._session

    def attachment(self) -> Attachment:
        from gdb_nept.target.attachment import Attachment, lacking, missing

        target = f"dump {self.dump}"
        try:
            kernel = self.kernel()
        except NoKernel as error:
            return Attachment(target, "raw image", None, (missing(error),))
        return Attachment(target, "raw image", kernel, lacking(kernel), kernel.circumstances)

    @property
    def stops(self) -> Stops:
        raise Usage("a dump does not run", "This command compares stops of a live target.")

    def number(self, written: str) -> int:
        return plain_number(written)

    def selected(self) -> Selected:
        raise Usage("a dump has no registers", "Write the number itself.")

    def running(self) -> AbstractContextManager[Running]:
        raise Usage("a dump does not run", "This command follows a live target: use it in gdb.")

    def tell(self, line: str) -> None:
        print(line, flush=True)
