# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command answers: text and tables for a reader, and the same as data for a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

Data = Union[None, bool, int, str, "list[Data]", "dict[str, Data]"]

#: No line of output is longer than this, except where one word of the target's own is.
WIDTH = 100


@dataclass(frozen=True)
class Table:
    """`right` are the columns to align right; the last column is the one that wraps."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()


@dataclass(frozen=True)
class Page:
    """`blocks` in the order of reading: a str is a paragraph; `data` is what --json prints."""

    blocks: tuple[Union[str, Table], ...]
    data: dict[str, Data]
