# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a command runs in gdb: on what gdb is attached to, or on a dump named there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gdb

from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.commands.command import door
from gdb_nept.commands.dump_in_gdb import DumpInGdb
from gdb_nept.commands.gdb.screen import width
from gdb_nept.commands.numbers import negated, plain_number
from gdb_nept.commands.output import usable
from gdb_nept.errors import BadInput, NeptError
from gdb_nept.live.stops import Stops
from gdb_nept.memory.ram import Ram
from gdb_nept.memory.taken import Taken
from gdb_nept.nested.session import Session
from gdb_nept.render import colour, text
from gdb_nept.target.attachment import Attachment
from gdb_nept.target.gdb.connection import core_file, selected_processor
from gdb_nept.target.gdb.events import GdbEvents
from gdb_nept.target.gdb.remote import GdbRemote
from gdb_nept.target.gdb.runner import GdbRunner
from gdb_nept.target.live import LiveTarget
from gdb_nept.target.running import Running, Selected


class GdbContext:
    """The session on what gdb is attached to; kept from one command to the next."""

    def __init__(self) -> None:
        self.stops = Stops()
        self.target = LiveTarget(GdbRemote(), self._dropped)
        self.events = GdbEvents(self.target, self.stops.runs.append, self._stopped, self._exits)
        self.dump = DumpInGdb(core_file)
        self._session: Session | None = None
        self.painted = False  # what the command that runs shows
        self._warned = False
        self._runs = False  # from one of our own stops to the next

    @property
    def taken(self) -> Taken:
        dump = self.dump.context()
        return dump.taken if dump is not None else Taken()

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

    def physical(self) -> Ram:
        dump = self.dump.context()
        return dump.physical() if dump is not None else Ram(*self.target.physical())

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

    @property
    def columns(self) -> int:
        return usable(width())

    def tell(self, line: str, plain: bool = False) -> None:
        painted = self.painted and not plain
        gdb.write((colour.paint(line) if painted else line) + "\n")
        gdb.flush()

    def number(self, written: str) -> int:
        """A number, or any expression of gdb's; a function or an array stands for its address, and
        a register of 64 bits, which gdb takes for signed, for what it holds."""
        try:
            return plain_number(written)
        except BadInput:
            if negated(written):
                raise
        try:
            value: Any = gdb.parse_and_eval(written)
            if value.type.strip_typedefs().code == gdb.TYPE_CODE_FLT:  # "16E" is one to gdb
                raise BadInput(f"'{written}' is no whole number", "Write 0x1000, 4096 or 4K.")
            if value.type.strip_typedefs().code in (gdb.TYPE_CODE_FUNC, gdb.TYPE_CODE_ARRAY):
                value = value.address
            return int(value) & ALL_BITS
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
