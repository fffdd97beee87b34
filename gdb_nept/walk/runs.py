# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of entries that map neighbours, and the holes between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, Union, cast

from gdb_nept.address import In, Out
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.ept import ADDRESS, LEVEL_NAMES, EptEntry, page_size
from gdb_nept.errors import UnreadKind
from gdb_nept.walk.result import Stop

#: Bits that make two neighbours alike to a reader: not the address, not accessed and dirty.
SAME = ALL_BITS & ~(ADDRESS | EptEntry.accessed.mask | EptEntry.dirty.mask)


SHIFTS = {level: page_size(level).bit_length() - 1 for level in LEVEL_NAMES}


class _Run(NamedTuple):
    at: int
    level: int
    where: int
    word: int
    path: int
    length: int
    accessed: int
    dirty: int
    stop: Union[Stop, None]


class Run(_Run, Generic[In, Out]):
    """`length` entries of one level and kind side by side, which lead to one stretch.

    They end a walk: leaves, or misconfigured entries (`stop` says why).  `word` is the first of
    them, `path` the AND of it with the entries above it.  `accessed` and `dirty`: how many of them
    have that flag set.  A tuple, since there can be millions.
    """

    __slots__ = ()

    @property
    def start(self) -> In:
        return cast(In, self.at)

    @property
    def place(self) -> Out:
        """Where the first entry lies."""
        return cast(Out, self.where)

    @property
    def entry(self) -> EptEntry:
        return EptEntry(self.word)

    @property
    def rights(self) -> EptEntry:
        return EptEntry(self.path)

    @property
    def page_size(self) -> int:
        return page_size(self.level)

    @property
    def size(self) -> int:
        return self.length << SHIFTS[self.level]

    @property
    def end(self) -> int:
        return self.at + (self.length << SHIFTS[self.level])

    @property
    def address(self) -> Out:
        """Where `start` leads to, of a leaf."""
        return cast(Out, EptEntry(self.word).page(self.level))

    def followed_by(self, other: Run[In, Out]) -> bool:
        """Whether both are one run."""
        word, size = self.word, self.size
        if (other.word ^ word) & SAME or other.at != self.at + size:
            return False
        if other.level != self.level or other.stop != self.stop:
            return False
        there = (other.word & ADDRESS) - (word & ADDRESS)
        return not (other.path ^ self.path) & SAME and (there == size or self.stop is not None)

    def joined_with(self, other: Run[In, Out]) -> Run[In, Out]:
        return self._replace(
            length=self.length + other.length,
            accessed=self.accessed + other.accessed,
            dirty=self.dirty + other.dirty,
        )


@dataclass(frozen=True)
class Hole:
    """Nothing is mapped from `start` up to `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Unread:
    """Nobody knows what is mapped from `start` up to `end`, and why; `given_up` if we did not
    look, having looked at enough."""

    start: int
    end: int
    why: str
    given_up: bool = False
    kind: UnreadKind | None = None  # what became of the table; None where there can be none

    @property
    def size(self) -> int:
        return self.end - self.start


Found = Union[Run[In, Out], Unread]


def with_holes(
    found: Iterable[Found[In, Out]], low: int, high: int
) -> Iterator[Found[In, Out] | Hole]:
    """The same, and a Hole wherever nothing is mapped between `low` and `high`."""
    reached = low
    for one in found:
        if isinstance(one, Run):
            start = one.at
            end = start + (one.length << SHIFTS[one.level])
        else:
            start, end = one.start, one.end
        if start > reached:
            yield Hole(reached, start)
        yield one
        reached = end
    if reached < high:
        yield Hole(reached, high)
