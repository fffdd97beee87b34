# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command's answer leaves: as text, or as JSON, page by page as it is made."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Callable

from gdb_nept.commands.progress import Meter
from gdb_nept.errors import BadArgument, Incomplete, NeptError
from gdb_nept.memory.budget import Budget, renew
from gdb_nept.render import colour, json, text
from gdb_nept.render.page import WIDEST, WIDTH, Data, Page, Pages, Status, gravest

ROWS = 200  # of a table, on a terminal


class NotWritten(NeptError):
    """The output does not reach its reader; `left`: who read it has seen enough."""

    def __init__(self, error: OSError | ValueError, left: bool = False) -> None:
        super().__init__(f"the answer cannot be written: {error}")
        self.left = left


def ended_by(error: NeptError) -> Status:
    """How a question ends that has this error for an answer."""
    if isinstance(error, Incomplete):
        return Status.INCOMPLETE
    return Status.USAGE if isinstance(error, BadArgument) else Status.NOT_FOUND


@dataclass(frozen=True)
class Sink:
    """Where output goes: `rows` is how many of a table a reader is shown, None for all; `meter`
    shows how far a command is, where somebody looks; `width` is that of the text, in columns."""

    write: Callable[[str], object]
    coloured: bool = False
    rows: int | None = None
    meter: Meter | None = None
    width: int = WIDTH

    def put(self, piece: str) -> None:
        """Raises NotWritten."""
        if self.meter is not None:
            self.meter.wipe()
        try:
            self.write(piece)
        except OSError as error:
            raise NotWritten(error, left=isinstance(error, BrokenPipeError)) from None


def usable(columns: int | None) -> int:
    """The width to write in where a terminal has so many columns; None: it does not wrap."""
    return WIDTH if columns is None else max(40, min(columns, WIDEST))


def put_page(page: Page, args: argparse.Namespace, sink: Sink, by_lines: bool) -> None:
    """As text or JSON; `by_lines`: an object a line, where the page has such.  Raises
    NotWritten."""
    if args.json or by_lines:
        whole = args.json or not page.lines
        for piece in json.pieces(page) if whole else json.lines(page):
            sink.put(piece)
        return
    most = None if getattr(args, "all", False) else sink.rows
    for piece in text.pieces(page, most, sink.width):
        sink.put(colour.paint(piece) if sink.coloured and not args.no_color else piece)


def put_pages(
    found: Pages,
    identified: Callable[[Page], Page],
    args: argparse.Namespace,
    sink: Sink,
    by_lines: bool,
) -> Status:
    """Each page as its turn comes; what it ended with is that of the gravest."""
    ends: set[Status] = set()
    pages = map(identified, _each(found))
    if args.json:
        whole = Page((), {found.name: _data_of(pages, ends)})
        for piece in json.pieces(identified(whole)):
            sink.put(piece)
        return gravest(ends)
    gap = ""
    for page in pages:
        sink.put(gap)
        if by_lines:
            sink.put(json.line(page))
        else:
            put_page(page, args, sink, by_lines)
        ends.add(page.status())
        gap = "\n" if by_lines else "\n\n"
    return gravest(ends)


def _each(found: Pages) -> Iterator[Page]:
    """One that cannot be answered costs no other its answer."""
    pages = iter(found.pages)
    while True:
        try:
            page = next(pages)
        except StopIteration:
            return
        except NeptError as error:
            data: dict[str, Data] = {"error": error.message, "advice": error.advice or None}
            page = Page((f"error: {error}",), data, partial(ended_by, error))
        yield page
        renew()  # each question has the whole budget


def _data_of(pages: Iterable[Page], ends: set[Status]) -> Iterator[Data]:
    for page in pages:
        yield json.whole(page)
        ends.add(page.status())


def put_spent(budget: Budget, args: argparse.Namespace, sink: Sink, by_lines: bool) -> None:
    """What the answer does not cover, behind it; data says so in its own places."""
    if budget.fields_ran_out and not (args.json or by_lines):
        sink.put(f"\n\nnot everything was looked at: {budget.fields_ran_out}")
