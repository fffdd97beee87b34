# SPDX-License-Identifier: GPL-2.0-or-later
"""Where commands run in tests that have neither gdb nor a dump."""

from __future__ import annotations

from contextlib import AbstractContextManager

from gdb_nept.commands.numbers import plain_number
from gdb_nept.errors import NeptError
from gdb_nept.live.stops import Stops
from gdb_nept.memory.ram import Ram
from gdb_nept.memory.taken import Taken
from gdb_nept.nested.session import Session
from gdb_nept.render.page import WIDTH
from gdb_nept.target.attachment import Attachment
from gdb_nept.target.running import Running, Selected


class NoTarget:
    """A context in which nothing is attached."""

    def __init__(self) -> None:
        self.stops = Stops()

    @property
    def taken(self) -> Taken:
        return Taken()

    def session(self) -> Session:
        raise NeptError("not attached", "Attach.")

    def attachment(self) -> Attachment:
        return Attachment("", "", None, ())

    def physical(self) -> Ram:
        raise NeptError("not attached", "Attach.")

    def number(self, written: str) -> int:
        return plain_number(written)

    def selected(self) -> Selected:
        raise NeptError("not attached", "Attach.")

    def running(self) -> AbstractContextManager[Running]:
        raise NeptError("not attached", "Attach.")

    def doubt(self) -> None:
        pass

    @property
    def columns(self) -> int:
        return WIDTH

    def tell(self, line: str, plain: bool = False) -> None:
        raise AssertionError("nothing to tell")


class OfSession(NoTarget):
    """A context of a session that a test has made."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def session(self) -> Session:
        return self._session
