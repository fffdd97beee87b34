# SPDX-License-Identifier: GPL-2.0-or-later
"""What a walk through an EPT found, with every step kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, cast

from gdb_nept.address import In, Out
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.ept import ENTRY_SIZE, EptEntry, page_size
from gdb_nept.errors import UnreadKind
from gdb_nept.memory.reader import PAGE_MASK


class Cause(Enum):
    """Why a walk ended before its page."""

    NOT_PRESENT = "not present"
    MISCONFIGURED = "misconfigured"
    BEYOND_WIDTH = "address beyond the width of the walk"
    NO_WALK = "page-walk length that no processor has"
    UNREADABLE = "table unreadable"
    NO_MEMORY = "table in no memory"


@dataclass(frozen=True)
class Step(Generic[Out]):
    """One entry read, at `address` in the space of the tables."""

    level: int
    address: Out
    entry: EptEntry

    @property
    def table(self) -> Out:
        return cast(Out, self.address & ~PAGE_MASK)

    @property
    def index(self) -> int:
        return (self.address & PAGE_MASK) // ENTRY_SIZE

    @property
    def leaf(self) -> bool:
        return self.entry.leaf_at(self.level)


@dataclass(frozen=True)
class Stop:
    """Where and why a walk ended."""

    cause: Cause
    level: int  # where it stopped; 0 if before the first table
    why: str
    bits: int = 0  # of the entry, that are at fault
    unread: UnreadKind | None = None  # what became of the table, where it cannot be read


@dataclass(frozen=True)
class Walk(Generic[In, Out]):
    """The walk of one address.  `stop` is None exactly if `address` is where it leads."""

    asked: In
    root: Out
    levels: int
    steps: tuple[Step[Out], ...]
    stop: Stop | None
    address: Out | None

    @property
    def leaf(self) -> Step[Out] | None:
        return self.steps[-1] if self.steps and self.stop is None else None

    @property
    def size(self) -> int:
        """Bytes of the page, or of the hole, that the last entry read covers."""
        level = self.steps[-1].level if self.steps else self.levels + 1
        return page_size(level)

    @property
    def rights(self) -> EptEntry:
        """The AND of the rights of every entry used; all bits of the entries are kept."""
        value = -1
        for step in self.steps:
            value &= step.entry.value
        return EptEntry(value & ALL_BITS)
