# SPDX-License-Identifier: GPL-2.0-or-later
"""Mappings merged into runs, with the holes between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Generic

from gdb_nept.address import In, Out
from gdb_nept.arch.ept import EptEntry
from gdb_nept.walk.ept import Mapping

#: Bits that make two neighbours different to a reader: not the address, not accessed and dirty.
SAME = ~(EptEntry.address.mask | EptEntry.accessed.mask | EptEntry.dirty.mask)


@dataclass(frozen=True)
class Run(Generic[In, Out]):
    """`count` mappings of one size and kind side by side, which lead to one stretch."""

    first: Mapping[In, Out]
    count: int
    size: int
    accessed: int  # how many of them have their accessed flag set
    dirty: int

    @property
    def end(self) -> int:
        return self.first.start + self.size


@dataclass(frozen=True)
class Hole:
    """Nothing is mapped from `start` up to `end`."""

    start: int
    end: int


def merge(mappings: Iterable[Mapping[In, Out]]) -> Iterator[Run[In, Out]]:
    run: Run[In, Out] | None = None
    for mapping in mappings:
        if run is not None and _continues(run, mapping):
            run = replace(
                run,
                count=run.count + 1,
                size=run.size + mapping.size,
                accessed=run.accessed + mapping.entry.accessed,
                dirty=run.dirty + mapping.entry.dirty,
            )
            continue
        if run is not None:
            yield run
        run = Run(mapping, 1, mapping.size, mapping.entry.accessed, mapping.entry.dirty)
    if run is not None:
        yield run


def _continues(run: Run[In, Out], mapping: Mapping[In, Out]) -> bool:
    first = run.first
    return (
        mapping.start == run.end
        and mapping.level == first.level
        and mapping.stop == first.stop
        and mapping.entry.value & SAME == first.entry.value & SAME
        and mapping.rights.value & SAME == first.rights.value & SAME
        and (first.stop is not None or mapping.address == first.address + run.size)
    )


def with_holes(runs: Iterable[Run[In, Out]], low: int, high: int) -> Iterator[Run[In, Out] | Hole]:
    """The runs, and a Hole wherever nothing is mapped between `low` and `high`."""
    reached = low
    for run in runs:
        if run.first.start > reached:
            yield Hole(reached, run.first.start)
        yield run
        reached = run.end
    if reached < high:
        yield Hole(reached, high)


def each(mappings: Iterable[Mapping[In, Out]]) -> Iterator[Run[In, Out]]:
    """Every mapping as a run of its own: what `merge` would be without merging."""
    for mapping in mappings:
        yield Run(mapping, 1, mapping.size, mapping.entry.accessed, mapping.entry.dirty)
