# SPDX-License-Identifier: GPL-2.0-or-later
"""Where nept-watch tells of each fault at once: the terminal, and a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from gdb_nept.commands.context import Context
from gdb_nept.errors import BadInput
from gdb_nept.live.watch import Event, Unread, Watch
from gdb_nept.render import text
from gdb_nept.render.page import WIDTH
from gdb_nept.render.watch import Tally, heading

NO_LIMIT = 0


class FaultLog:
    """`context` is told each line, if it is given, uncoloured if `plain`; `file` gets each fault as
    JSON."""

    def __init__(self, context: Context | None, file: TextIO | None, plain: bool = False) -> None:
        width = WIDTH if context is None else context.columns
        self.tally = Tally(keep=context is None, width=width)
        self._context = context
        self._file = file
        self._plain = plain
        self._told: Event | None = None  # last

    def follow(self, watching: Watch, count: int, until_mismatch: bool) -> str:
        """Take every fault; why that ended.  `count` is how many at most, or NO_LIMIT."""
        self._tell(heading(watching.points, watching.model, watching.area, self.tally.width))
        try:
            ended = self._take_all(watching, count, until_mismatch)
        except KeyboardInterrupt:  # while we read or predicted, and not the target ran
            ended = "interrupted"
            if watching.last is not self._told and watching.last is not None:
                self._take(watching.last)
        for event in watching.unfinished():
            self._take(event)
        return ended

    def _take_all(self, watching: Watch, count: int, until_mismatch: bool) -> str:
        for event in watching.events():
            self._take(event)
            if until_mismatch and event.differs:
                what = "could not be read" if isinstance(event, Unread) else "differs"
                return f"stopped at the first that {what}"
            if self.tally.number == count:
                return "stopped after as many as were asked for"
        return watching.machine.why

    def _take(self, event: Event) -> None:
        line = self.tally.take(event)
        if self._file is not None:
            try:
                self._file.write(json.dumps(self.tally.faults[-1]) + "\n")
            except OSError as error:
                raise BadInput(f"cannot write {self._file.name}: {error}") from None
        self._told = event
        self._tell(line)

    def _tell(self, line: str) -> None:
        if self._context is not None:
            self._context.tell(text.escaped(line), self._plain)


@contextmanager
def written(name: Path | None) -> Iterator[TextIO | None]:
    """The file, line by line; None without a name.  Raises BadInput where it cannot be written."""
    if name is None:
        yield None
        return
    try:
        file = name.expanduser().open("w", encoding="utf-8", buffering=1)
    except OSError as error:
        raise BadInput(f"cannot write {name}: {error}", "Name a file: --json-lines FILE") from None
    with file:
        yield file
