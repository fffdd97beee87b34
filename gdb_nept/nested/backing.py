# SPDX-License-Identifier: GPL-2.0-or-later
"""Where pages of L1's lie in the host and where EPT01 has them, asked by the million.

The same questions as nested/follow.py puts for one address, with each table read once.
"""

from __future__ import annotations

from typing import NamedTuple

from gdb_nept.address import HostPhys, HostVirt, L1Phys
from gdb_nept.arch.cpu import HOST
from gdb_nept.arch.ept import ADDRESS, Eptp
from gdb_nept.errors import MemberMissing, MemoryUnreadable, NoGuest
from gdb_nept.kvm.memslots import Slot
from gdb_nept.kvm.spte_format import SpteFormatUnknown, spte_format
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.kinds import Kinds
from gdb_nept.nested.session import Session
from gdb_nept.target.pagetable import Translation
from gdb_nept.walk.ept import walk_ept

PRESENT = 1
LARGE = 2 << 20
WITHIN = LARGE - 1


class Words(NamedTuple):
    """What lies in a stretch of 2 MiB: the words of a table of pages, or `base` of one larger
    page; neither if nothing does."""

    words: memoryview | None
    base: int | None


NOTHING = Words(None, None)


class Backing:
    """The memslots of a vCPU, the page tables of the process behind them, and EPT01."""

    def __init__(self, session: Session, chosen: Chosen) -> None:
        self._session = session
        self._chosen = chosen
        self.slots = session.slots(chosen)
        bounds = [(slot.start, slot.end) for slot in self.slots.slots]
        self._apart = all(below[1] <= above[0] for below, above in zip(bounds, bounds[1:]))
        self._last: Slot | None = None
        self._host: dict[int, Words] = {}
        self._ept01: dict[int, Words] = {}
        self._eptp01 = self._root_of_ept01()

    def _root_of_ept01(self) -> Eptp | None:
        try:
            eptp = self._session.ept(self._chosen, Which.HOST).eptp
            form = spte_format(self._session.kernel, self._chosen.owner.value)
        except (NoGuest, MemberMissing, SpteFormatUnknown):
            return None
        self._kinds = Kinds(HOST, form)
        return eptp

    def slot(self, page: int) -> Slot | None:
        """The memslot that holds the L1 physical `page`; None if none does."""
        last = self._last
        if last is not None and last.start <= page < last.end:
            return last
        found = self.slots.find(L1Phys(page))
        self._last = found if self._apart else None
        return found

    def host(self, slot: Slot, page: int) -> int | None:
        """The host's page behind `page`, which `slot` holds."""
        virtual = slot.userspace_addr + (page - slot.start)
        chunk = self._host.get(virtual >> 21)
        if chunk is None:
            chunk = self._host[virtual >> 21] = self._host_words(virtual & ~WITHIN, virtual)
        if chunk.words is not None:
            word = chunk.words[virtual >> 12 & 511]
            if word & PRESENT:
                return word & ADDRESS
        elif chunk.base is not None:
            return chunk.base + (virtual & WITHIN)
        return self._walked(virtual).physical

    def _walked(self, virtual: int) -> Translation:
        return self._session.host_walk(self._chosen.owner, HostVirt(virtual))

    def _host_words(self, start: int, virtual: int) -> Words:
        """NOTHING where each address has to be asked for by itself."""
        found = self._walked(virtual)
        last = found.steps[-1] if found.steps else None
        if last is None or found.physical is None or not last.entry.present:
            return self._table(last.table) if last and last.level == 1 else NOTHING
        if last.level == 1:
            table = self._table(last.table)
            same = table.words and table.words[last.index] & ADDRESS == found.physical & ~0xFFF
            return table if same else NOTHING
        return Words(None, found.physical - (virtual - start))

    def _table(self, place: HostPhys) -> Words:
        try:
            data = self._session.kernel.physical.read(place, PAGE_SIZE)
        except MemoryUnreadable:
            return NOTHING
        return Words(memoryview(data).cast("Q"), None)

    def ept01(self, page: int) -> int | None:
        """Where EPT01 leads; an access-tracked entry too."""
        if self._eptp01 is None:
            return None
        chunk = self._ept01.get(page >> 21)
        if chunk is None:
            chunk = self._ept01[page >> 21] = self._ept01_words(self._eptp01, page)
        if chunk.words is not None:
            word = chunk.words[page >> 12 & 511]
            return word & ADDRESS if self._kinds(word, 1).leads else None
        return None if chunk.base is None else chunk.base + (page & WITHIN)

    def _ept01_words(self, eptp: Eptp, page: int) -> Words:
        walk = walk_ept(self._session.kernel.physical, eptp, L1Phys(page), HOST)
        if not walk.steps:
            return NOTHING
        last = walk.steps[-1]
        if last.level == 1:
            return self._table(last.table)
        if not self._kinds(last.entry.value, last.level).leads:
            return NOTHING
        return Words(None, last.entry.page(last.level) + (page & (walk.size - 1) & ~WITHIN))
