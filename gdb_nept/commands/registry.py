# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands in gdb: each declaration becomes `nept-NAME` and `nept NAME`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gdb

from gdb_nept.address import HostPhys
from gdb_nept.commands.catalogue import NAMES, PREFIX, all_commands
from gdb_nept.commands.command import Command, door
from gdb_nept.commands.dump_in_gdb import DumpInGdb
from gdb_nept.commands.first_steps import in_gdb
from gdb_nept.commands.functions import FUNCTIONS, QWORD, Ask, Asked
from gdb_nept.commands.numbers import plain_number
from gdb_nept.commands.output import ROWS, Sink, usable
from gdb_nept.commands.progress import Meter
from gdb_nept.commands.settings import Kind, Setting, settings
from gdb_nept.errors import BadInput, NeptError
from gdb_nept.live.stops import Stops
from gdb_nept.memory.budget import Budget, within
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.near import near
from gdb_nept.nested.session import Session
from gdb_nept.render import colour, text
from gdb_nept.target.attachment import Attachment
from gdb_nept.target.gdb import GdbEvents, GdbRemote, GdbRunner, core_file, selected_processor
from gdb_nept.target.live import LiveTarget
from gdb_nept.target.running import Running, Selected


class GdbContext:
    """The session on what gdb is attached to; kept from one command to the next."""

    def __init__(self) -> None:
        self.stops = Stops()
        self.target = LiveTarget(GdbRemote(), self._dropped)
        self.events = GdbEvents(self.target, self.stops.ran, self._stopped, self._exits)
        self.dump = DumpInGdb(core_file)
        self._session: Session | None = None
        self.painted = False  # what the command that runs shows
        self._warned = False
        self._runs = False  # from one of our own stops to the next

    def session(self) -> Session:
        if (dump := self.dump.context()) is not None:
            return dump.session()
        kernel = self.target.kernel()
        if self._session is None or self._session.kernel is not kernel:
            self._session = Session(kernel)
            self.stops.forget()
        return self._session

    def attachment(self) -> Attachment:
        dump = self.dump.context()
        return dump.attachment() if dump is not None else self.target.attachment()

    def physical(self) -> tuple[PhysicalMemory[HostPhys], list[range]]:
        dump = self.dump.context()
        return dump.physical() if dump is not None else self.target.physical()

    @contextmanager
    def running(self) -> Iterator[Running]:
        if (dump := self.dump.context()) is not None:
            dump.running()
        self.target.remote.check()
        self.target.kernel()
        software = self.target.memory.virtual_only  # kgdb takes hardware ones that are never hit
        self.target.let_go()
        self._runs = True
        try:
            with GdbRunner() as runner:
                yield Running(runner, self.target.let_go, software)
        finally:
            self._runs = False
            self._stopped()

    def doubt(self) -> None:
        self.target.doubt()

    def tell(self, line: str, plain: bool = False) -> None:
        painted = self.painted and not plain
        gdb.write((colour.paint(line) if painted else line) + "\n")
        gdb.flush()

    def number(self, written: str) -> int:
        """A number, or any expression of gdb's; a function or an array stands for its address."""
        try:
            return plain_number(written)
        except BadInput:
            pass  # then it is an expression
        try:
            value: Any = gdb.parse_and_eval(written)
            if value.type.strip_typedefs().code in (gdb.TYPE_CODE_FUNC, gdb.TYPE_CODE_ARRAY):
                value = value.address
            return int(value) & QWORD
        except gdb.error as error:
            raise BadInput(f"'{written}' is neither a number nor an expression: {error}") from None

    def selected(self) -> Selected:
        if (dump := self.dump.context()) is not None:
            return dump.selected()
        return selected_processor(self.target.memory.virtual_only)

    def _exits(self) -> None:
        """The last chance to put a mode back, or to say that it is not."""
        try:
            self.target.memory.settle()
        except NeptError:
            pass  # said below
        self.warn()

    def warn(self) -> None:
        """Tell of a mode of the stub that gdb's own commands suffer from: while it is not put back
        after each command of ours, and once if it was there before us."""
        memory = self.target.memory
        found_on = "" if self._warned else memory.found_on
        for said in filter(None, (memory.owes, found_on)):
            gdb.write(f"gdb_nept: warning: {text.paragraph(said)}\n", gdb.STDERR)
        self._warned = self._warned or bool(found_on)

    def _dropped(self) -> None:
        self.stops.doubt()
        if self._session is not None:
            self._session.drop()

    def _stopped(self) -> None:
        """The user did not ask for what is done here: so it is silent, and Ctrl-C ends it for
        good."""
        if self._runs or not self.stops.arrive() or self._session is None:
            return
        try:
            with door(), self.target.command():
                if self.target.known() is self._session.kernel:
                    self.stops.take(self._session)
        except (NeptError, KeyboardInterrupt):
            pass  # the next command tells what is wrong


def _refusal(error: NeptError) -> gdb.GdbError:
    return gdb.GdbError(text.escaped(text.paragraph(str(error))))


class NeptCommand(gdb.Command):
    """A declared command under one of its two names."""

    def __init__(self, name: str, declared: Command, context: GdbContext) -> None:
        self.__doc__ = declared.manual  # gdb takes `help` from here
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
            raise _refusal(error) from None
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

    Without arguments it tells where to begin, and lists the commands.  "nept walk" is the same as
    "nept-walk".
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
            importlib.import_module("gdb_nept.commands.registry").register()
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
            raise _refusal(error) from None
        gdb.write(f"{found.attached if found else 'no dump'}\n")


class NeptFunction(gdb.Function):
    """A number about L2 in gdb's expressions, of the vCPU that a command would choose by itself."""

    def __init__(self, name: str, manual: str, ask: Ask, context: GdbContext) -> None:
        self.__doc__ = manual
        super().__init__(name)
        self.ask, self.context = ask, context

    def invoke(self, *asked: gdb.Value) -> int:
        try:
            with door(), within(Budget()), self.context.target.command():
                session = self.context.session()
                return self.ask(session, session.pick(None, None), _asked(asked))
        except NeptError as error:
            raise _refusal(error) from None
        finally:
            self.context.warn()


def _asked(values: Sequence[gdb.Value]) -> Asked:
    """The one argument of a function: an address or a name."""
    if len(values) != 1:
        raise BadInput(f"{len(values)} arguments are given", "The function takes one.")
    value = values[0]
    if value.type.strip_typedefs().code in (gdb.TYPE_CODE_ARRAY, gdb.TYPE_CODE_STRING):
        return value.string()
    return int(value) & QWORD


KINDS = {
    Kind.FLAG: gdb.PARAM_BOOLEAN,
    Kind.TEXT: gdb.PARAM_STRING,
    Kind.FILE: gdb.PARAM_OPTIONAL_FILENAME,
}


class NeptParameter(gdb.Parameter):
    """A declared setting, as `set nept NAME` and `show nept NAME`."""

    def __init__(self, declared: Setting) -> None:
        self.__doc__ = declared.manual
        self.set_doc, self.show_doc = f"Set {declared.what}.", f"Show {declared.what}."
        name, where = f"nept {declared.name}", gdb.COMMAND_DATA
        if declared.kind is Kind.CHOICE:
            super().__init__(name, where, gdb.PARAM_ENUM, declared.choices)
        else:
            super().__init__(name, where, KINDS[declared.kind])
        self.declared = declared
        self.value: Any = declared.start
        self.accepted = declared.start

    def get_set_string(self) -> str:
        wanted = self.value or ""
        try:
            self.declared.take(wanted)
        except NeptError as error:
            self.value = self.accepted  # gdb has set it already
            raise _refusal(error) from None
        self.accepted = wanted
        return ""

    def get_show_string(self, value: str) -> str:
        return self.declared.show(value)


class NeptSettings(gdb.Command):
    """`set nept` and `show nept`, which stand before the name of a setting."""

    def __init__(self, verb: str, declared: Sequence[Setting]) -> None:
        self.__doc__ = f"{verb.capitalize()} how gdb_nept works."
        super().__init__(f"{verb} nept", gdb.COMMAND_SUPPORT, gdb.COMPLETE_COMMAND, prefix=True)
        self.names = [one.name for one in declared]

    def invoke(self, line: str, from_tty: bool) -> None:
        """With no name: what they are set to."""
        if line:
            meant = near(line.split()[0], self.names)
            said = f"there is no setting 'nept {line.split()[0]}'; 'show nept' lists them. {meant}"
            raise gdb.GdbError(text.escaped(said.rstrip()))
        for name in self.names:
            gdb.write(f"nept {name}:  ")
            gdb.execute(f"show nept {name}")


def coloured() -> bool:
    """Colour on a terminal only, and where the user did not switch it off.  (What a script takes
    with gdb.execute() is no terminal's: gdb says so by `from_tty`.)"""
    if "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return bool(gdb.parameter("style enabled")) and os.isatty(1)


def width() -> int | None:
    """`set width`; None: unlimited."""
    found: Any = gdb.parameter("width")
    return int(found) if found else None


def meter() -> Meter | None:
    """On a terminal alone."""
    return Meter(_tell) if os.isatty(2) else None


def _tell(piece: str) -> None:
    gdb.write(piece, gdb.STDERR)
    gdb.flush(gdb.STDERR)


_registered: list[GdbContext] = []  # a second `source` finds here that all is done


def register() -> GdbContext:
    if _registered:
        return _registered[0]
    context = GdbContext()
    _registered.append(context)
    NeptPrefix()
    declared = settings(context.target, context.dump)
    for verb in ("set", "show"):
        NeptSettings(verb, declared)
    for setting in declared:
        NeptParameter(setting)
    for one in all_commands():
        NeptCommand(one.name, one, context)
        NeptCommand("nept " + one.name[len(PREFIX) :], one, context)
    for name, manual, ask in FUNCTIONS:
        NeptFunction(name, manual, ask, context)
    NeptReload(context)
    NeptDump(context)
    return context
