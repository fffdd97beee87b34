# SPDX-License-Identifier: GPL-2.0-or-later
"""A table of EPT12 beside one of EPT02, or beside where a walk has ended above."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Union

from gdb_nept.arch.ept import ADDRESS, ENTRIES
from gdb_nept.kvm.shadow_page import NotShadowPage, ShadowPage
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.kinds import Kind, Kinds


class Table(NamedTuple):
    """`mark`: of the entries above it."""

    place: int
    words: memoryview
    mark: tuple[object, ...]
    page: Union[ShadowPage, NotShadowPage, None] = None  # KVM's note of it


class End(NamedTuple):
    """A walk has ended above: at a page, whose part from here on is at `address`, or nowhere.
    `at` is the entry's index in its table, and `page` KVM's note of that.  `unread`: at a table
    that cannot be read."""

    kind: Kind | None
    address: int | None
    mark: tuple[object, ...]
    page: Union[ShadowPage, NotShadowPage, None] = None
    at: int = 0
    size: int = 0
    unread: bool = False


Side = Union[Table, End]
Entry = tuple[int, int, Any, Any]


@dataclass
class Pair:
    """Both sides of 512 entries of `level` from `base` on."""

    level: int
    base: int
    ept12: Side
    ept02: Side
    charged: bool = False
    items: Iterator[Entry] | None = field(default=None, repr=False)

    @property
    def cost(self) -> int:
        return ENTRIES * max(1, isinstance(self.ept12, Table) + isinstance(self.ept02, Table))


def leaf(side: Side, kinds: Kinds, index: int) -> tuple[Kind | None, int | None]:
    """Entry `index` of a table of pages, or of an end above in its place; and its page."""
    if isinstance(side, End):
        address = side.address
        return side.kind, None if address is None else address + index * PAGE_SIZE
    word = side.words[index]
    kind = kinds(word, 1)
    return kind, word & ADDRESS if kind.leads else None


def part(side: End, offset: int) -> End:
    return side if side.address is None else side._replace(address=side.address + offset)
