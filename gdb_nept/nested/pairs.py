# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of EPT12 and of EPT02 side by side, and what tells two pages apart for a verdict.

Where one of the two ends in a large page or in nothing, that end stands for the table below.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import cast

from gdb_nept.address import HostPhys, L1Phys, L2Phys
from gdb_nept.arch.ept import ADDRESS, ENTRIES, EptEntry, page_size
from gdb_nept.errors import MemberMissing, MemoryUnreadable, NeptError
from gdb_nept.kvm.memslots import Slot
from gdb_nept.kvm.shadow_page import (
    NotShadowPage,
    ShadowPage,
    leaf_stands_for,
    shadow_mmu_pages,
    shadow_page,
)
from gdb_nept.kvm.spte_format import spte_format
from gdb_nept.kvm.tracking import tracking
from gdb_nept.memory.reader import PAGE_SIZE, PhysicalMemory
from gdb_nept.nested.backing import Backing
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.derived import leads
from gdb_nept.nested.epts import Which, ept02_cpu, shadow_root
from gdb_nept.nested.identity import Expected, difference, without_dropped_root
from gdb_nept.nested.kinds import Kind, Kinds
from gdb_nept.nested.session import Session
from gdb_nept.nested.sides import End, Entry, Pair, Side, Table, leaf, part


class Pairs:
    """Raises NoGuest where L1 has no EPT12."""

    def __init__(self, session: Session, chosen: Chosen) -> None:
        self._kernel = session.kernel
        self._vm = chosen.owner.value
        ept12 = session.ept(chosen, Which.L1)
        self._l1 = cast("PhysicalMemory[L1Phys]", ept12.memory)
        self._eptp = ept12.eptp
        self._refused = bool(ept12.refusal)
        self._cpu = ept12.cpu
        self._kinds12 = self._kinds02 = Kinds(ept12.cpu)
        self._empty02 = 0
        self._backing = Backing(session, chosen)
        self._tables: set[int] | None = None
        self._led: tuple[tuple[int, int], tuple[L1Phys, int] | None] = (0, 0), None
        self._pages: dict[int, ShadowPage | NotShadowPage] = {}
        self._ept02 = self._root(session, chosen)
        self.reach = self._eptp.reach

    def _root(self, session: Session, chosen: Chosen) -> Side:
        """The root of EPT02 as the verdict of any address sees it."""
        whole = session.journey(chosen, L2Phys(0))
        if self._refused or without_dropped_root(whole).shadow is None:
            return End(None, None, ("no shadow",))
        root = shadow_root(self._kernel, chosen, self._eptp).eptp
        assert root is not None, "there is a walk of it"
        form = spte_format(self._kernel, self._vm)
        self._kinds02, self._empty02 = Kinds(ept02_cpu(self._cpu, form), form), form.empty
        if root.levels != self._eptp.levels:
            raise NeptError(
                f"EPT12 has {self._eptp.levels} levels and EPT02 {root.levels}: they cannot be "
                "compared in step",
                "nept-walk tells what is wrong with one address.",
            )
        return self._table02(root.address, (), self._eptp.levels, self._eptp.address, False)

    def top(self) -> Pair:
        return Pair(self._eptp.levels, 0, self._root12(), self._ept02)

    def _root12(self) -> Side:
        if self._refused:
            return End(None, None, ("refused",))
        return self._table12(self._eptp.address, ())

    # -- tables -----------------------------------------------------------------------------------

    def _table12(self, place: int, mark: tuple[object, ...]) -> Side:
        try:
            data = self._l1.read(L1Phys(place), PAGE_SIZE)
        except MemoryUnreadable as error:
            return End(None, None, (*mark, "unread", place, error.why), unread=True)
        return Table(place, memoryview(data).cast("Q"), mark)

    def _table02(
        self, place: int, mark: tuple[object, ...], level: int, stands_for: int | None, direct: bool
    ) -> Side:
        """`stands_for`: None where EPT12 has ended, and nothing is expected."""
        try:
            data = self._kernel.physical.read(HostPhys(place), PAGE_SIZE)
        except MemoryUnreadable as error:
            return End(None, None, (*mark, "unread", place, error.why))
        page = self._pages.get(place)
        if page is None:
            page = self._pages[place] = shadow_page(self._kernel, self._vm, HostPhys(place))
        told: object = None
        if isinstance(page, ShadowPage):
            fits = stands_for is None or not difference(page, Expected(level, stands_for, direct))
            told = (fits, page.role.word, page.unsync, page.obsolete)
        return Table(place, memoryview(data).cast("Q"), (*mark, told), page)

    # -- entries ----------------------------------------------------------------------------------

    def entries(self, pair: Pair, low: int, high: int) -> Iterator[Entry]:
        """From where it was left: (start, size, mark of the verdict, pair below or None)."""
        if pair.items is None:
            each = self._leaves if pair.level == 1 else self._upper
            size = page_size(pair.level)
            first = max(0, (low - pair.base) // size)
            end = min(ENTRIES, (high - pair.base + size - 1) // size)
            pair.items = each(pair, first, end)
        return pair.items

    def _upper(self, pair: Pair, first: int, end: int) -> Iterator[Entry]:
        size = page_size(pair.level)
        for index, count in self._groups(pair, first, end):
            base = pair.base + index * size
            ept12 = self._below12(pair, index)
            ept02 = self._below02(pair, index, ept12)
            if isinstance(ept12, End) and isinstance(ept02, End) and not _singly(ept12, ept02):
                derived = self._derived(ept12, ept02, ept02.kind, 0, base)
                yield base, count * size, (*self._nowhere(ept12, ept02), derived), None
            else:
                yield base, size, None, Pair(pair.level - 1, base, ept12, ept02)

    def _groups(self, pair: Pair, first: int, end: int) -> Iterator[tuple[int, int]]:
        """(index, how many entries): those that are empty on both sides come together."""
        ept12, ept02 = pair.ept12, pair.ept02
        if isinstance(ept12, End) and _singly(ept12, ept02):
            yield from ((index, 1) for index in range(first, end))
            return
        empty = self._empty02
        words12 = ept12.words[first:end] if isinstance(ept12, Table) else repeat(0)
        words02 = ept02.words[first:end] if isinstance(ept02, Table) else repeat(empty)
        both = zip(range(first, end), words12, words02)
        reached = first
        for index in [index for index, own, shadow in both if own or shadow != empty]:
            if index > reached:
                yield reached, index - reached
            yield index, 1
            reached = index + 1
        if end > reached:
            yield reached, end - reached

    def _below12(self, pair: Pair, index: int) -> Side:
        side, level = pair.ept12, pair.level
        if isinstance(side, End):
            return part(side, index * page_size(level))
        word = side.words[index]
        kind = self._kinds12(word, level)
        mark = (*side.mark, kind.mark)
        if kind.table:
            return self._table12(word & ADDRESS, mark)
        address = EptEntry(word).page(level) if kind.leads else None
        return End(kind, address, mark, size=page_size(level))

    def _below02(self, pair: Pair, index: int, ept12: Side) -> Side:
        side, level = pair.ept02, pair.level
        if isinstance(side, End):
            return part(side, index * page_size(level))
        word = side.words[index]
        kind = self._kinds02(word, level)
        mark = (*side.mark, kind.mark)
        if kind.table:
            direct = isinstance(ept12, End)
            stands_for = ept12.address if isinstance(ept12, End) else ept12.place
            return self._table02(word & ADDRESS, mark, level - 1, stands_for, direct)
        address = EptEntry(word).page(level) if kind.leads else None
        return End(kind, address, mark, side.page, index, page_size(level))

    def _nowhere(self, ept12: End, ept02: End) -> tuple[object, ...]:
        """EPT12 does not translate: its pages are all alike."""
        return (ept12.mark, ept02.mark, ept02.address is not None, self._mmio(ept02.kind, None))

    def _leaves(self, pair: Pair, first: int, end: int) -> Iterator[Entry]:
        ept12, ept02 = pair.ept12, pair.ept02
        start = count = 0
        last: object = None
        for index, more in self._groups(pair, first, end):
            kind12, page = leaf(ept12, self._kinds12, index)
            kind02, shadow = leaf(ept02, self._kinds02, index)
            told = self._told(page, shadow, kind12, kind02, ept02, index)
            derived = self._derived(ept12, ept02, kind02, index, pair.base + index * PAGE_SIZE)
            mark = kind12 and kind12.mark, kind02 and kind02.mark, told, derived
            if count and mark == last:
                count += more
                continue
            if count:
                yield start, count * PAGE_SIZE, (ept12.mark, ept02.mark, last), None
            start, count, last = pair.base + index * PAGE_SIZE, more, mark
        if count:
            yield start, count * PAGE_SIZE, (ept12.mark, ept02.mark, last), None

    # -- what tells pages apart -------------------------------------------------------------------

    def _told(
        self,
        page: int | None,
        shadow: int | None,
        kind12: Kind | None,
        kind02: Kind | None,
        ept02: Side,
        index: int,
    ) -> object:
        """Of the memslot, the host, EPT01, and KVM's notes."""
        mmio = self._mmio(kind02, page) if kind02 is not None and kind02.mmio else None
        if page is None:
            return shadow is not None, mmio
        backing = self._backing
        slot = backing.slot(page)
        if slot is None:
            return None, self._noted(ept02, index, page) if shadow is not None else None, mmio
        host = backing.host(slot, page)
        if host is None:
            through = backing.ept01(page)
            return slot.id, slot.start, None, shadow is None, through is None, mmio
        if shadow is None:
            fits = backing.ept01(page) in (None, host)
            return slot.id, slot.start, fits, mmio
        if shadow != host:
            return slot.id, slot.start, "other", self._noted(ept02, index, page)
        fits = backing.ept01(page) in (None, host)
        if kind02 is None or kind12 is None or kind02.write or not kind12.write:
            return slot.id, slot.start, "same", fits
        return slot.id, slot.start, "same", fits, self._withheld(slot, page)

    def _mmio(self, kind: Kind | None, page: int | None) -> object:
        """Which of KVM's MMIO entries this is: for this page, and of which generation."""
        if kind is None or kind.mmio is None:
            return None
        return kind.mmio[1], page is not None and kind.mmio[0] == page

    def _noted(self, ept02: Side, index: int, page: int) -> object:
        """Whether KVM notes this page for an entry that leads elsewhere; None if it notes none."""
        size, note = PAGE_SIZE, ept02.page
        if isinstance(ept02, End):
            index, size = ept02.at, ept02.size
        if not isinstance(note, ShadowPage):
            return None
        try:
            found = leaf_stands_for(note, index)
        except (MemoryUnreadable, MemberMissing):
            return None
        return None if found is None else found == page & ~(size - 1)

    def _derived(
        self, ept12: Side, ept02: Side, kind02: Kind | None, index: int, base: int
    ) -> object:
        """Of the L2 physical page `base`, for which EPT12 cannot be read: None where KVM's shadow
        does not tell of it (nested/derived.py), else whether both lead to one page of the host."""
        page = ept02.page
        if not (isinstance(ept12, End) and ept12.unread and isinstance(page, ShadowPage)):
            return None
        shadow = leaf(ept02, self._kinds02, index)[1]
        at, offset = index, 0
        if isinstance(ept02, End):
            at, offset = ept02.at, base & (ept02.size - 1)
        if kind02 is not None and kind02.mmio is not None and not page.direct:
            return "mmio", kind02.mmio[0]
        if shadow is None and not page.direct:
            return None
        if self._led[0] != (id(page), at):  # all pages of a large one have one note
            self._led = (id(page), at), leads(page, at)
        found = self._led[1]
        if found is None:
            return None
        l1 = found[0] + offset
        slot = self._backing.slot(l1)
        host = self._backing.host(slot, l1) if slot else None
        return "derived", None if None in (host, shadow) else host == shadow

    def _withheld(self, slot: Slot, page: int) -> object:
        """Why KVM might withhold a right to write."""
        if self._tables is None:
            found = shadow_mmu_pages(self._vm).pages
            self._tables = {one.gfn_address for one in found if not one.direct}
        try:
            tracked = tracking(slot, L1Phys(page)).write_tracked
        except (MemoryUnreadable, MemberMissing):
            tracked = None
        return bool(tracked), page in self._tables


def _singly(ept12: End, ept02: Side) -> bool:
    """Whether each page is looked at: EPT12 leads to it, or cannot be read where KVM's does."""
    if ept12.unread:
        return isinstance(ept02, End) and ept02.address is not None
    return ept12.address is not None
