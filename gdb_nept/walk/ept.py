# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of one EPT: EPT12 in L1's memory and KVM's own EPT in the host's, alike.

SDM vol. 3, June 2026 (325384-092), section 31.3.2 "EPT Translation Mechanism".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, cast

from gdb_nept.address import In, Out
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import (
    ENTRIES,
    ENTRY_SIZE,
    LEVEL_NAMES,
    EptEntry,
    Eptp,
    index,
    misconfigured,
    page_size,
)
from gdb_nept.errors import MemoryUnreadable, NoMemory
from gdb_nept.memory.reader import PhysicalMemory, read_u64
from gdb_nept.walk.result import Cause, Step, Stop, Walk


def walk_ept(
    memory: PhysicalMemory[Out], eptp: Eptp, asked: In, cpu: Capabilities
) -> Walk[In, Out]:
    """Translate `asked` through the EPT at `eptp`, whose tables lie in `memory`.

    Never raises for what a guest did, nor for what cannot be read: the walk then ends in a Stop
    and keeps the steps made so far.
    """
    root = cast(Out, eptp.address)
    steps: list[Step[Out]] = []
    stop = _beyond_width(asked, eptp)
    table = root
    level = levels = eptp.levels
    while stop is None:
        number = index(asked, level)
        place = cast(Out, table + number * ENTRY_SIZE)
        try:
            entry = EptEntry(read_u64(memory, place))
        except NoMemory as error:
            why = f"the table of {LEVEL_NAMES[level]}s at {table:#x} cannot be there: {error.why}"
            stop = Stop(Cause.NO_MEMORY, level, why)
            break
        except MemoryUnreadable as error:
            stop = Stop(Cause.UNREADABLE, level, str(error))
            break
        leaf = entry.leaf_at(level)
        steps.append(Step(level, table, number, place, entry, leaf))
        stop = judge(entry, level, cpu)
        if stop is None and leaf:
            there = cast(Out, entry.page(level) | (asked & (page_size(level) - 1)))
            return Walk(asked, root, levels, tuple(steps), None, there)
        table = cast(Out, entry.address)
        level -= 1
    return Walk(asked, root, levels, tuple(steps), stop, None)


def _beyond_width(asked: int, eptp: Eptp) -> Stop | None:
    if asked < eptp.reach:
        return None
    width = eptp.reach.bit_length() - 1
    why = f"{asked:#x} has bits beyond the {width} that a {eptp.levels}-level EPT translates"
    return Stop(Cause.BEYOND_WIDTH, 0, why)


def judge(entry: EptEntry, level: int, cpu: Capabilities) -> Stop | None:
    """Why the walk ends at this entry, or None if it goes on or arrives (31.3.3)."""
    if not entry.present(cpu.mbec):
        return Stop(Cause.NOT_PRESENT, level, f"the {LEVEL_NAMES[level]} is not present")
    bad = misconfigured(entry, level, cpu)
    if bad is None:
        return None
    reason, mask = bad
    why = f"the {LEVEL_NAMES[level]} is misconfigured: {reason.value} (bits {mask:#x})"
    return Stop(Cause.MISCONFIGURED, level, why, mask)


@dataclass(frozen=True)
class Mapping(Generic[In, Out]):
    """An entry that ends a walk: a leaf, a misconfigured entry or a table we cannot read.

    `rights` is the AND of the entries on the path.  Not-present entries are not listed: they are
    the gaps between the mappings.
    """

    start: In
    size: int
    level: int
    place: Out  # physical address of the entry
    entry: EptEntry
    rights: EptEntry
    stop: Stop | None

    @property
    def address(self) -> Out:
        """Where `start` leads to, of a leaf."""
        return cast(Out, self.entry.page(self.level))


@dataclass
class Scan(Generic[In, Out]):
    """All mappings of an EPT in a range, in order.

    `limit` bounds the entries listed; a table reached twice on one path is a loop that the
    processor would follow, and that we name instead.  What was given up stands in `notes`.
    `references`: list the entries that reference a table, too, each before what is below it.
    """

    memory: PhysicalMemory[Out]
    eptp: Eptp
    cpu: Capabilities
    low: int = 0
    high: int = 1 << 57
    limit: int = 1 << 20
    table_limit: int = 1 << 16
    references: bool = False
    notes: list[str] = field(default_factory=list)
    tables: int = 0
    listed: int = 0
    gave_up: bool = False

    def mappings(self) -> Iterator[Mapping[In, Out]]:
        everything = EptEntry((1 << 64) - 1)
        root = cast(Out, self.eptp.address)
        yield from self._table(root, self.eptp.levels, 0, everything, ())

    def _table(
        self, table: Out, level: int, base: int, rights: EptEntry, path: tuple[int, ...]
    ) -> Iterator[Mapping[In, Out]]:
        size = page_size(level)
        first = max(0, (self.low - base) // size)
        last = min(ENTRIES - 1, (self.high - 1 - base) // size)
        if last < first:
            return
        start = cast(Out, table + first * ENTRY_SIZE)
        try:
            wanted = self.memory.read(start, (last - first + 1) * ENTRY_SIZE)
        except MemoryUnreadable as error:
            self.notes.append(f"table of {LEVEL_NAMES[level]}s for {base:#x}: {error}")
            return
        self.tables += 1
        if self.tables > self.table_limit:
            self._give_up(base, f"{self.table_limit} tables")
            return
        for number, word in enumerate(memoryview(wanted).cast("Q"), first):
            if word == 0:
                continue
            if self.gave_up:
                return
            if self.listed >= self.limit:
                self._give_up(base + number * size, f"{self.limit} entries")
                return
            entry = EptEntry(word)
            place = cast(Out, table + number * ENTRY_SIZE)
            yield from self._entry(
                entry, place, level, base + number * size, rights, (*path, table)
            )

    def _entry(
        self,
        entry: EptEntry,
        place: Out,
        level: int,
        start: int,
        rights: EptEntry,
        path: tuple[int, ...],
    ) -> Iterator[Mapping[In, Out]]:
        stop = judge(entry, level, self.cpu)
        if stop is not None and stop.cause is Cause.NOT_PRESENT:
            return
        rights = EptEntry(rights.value & entry.value)
        if stop is None and not entry.leaf_at(level):
            if self.references:
                self.listed += 1
                yield Mapping(cast(In, start), page_size(level), level, place, entry, rights, stop)
            if entry.address in path:
                self.notes.append(
                    f"the {LEVEL_NAMES[level]} for {start:#x} leads back to a table above it "
                    f"({entry.address:#x}): not followed"
                )
                return
            yield from self._table(cast(Out, entry.address), level - 1, start, rights, path)
            return
        self.listed += 1
        yield Mapping(cast(In, start), page_size(level), level, place, entry, rights, stop)

    def _give_up(self, where: int, after: str) -> None:
        self.gave_up = True
        self.notes.append(f"gave up at {where:#x} after {after}: ask for a smaller range")
