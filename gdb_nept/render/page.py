# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command answers: text and tables for a reader, and the same as data for a program.

A long listing is made while it is written: rows come one by one, and what is known only behind
them (totals, footnotes) is asked for when its turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Callable, Union

Data = Union[None, bool, int, str, "list[Data]", "dict[str, Data]"]
#: In place of data: what is made when its turn comes, and a list that is made item by item.
LateData = Union[Data, Callable[[], Data], Iterator[Data]]

#: No line of output is longer than this, except where one word of the target's own is.
WIDTH = 100

Cells = tuple[str, ...]


class Status(Enum):
    """How it ended, for scripts: the exit status without gdb."""

    DONE = 0
    NOT_FOUND = 1  # or not readable
    DIFFERS = 3  # from what must be; or stale, or broken
    INCOMPLETE = 4  # not everything was looked at


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
