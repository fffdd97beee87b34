# SPDX-License-Identifier: GPL-2.0-or-later
"""The dump that gdb's commands are asked of, in place of a target that it is attached to.

What the user names with nept-dump comes first, then a core that gdb has open (`gdb vmlinux vmcore`,
`core-file`): of that its path alone is taken, for gdb gives zeros where a core has no page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from gdb_nept.commands.dump_context import DumpContext


class DumpInGdb:
    """`core` tells the path of gdb's core, or ''."""

    def __init__(self, core: Callable[[], str]) -> None:
        self._core = core
        self._named: DumpContext | None = None
        self._of_core: DumpContext | None = None
        self._btf: tuple[Path, ...] = ()
        self._library: Path | None = None

    def context(self) -> DumpContext | None:
        """None where commands are asked of what gdb is attached to."""
        if self._named is not None:
            return self._named
        core = self._core()
        if not core:
            self._of_core = None
        elif self._of_core is None or str(self._of_core.dump) != core:
            self._of_core = self._made(Path(core))
        return self._of_core

    def name(self, path: Path | None) -> DumpContext | None:
        """From now on; None: no dump.  Raises NeptError where it cannot be read."""
        if path is None:
            self._named = None
            return None
        made = self._made(path)
        made.physical()
        self._named = made
        return made

    def take_types_from(self, files: tuple[Path, ...]) -> None:
        self._btf = files
        self._again()

    def read_by(self, library: Path | None) -> None:
        """The libkdumpfile to read with; None for the system's."""
        self._library = library
        self._again()

    def _again(self) -> None:
        self._of_core = None
        if self._named is not None and self._named.dump is not None:
            self._named = self._made(self._named.dump)

    def _made(self, path: Path) -> DumpContext:
        return DumpContext(path, self._btf, self._library)
