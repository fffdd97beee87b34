# SPDX-License-Identifier: GPL-2.0-or-later
"""Each declared command as `nept-NAME` and `nept NAME`, and those that gdb alone has."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import gdb

from gdb_nept.commands.catalogue import NAMES
from gdb_nept.commands.command import Command
from gdb_nept.commands.first_steps import in_gdb
from gdb_nept.commands.gdb.context import GdbContext
from gdb_nept.commands.gdb.screen import coloured, meter, refusal, width
from gdb_nept.commands.output import ROWS, Sink, usable
from gdb_nept.errors import NeptError
from gdb_nept.near import near
from gdb_nept.render import text
from gdb_nept.render.manual import fitted


class NeptCommand(gdb.Command):
    """A declared command under one of its two names."""

    def __init__(self, name: str, declared: Command, context: GdbContext) -> None:
        self.__doc__ = fitted(declared.manual)  # gdb takes `help` from here
        self.declared = declared
        self.context = context
        super().__init__(name, gdb.COMMAND_DATA)

    def invoke(self, line: str, from_tty: bool) -> None:
        self.dont_repeat()
        words = gdb.string_to_argv(line)
        try:
            with self.context.target.command():
                painted = self.context.painted = from_tty and coloured()
                rows = ROWS if os.isatty(1) else None
                sink = Sink(gdb.write, painted, rows, meter(), usable(width()))
                self.declared.write_answer(self.context, words, sink)
            gdb.write("\n")
        except NeptError as error:
            raise refusal(error) from None
        except KeyboardInterrupt:
            raise gdb.GdbError(f"{self.declared.name}: interrupted") from None
        finally:
            self.context.warn()

    def complete(self, line: str, word: str) -> Sequence[str]:
        # `word` starts after gdb's own break characters ("-" is one); we complete whole arguments
        typed = line.split(" ")[-1]
        offers = self.declared.complete(line.split()[: -1 if typed else None], typed)
        cut = len(typed) - len(word)
        return [offer[cut:] for offer in offers]


class NeptPrefix(gdb.Command):
    """Debug nested EPT on a Linux KVM host from outside.

    Usage: nept
           nept NAME ARGUMENTS

    Without arguments it tells where to begin, and lists the commands.
    "nept walk" is the same as "nept-walk".
    """

    def __init__(self) -> None:
        super().__init__("nept", gdb.COMMAND_DATA, gdb.COMPLETE_COMMAND, prefix=True)

    def invoke(self, line: str, from_tty: bool) -> None:
        if line:
            said = f"there is no command 'nept {line}': 'nept' lists them"
            raise gdb.GdbError(text.escaped(f"{said}. {near(line.split()[0], NAMES)}".rstrip()))
        gdb.write(in_gdb() + "\n")


class NeptReload(gdb.Command):
    """Load gdb_nept's files again after they were changed, and forget what was read.

    Usage: nept-reload
    """

    def __init__(self, context: GdbContext) -> None:
        super().__init__("nept-reload", gdb.COMMAND_SUPPORT)
        self.context = context

    def invoke(self, line: str, from_tty: bool) -> None:
        self.context.events.close()
        ours = [name for name in sys.modules if name.partition(".")[0] == "gdb_nept"]
        before = {name: sys.modules.pop(name) for name in ours}
        try:
            importlib.import_module("gdb_nept.commands.gdb.registry").register()
        except (ImportError, SyntaxError) as error:
            sys.modules.update(before)
            raise gdb.GdbError(f"not reloaded, the old commands stay: {error}") from None
        gdb.write(f"gdb_nept: {len(ours)} modules loaded again\n")


class NeptDump(gdb.Command):
    """Ask the commands of a dump, not of what gdb is attached to.

    Usage: nept-dump FILE
           nept-dump

    FILE is a raw image, an ELF dump (vmcore), a kdump-compressed one or LiME's.  Without it the
    commands are asked of gdb's own target again.  A core that gdb has open (core-file, or
    "gdb vmlinux vmcore") needs no nept-dump.

    See also: nept-target, set nept libkdumpfile
    """

    def __init__(self, context: GdbContext) -> None:
        super().__init__("nept-dump", gdb.COMMAND_FILES, gdb.COMPLETE_FILENAME)
        self.context = context

    def invoke(self, line: str, from_tty: bool) -> None:
        self.dont_repeat()
        path = Path(line.strip()).expanduser() if line.strip() else None
        try:
            found = self.context.dump.name(path)
        except NeptError as error:
            raise refusal(error) from None
        gdb.write(f"{found.attached if found else 'no dump'}\n")
