# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a command runs without gdb: on a dump."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from gdb_nept.commands.numbers import Usage, plain_number
from gdb_nept.errors import NoKernel
from gdb_nept.memory.taken import Taken
from gdb_nept.render.page import WIDTH

if TYPE_CHECKING:  # what a question does not need is not read
    from gdb_nept.live.stops import Stops
    from gdb_nept.memory.dump import Dump
    from gdb_nept.memory.ram import Ram
    from gdb_nept.nested.session import Session
    from gdb_nept.target.attachment import Attachment
    from gdb_nept.target.kernel import LinuxKernel
    from gdb_nept.target.running import Running, Selected


class DumpContext:
    """The session on a dump, made when a command first asks for it and kept for the next."""

    def __init__(
        self,
        dump: Path | None,
        btf: Sequence[Path],
        library: Path | None = None,
        live: bool = False,
    ) -> None:
        """`library` is the libkdumpfile to read the dump with; None for the system's.  `live`: in
        place of a dump, the memory of the computer that this runs on."""
        self.live = live
        self.dump = dump
        self.btf = tuple(btf)
        self.library = library
        self._opened: Dump | None = None
        self._kernel: LinuxKernel | None = None
        self._session: Session | None = None

    def another(self, dump: Path) -> DumpContext:
        """The same on another dump."""
        return DumpContext(dump, self.btf, self.library)

    def kernel(self) -> LinuxKernel:
        if self._kernel is None:
            self._kernel = self._attached()
        return self._kernel

    def _attached(self) -> LinuxKernel:
        from gdb_nept.target.dumped import attach_dump

        return attach_dump(self._dump(), btf_files=self.btf)

    def physical(self) -> Ram:
        from gdb_nept.memory.ram import Ram

        memory = self._dump().memory
        return Ram(memory, memory.data_ranges(), memory.left_out())

    def _dump(self) -> Dump:
        from gdb_nept.memory.dump import open_dump, open_live

        if self.live and self._opened is None:
            self._opened = open_live()
        if self._opened is not None:
            return self._opened
        if self.dump is None:
            raise Usage("this command needs a dump", "Name a dump of memory: --dump FILE")
        self._opened = open_dump(self.dump, self.library)
        return self._opened

    @property
    def taken(self) -> Taken:
        return self._opened.taken if self._opened is not None else Taken()

    def session(self) -> Session:
        from gdb_nept.nested.session import Session

        if self._session is None:
            self._session = Session(self.kernel())
        return self._session

    def attachment(self) -> Attachment:
        from gdb_nept.target.attachment import Attachment, lacking, missing

        target = "this machine, which runs (/proc/kcore)" if self.live else f"dump {self.dump}"
        try:
            kernel = self.kernel()
        except NoKernel as error:
            return Attachment(target, self._format, None, (missing(error),), self._notes)
        from gdb_nept.target.dumped_cpus import cpus_in_words, vmcs_in_words

        dump = self._dump()
        notes = (*kernel.circumstances, *self._notes, *cpus_in_words(dump, kernel))
        notes += vmcs_in_words(dump)
        return Attachment(target, self._format, kernel, lacking(kernel), notes)

    @property
    def attached(self) -> str:
        """In words."""
        return "; ".join((f"dump {self.dump}: {self._format}", *self._notes))

    @property
    def _format(self) -> str:
        return self._opened.format if self._opened else ""

    @property
    def _notes(self) -> tuple[str, ...]:
        return self._opened.notes if self._opened else ()

    @property
    def stops(self) -> Stops:
        raise Usage("a dump does not run", "This command compares stops of a live target.")

    def number(self, written: str) -> int:
        return plain_number(written)

    def selected(self) -> Selected:
        raise Usage("a dump has no registers", "Write the number itself.")

    def running(self) -> AbstractContextManager[Running]:
        raise Usage("a dump does not run", "This command follows a live target, in gdb.")

    def doubt(self) -> None:
        if self._kernel is not None:
            self._kernel.forget()
        if self._session is not None:
            self._session.drop()

    @property
    def columns(self) -> int:
        return WIDTH

    def tell(self, line: str, plain: bool = False) -> None:
        print(line, flush=True)
