# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command answers: text and tables for a reader, and the same as data for a program.

A long listing is made while it is written: rows come one by one, and what is known only behind
them (totals, footnotes) is asked for when its turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Callable, TypeVar, Union

Data = Union[None, bool, int, str, "list[Data]", "dict[str, Data]"]
#: In place of data: what is made when its turn comes, and a list that is made item by item.
LateData = Union[Data, Callable[[], Data], Iterator[Data]]

#: No line of output is longer than this, except where one word of the target's own is, or where a
#: terminal is wider: there it may be as long as WIDEST.
WIDTH = 80
WIDEST = 132

Cells = tuple[str, ...]
Asked = TypeVar("Asked")


class Status(Enum):
    """How it ended, for scripts: the exit status without gdb.  Numbers are added, never changed."""

    DONE = 0
    NOT_FOUND = 1
    USAGE = 2
    DIFFERS = 3
    INCOMPLETE = 4
    UNREAD = 5
    INTERRUPTED = 130


MEANINGS = {
    Status.DONE: "found, and nothing contradicts",
    Status.NOT_FOUND: "not found, or not readable",
    Status.USAGE: "wrong arguments",
    Status.DIFFERS: "differs from what must be (check), or is stale or broken (walk, compare)",
    Status.INCOMPLETE: "not everything was looked at (--limit N for more)",
    Status.UNREAD: "answered, but a part of it could not be read",
    Status.INTERRUPTED: "ended by Ctrl-C",
}
#: Of several answers, the one that tells most.
_WEIGHT = (
    *(Status.INTERRUPTED, Status.USAGE, Status.DIFFERS, Status.NOT_FOUND, Status.UNREAD),
    *(Status.INCOMPLETE, Status.DONE),
)


def gravest(found: Iterable[Status]) -> Status:
    return min(found, key=_WEIGHT.index, default=Status.DONE)


@dataclass(frozen=True)
class Table:
    """`right` are the columns to align right; the last column is the one that wraps.

    Where rows are left out, `rest` passes over those that were not taken and counts them."""

    headers: Cells
    rows: Iterable[Cells]
    right: tuple[int, ...] = ()
    rest: Callable[[], int] | None = None


Block = Union[str, Table]


@dataclass(frozen=True)
class Page:
    """`blocks` in the order of reading: a str is a paragraph; `data` is what --json prints, or
    --json-lines, which writes an object for each item of `lines`, and one for all else."""

    blocks: tuple[Union[Block, Callable[[], Block]], ...]
    data: Mapping[str, LateData]
    status: Callable[[], Status] = field(default=lambda: Status.DONE)
    lines: str = ""


@dataclass(frozen=True)
class Pages:
    """The answers to several questions of one kind, each made when its turn comes; --json has them
    as a list under `name`.  Behind one that raised, the iterator goes on with the next."""

    name: str
    pages: Iterator[Page]


def page_for_each(
    name: str, asked: Sequence[Asked], answer: Callable[[Asked], Page], listed: bool = False
) -> Page | Pages:
    """A page for each question; one alone is answered as if there could be no others, unless it is
    to be `listed`."""
    if len(asked) == 1 and not listed:
        return answer(asked[0])
    return Pages(name, map(answer, asked))
