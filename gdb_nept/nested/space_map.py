# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest-physical space of an L2 as a map: what EPT12 and EPT02 make of each stretch.

Both EPTs are read once, in step.  A stretch is as long as nothing on it changes: the rights, memory
type and leaf size of EPT12, the rights of EPT02, and the memslot that EPT12 leads to.  Where there
are more stretches than a picture can hold, neighbours become one that says that it is of several.
Where EPT12 cannot be read, what KVM's shadow tells of it stands in for it (derived_rows.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Optional

from gdb_nept.address import L1Phys
from gdb_nept.arch.ept import MEMORY_TYPES, RIGHTS
from gdb_nept.errors import MemoryUnreadable, NeptError
from gdb_nept.kvm.memslots import MemSlots
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.derived_rows import DerivedRun, with_derived
from gdb_nept.nested.epts import Which
from gdb_nept.nested.journey import Hop
from gdb_nept.nested.session import Session
from gdb_nept.walk.runs import Hole, Run, Unread, with_holes

PAGE = 4096
MOST_REGIONS = 12
MOST_NOTES = 8  # on tables of EPT02 that cannot be read
END = 1 << 60  # behind all memslots
MOST = 160_000  # stretches that are told apart


class Ept12(NamedTuple):
    """`rights` in bits 2:0; `wrong` is why the entries are misconfigured, `unread` why they cannot
    be read; of a hole all is empty.  `derived`: from KVM's shadow, and `rights` are those that L1
    grants at least."""

    rights: int = 0
    memory_type: str = ""
    page_size: int = 0
    wrong: str = ""
    unread: str = ""
    slot: int | None = None  # None: it leads to no memslot
    mapped: bool = False
    derived: bool = False

    @property
    def how(self) -> Hop:
        """How it is known."""
        if self.derived:
            return Hop.DERIVED
        return Hop.MISSING if self.unread else Hop.READ


class Stretch(NamedTuple):
    """`start` up to `end`, L2 physical; `l1` is where it leads; `ept02` the rights there, None
    where EPT02 has nothing, or cannot be read (`ept02_unread`).  `several`: of this many unlike
    stretches, the largest tells."""

    start: int
    end: int
    ept12: Ept12
    l1: int | None
    ept02: int | None
    several: int = 1
    ept02_unread: bool = False

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class SpaceMap:
    vm: int
    vcpu: int
    stretches: tuple[Stretch, ...]  # without holes
    complete: bool
    notes: tuple[str, ...]

    @property
    def regions(self) -> tuple[tuple[int, int], ...]:
        """Where there is anything, (low, high): parted at the widest holes, each of which would
        leave no room for what is mapped.  Where something is derived, what is missing is as a
        hole: it is most of the space."""
        derived = any(one.ept12.derived for one in self.stretches)
        shown = self.stretches
        if derived:
            shown = tuple(one for one in shown if one.ept12.how is not Hop.MISSING)
        if not shown:
            return ()
        pairs = zip(shown, shown[1:])
        holes = [(other.start - one.end, one.end, other.start) for one, other in pairs]
        mapped = sum(one.size for one in shown)
        wide = [hole for hole in holes if hole[0] > mapped // 64]
        cuts = sorted(hole[1:] for hole in sorted(wide, reverse=True)[: MOST_REGIONS - 1])
        lows = [shown[0].start, *(start for _, start in cuts)]
        highs = [*(end for end, _ in cuts), shown[-1].end]
        return tuple(zip(lows, highs))

    def coarse(self, most: int) -> SpaceMap:
        """Of at most about `most` stretches."""
        grain, found = PAGE, self.stretches
        while len(found) > most:
            grain *= 2
            found = tuple(_joined(found, grain))
        return replace(self, stretches=found)


def space_map(session: Session, chosen: Chosen, low: int = 0, high: int | None = None) -> SpaceMap:
    """Raises NoGuest where L1 uses no EPT."""
    notes: list[str] = []
    ept12 = session.ept(chosen, Which.L1)
    end = ept12.eptp.reach if high is None else min(high, ept12.eptp.reach)
    notes += ept12.caveats
    scan = session.scan(ept12, low, end)
    rows = with_holes(scan.found(), low, end)
    own = with_derived(session, chosen, ept12.eptp, rows, scan.budget)
    shadow: Iterable[object] = ()
    try:
        shadow = session.scan(session.ept(chosen, Which.SHADOW), low, end).found()
    except NeptError as error:
        if isinstance(error, MemoryUnreadable):
            shadow = (Unread(low, end, error.message),)
        else:
            notes.append(f"EPT02: {error.message}")
    slots = session.slots(chosen)
    complete = True
    found: list[Stretch] = []
    grain = PAGE
    lost: list[Unread] = []
    for one in _merged(_own(own, slots), _rights(shadow, lost)):
        complete = complete and "not looked at" not in one.ept12.unread
        found.append(one)
        while len(found) > MOST:  # of a space of millions no more is kept at a time
            grain *= 2
            found = list(_joined(found, grain))
    complete = complete and not any(row.given_up for row in lost)
    notes += [f"EPT02 from {row.start:#x} on: {row.why}" for row in lost[:MOST_NOTES]]
    return SpaceMap(chosen.vm, chosen.place, tuple(found), complete, tuple(notes))


def _own(rows: Iterable[object], slots: MemSlots) -> Iterator[Stretch]:
    """EPT12's, cut where another memslot begins."""
    for row in rows:
        if isinstance(row, Hole):
            yield Stretch(row.start, row.end, Ept12(), None, None)
        elif isinstance(row, Unread):
            yield Stretch(row.start, row.end, Ept12(unread=row.why), None, None)
        elif isinstance(row, DerivedRun):
            rights = row.rights.value & RIGHTS
            kind = Ept12(rights, page_size=row.page_size, unread=row.why, derived=True)
            yield from _cut(Stretch(row.start, row.end, kind, row.address, None), slots)
        elif isinstance(row, Run):
            kind = Ept12(
                row.path & RIGHTS,
                MEMORY_TYPES.get(row.entry.memory_type, f"type {row.entry.memory_type}"),
                row.page_size,
                row.stop.why if row.stop else "",
                mapped=row.stop is None,
            )
            if row.stop is not None:
                yield Stretch(row.at, row.end, kind, None, None)
            else:
                yield from _cut(Stretch(row.at, row.end, kind, row.address, None), slots)


def _cut(one: Stretch, slots: MemSlots) -> Iterator[Stretch]:
    place = one.start
    while place < one.end:
        l1 = (one.l1 or 0) + (place - one.start)
        slot = slots.find(L1Phys(l1))
        if slot is not None:
            stop = int(slot.end)
        else:
            stop = min((int(each.start) for each in slots.slots if each.start > l1), default=END)
        end = min(one.end, place + (stop - l1))
        kind = one.ept12._replace(slot=slot.id if slot else None)
        yield Stretch(place, end, kind, l1, None)
        place = end


Shadow = tuple[int, int, Optional[int]]  # from, to, rights: None where nobody can tell


def _rights(rows: Iterable[object], lost: list[Unread]) -> Iterator[Shadow]:
    """What cannot be read goes to `lost`, too."""
    for row in rows:
        if isinstance(row, Run) and row.stop is None:
            yield row.at, row.end, row.path & RIGHTS
        elif isinstance(row, Unread):
            lost.append(row)
            yield row.start, row.end, None


def _merged(own: Iterable[Stretch], shadow: Iterator[Shadow]) -> Iterator[Stretch]:
    """EPT12's stretches cut by EPT02's, neighbours that are alike as one, and no holes of both."""
    last: Stretch | None = None
    there = next(shadow, None)
    for one in own:
        place = one.start
        while place < one.end:
            while there is not None and there[1] <= place:
                there = next(shadow, None)
            rights, unread, end = None, False, one.end
            if there is not None:
                start, stop, granted = there
                if start <= place:
                    rights, unread = granted, granted is None and one.ept12 != Ept12()
                end = min(end, stop if start <= place else start)
            l1 = None if one.l1 is None else one.l1 + (place - one.start)
            piece = Stretch(place, end, one.ept12, l1, rights, ept02_unread=unread)
            place = end
            if last is not None and _alike(last, piece):
                last = last._replace(end=piece.end)
                continue
            if last is not None and _told(last):
                yield last
            last = piece
    if last is not None and _told(last):
        yield last


def _alike(one: Stretch, other: Stretch) -> bool:
    """Where they lead to has no part in it: a picture shows what, and not where."""
    ept02 = (one.ept02, one.ept02_unread) == (other.ept02, other.ept02_unread)
    return one.end == other.start and one.ept12 == other.ept12 and ept02


def _told(one: Stretch) -> bool:
    return one.ept12 != Ept12() or one.ept02 is not None


def _joined(found: Iterable[Stretch], grain: int) -> Iterator[Stretch]:
    group: list[Stretch] = []
    for one in found:
        if group and one.start // grain != group[0].start // grain:
            yield _as_one(group)
            group = []
        group.append(one)
    if group:
        yield _as_one(group)


def _as_one(group: list[Stretch]) -> Stretch:
    if len(group) == 1:
        return group[0]
    largest = max(group, key=lambda one: one.size)
    count = sum(one.several for one in group)
    return largest._replace(start=group[0].start, end=group[-1].end, several=count)
