# SPDX-License-Identifier: GPL-2.0-or-later
"""All that an EPT maps, in order, read a table at a time.

What is looked at is charged to a budget before it is read: tables that lead back to themselves, or
that hold nothing, cost as much as any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, NamedTuple, cast

from gdb_nept.address import In, Out
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import ADDRESS, ENTRIES, ENTRY_SIZE, LEVEL_NAMES, EptEntry, Eptp, page_size
from gdb_nept.errors import MemoryUnreadable, NoMemory
from gdb_nept.memory.budget import Budget, shared
from gdb_nept.memory.reader import PAGE_SIZE, PhysicalMemory
from gdb_nept.walk.ept import judge, unwalkable
from gdb_nept.walk.result import Cause, Stop
from gdb_nept.walk.runs import SAME, Found, Run, Unread

ACCESSED, DIRTY = EptEntry.accessed.low, EptEntry.dirty.low
EMPTY_PAGE = bytes(PAGE_SIZE)
MOST_KINDS = 4096
ALL = (1 << 64) - 1


class _Table(NamedTuple):
    """A table on the way, and what is left of its entries."""

    place: int
    level: int
    base: int
    path: int
    entries: Iterator[tuple[int, int]]


@dataclass
class Scan(Generic[In, Out]):
    """All that an EPT maps in a range.

    A table reached twice on one path is a loop that the processor would follow, and that we name
    instead.  `incomplete` is the first address that was not looked at, once the budget is spent.
    `references`: list the entries that reference a table, too, each before what is below it.
    """

    memory: PhysicalMemory[Out]
    eptp: Eptp
    cpu: Capabilities
    low: int = 0
    high: int = 1 << 57
    budget: Budget = field(default_factory=shared)
    references: bool = False
    incomplete: int | None = None

    def __post_init__(self) -> None:
        self._judged: dict[int, dict[int, Stop | None]] = {level: {} for level in LEVEL_NAMES}
        # the bits of the address of a page of each level (1: of a table, too)
        within = ADDRESS & ((1 << self.cpu.maxphyaddr) - 1)
        self._free = {level: within & -page_size(level) for level in LEVEL_NAMES}

    def found(self) -> Iterator[Found[In, Out]]:
        """With neighbours as one, and with what could not be read."""
        last: Run[In, Out] | None = None
        for batch in self._batches(merged=True):
            first = batch[0]
            if last is not None and not isinstance(first, Unread) and last.followed_by(first):
                batch[0] = last.joined_with(first)
            elif last is not None:
                yield last
            end = batch.pop()
            yield from batch
            last = None
            if isinstance(end, Unread):
                yield end
            else:
                last = end
        if last is not None:
            yield last

    def entries(self) -> Iterator[Found[In, Out]]:
        """Each entry by itself, and what could not be read."""
        return chain.from_iterable(self._batches(merged=False))

    def mappings(self) -> Iterator[Run[In, Out]]:
        """Each entry by itself."""
        return (one for one in self.entries() if not isinstance(one, Unread))

    def _batches(self, merged: bool) -> Iterator[list[Found[In, Out]]]:
        """What is found, in order: lists that are not empty, the pages of one table together.
        Within one the neighbours are one, if `merged`."""
        path: list[_Table] = []
        if stop := unwalkable(self.eptp):
            yield [Unread(self.low, self.high, stop.why)]
            return
        root = self._opened(self.eptp.address, self.eptp.levels, 0, ALL)
        if isinstance(root, Unread):
            yield [root]
        elif root is not None:
            path.append(root)
        while path and self.incomplete is None:
            if path[-1].level == 1:
                pages = self._pages(path.pop(), merged)
                if pages:
                    yield pages
            else:
                yield from ([one] for one in self._references(path))

    def _opened(self, place: int, level: int, base: int, path: int) -> _Table | Unread | None:
        """The table at `place` with its entries of the range; None if there is nothing in it."""
        size = page_size(level)
        first = max(0, (self.low - base) // size)
        last = min(ENTRIES - 1, (self.high - 1 - base) // size)
        if last < first:
            return None
        low, high = max(base, self.low), min(base + ENTRIES * size, self.high)
        if not self.budget.take(last - first + 1):
            self.incomplete = low
            return Unread(low, self.high, f"not looked at: {self.budget.spent}", given_up=True)
        start = cast(Out, place + first * ENTRY_SIZE)
        try:
            data = self.memory.read(start, (last - first + 1) * ENTRY_SIZE)
        except NoMemory as error:
            why = f"the table of {LEVEL_NAMES[level]}s at {place:#x} cannot be there: {error.why}"
            return Unread(low, high, why)
        except MemoryUnreadable as error:
            why = f"table of {LEVEL_NAMES[level]}s: {error.message}"
            return Unread(low, high, why, kind=error.kind)
        if data == EMPTY_PAGE:
            return None
        words = cast("Sequence[int]", memoryview(data).cast("Q"))
        return _Table(place, level, base, path, iter(enumerate(words, first)))

    def _references(self, path: list[_Table]) -> Iterator[Found[In, Out]]:
        """Goes on in the last table of `path`, up to the next table below it, or to its end."""
        table = path[-1]
        level, size = table.level, page_size(table.level)
        for number, word in table.entries:
            if not word:
                continue
            stop = self._stop(word, level)
            if stop is not None and stop.cause is Cause.NOT_PRESENT:
                continue
            start, place = table.base + number * size, table.place + number * ENTRY_SIZE
            entry, rights = EptEntry(word), table.path & word
            leaf = stop is not None or entry.leaf_at(level)
            if leaf or self.references:
                used = (word >> ACCESSED & 1, word >> DIRTY & 1)
                yield Run(start, level, place, word, rights, 1, *used, stop)
            if leaf:
                continue
            below = self._below(entry, level, start, rights, path)
            if isinstance(below, Unread):
                yield below
            elif below is not None:
                path.append(below)
                return
            if self.incomplete is not None:
                return
        path.pop()

    def _below(
        self, entry: EptEntry, level: int, start: int, rights: int, path: list[_Table]
    ) -> _Table | Unread | None:
        if any(above.place == entry.address for above in path):
            why = f"the {LEVEL_NAMES[level]} leads back to a table above it ({entry.address:#x})"
            return Unread(start, start + page_size(level), f"{why}: not followed")
        return self._opened(entry.address, level - 1, start, rights)

    def _pages(self, table: _Table, merged: bool) -> list[Found[In, Out]]:
        """The leaves of a table of PTEs: most of what there is, so that no step is taken for an
        entry but those that tell it from its neighbour."""
        base, place, path, present = table.base, table.place, table.path, self._present
        judged, kinds = self._judged[1], ~self._free[1]
        found: list[Found[In, Out]] = []
        lead = first = last = count = accessed = dirty = looked_at = step = 0
        following, stop = -1, None

        def ended() -> None:
            at, where = base + first * PAGE_SIZE, place + first * ENTRY_SIZE
            found.append(Run(at, 1, where, lead, path & lead, count, accessed, dirty, stop))

        for number, word in table.entries:
            if not word & present:
                continue
            if merged and word & looked_at == following and number == last + 1:
                last, count = number, count + 1
                accessed += word >> ACCESSED & 1
                dirty += word >> DIRTY & 1
                following += step
                continue
            if count:
                ended()
            first = last = number
            lead, count = word, 1
            accessed, dirty = word >> ACCESSED & 1, word >> DIRTY & 1
            kind = word & kinds
            stop = judged[kind] if kind in judged else self._stop(word, 1)
            step, looked_at = (PAGE_SIZE, SAME | ADDRESS) if stop is None else (0, SAME)
            following = (word & looked_at) + step
        if count:
            ended()
        return found

    @property
    def _present(self) -> int:
        """The bits of which any makes an entry present."""
        rights = EptEntry.read.mask | EptEntry.write.mask | EptEntry.execute.mask
        return rights | (EptEntry.user_execute.mask if self.cpu.mbec else 0)

    def _stop(self, word: int, level: int) -> Stop | None:
        """judge(), asked once for each of the few kinds of entries that there are."""
        large = level > 1 and word & EptEntry.large.mask
        judged, kind = self._judged[level], word & ~self._free[level if large else 1]
        if kind not in judged:
            if len(judged) >= MOST_KINDS:
                judged.clear()
            judged[kind] = judge(EptEntry(word), level, self.cpu)
        return judged[kind]
