# SPDX-License-Identifier: GPL-2.0-or-later
"""EPT12 row by row as KVM's shadow tells of it, where EPT12 itself cannot be read.

EPT02 is walked from the root that shadows this EPTP.  FNAME(fetch)() of paging_tmpl.h gives a leaf
of a shadowed table (kvm_mmu_page.role.direct 0) for a leaf of EPT12's at that level and index, and
a direct page for a large page of EPT12's that the host has in smaller ones: that page is known as
a whole by it.  An MMIO entry keeps the L1 physical page whose accesses KVM emulates.  What KVM has
not shadowed stays unread: L2 has not touched it, or KVM dropped its entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from struct import unpack

from gdb_nept.address import HostPhys, L1Phys
from gdb_nept.arch.ept import ENTRIES, ENTRY_SIZE, EptEntry, Eptp, page_size
from gdb_nept.errors import MemberMissing, MemoryUnreadable, UnreadKind
from gdb_nept.kvm.shadow_page import ShadowPage, shadow_page
from gdb_nept.kvm.spte import Spte, SpteKind, decode_spte
from gdb_nept.kvm.spte_format import SpteFormatUnknown, spte_format
from gdb_nept.memory.budget import Budget
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.derived import doubt_of, leads, noted_rights
from gdb_nept.nested.epts import shadow_root
from gdb_nept.nested.session import Session
from gdb_nept.walk.runs import Hole, Run, Unread


@dataclass(frozen=True)
class DerivedRun:
    """Leaves of EPT12 side by side that nobody could read (`why`, `kind`), by KVM's shadow of them:
    from `start` up to `end` they lead to the stretch from `address` on.  `page_size` is that of
    EPT12's entries, `place` where the first of them lies, `rights` what L1 grants at least; `doubt`
    is why all that may be old."""

    start: int
    end: int
    page_size: int
    address: L1Phys
    place: L1Phys
    rights: EptEntry
    doubt: str
    why: str
    kind: UnreadKind | None

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def count(self) -> int:
        """Of EPT12's entries."""
        return -(-self.end // self.page_size) - self.start // self.page_size

    def followed_by(self, other: DerivedRun) -> bool:
        """Whether both are one run."""
        mine = (self.end, self.page_size, self.address + self.size, self.rights, self.doubt)
        return mine == (other.start, other.page_size, other.address, other.rights, other.doubt)


def with_derived(
    session: Session,
    chosen: Chosen,
    eptp: Eptp,
    rows: Iterable[Run[int, int] | Hole | Unread],
    budget: Budget,
    merged: bool = True,
) -> Iterator[Run[int, int] | Hole | Unread | DerivedRun]:
    """The same rows of EPT12; of what could not be read, what KVM's shadow tells, in order."""
    for row in rows:
        if not isinstance(row, Unread) or row.kind is None or row.given_up:
            yield row
            continue
        found = _Shadow(session, chosen, row, budget).leaves(eptp)
        yield from _filled(row, _merged(found) if merged else found)


def _merged(found: Iterable[DerivedRun | Unread]) -> Iterator[DerivedRun | Unread]:
    last: DerivedRun | Unread | None = None
    for one in found:
        if isinstance(last, DerivedRun) and isinstance(one, DerivedRun) and last.followed_by(one):
            last = replace(last, end=one.end)
            continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last


def _filled(row: Unread, found: Iterable[DerivedRun | Unread]) -> Iterator[DerivedRun | Unread]:
    """With what is still unread between."""
    reached = row.start
    for one in found:
        if one.start > reached:
            yield replace(row, start=reached, end=one.start)
        yield one
        reached = one.end
    if reached < row.end:
        yield replace(row, start=reached)


@dataclass
class _Table:
    """A shadowed table on the way, and what is left of its entries."""

    page: ShadowPage
    base: int
    entries: Iterator[tuple[int, int]]


class _Shadow:
    """The walk of EPT02 for one stretch of EPT12 that could not be read."""

    def __init__(self, session: Session, chosen: Chosen, row: Unread, budget: Budget) -> None:
        self.kernel = session.kernel
        self.chosen = chosen
        self.row = row
        self.budget = budget
        self.path: list[_Table] = []

    def leaves(self, eptp: Eptp) -> Iterator[DerivedRun | Unread]:
        """Each leaf of EPT12 that KVM has shadowed; nothing where this kernel keeps no shadow that
        we know."""
        try:
            root = shadow_root(self.kernel, self.chosen, eptp)
            self.form = spte_format(self.kernel, self.chosen.owner.value)
        except (MemberMissing, SpteFormatUnknown):
            return
        if root.eptp is not None:
            yield from self._below(root.eptp.address, root.eptp.levels, 0)
        while self.path:
            table = self.path[-1]
            for index, word in table.entries:
                if word and (found := list(self._entry(table, index, word))):
                    yield from found
                if not self.path or self.path[-1] is not table:
                    break
            else:
                self.path.pop()

    def _below(self, place: int, level: int, base: int) -> Iterator[Unread]:
        """Goes on in the table at `place`, if KVM has it shadow one of L1's."""
        page = self._page(place)
        if page is None or page.direct or page.level != level:
            return
        size = page_size(level)
        first = max(0, (self.row.start - base) // size)
        last = min(ENTRIES - 1, (self.row.end - 1 - base) // size)
        if last < first:
            return
        if not self.budget.take(last - first + 1):
            low = max(base, self.row.start)
            why = f"not looked at: {self.budget.spent}"
            yield Unread(low, self.row.end, why, given_up=True)
            self.path.clear()
            return
        try:
            data = self.kernel.physical.read(HostPhys(place), PAGE_SIZE)
        except MemoryUnreadable:
            return
        words = unpack(f"<{ENTRIES}Q", data)[first : last + 1]
        self.path.append(_Table(page, base, iter(enumerate(words, first))))

    def _page(self, place: int) -> ShadowPage | None:
        found = shadow_page(self.kernel, self.chosen.owner.value, HostPhys(place))
        return found if isinstance(found, ShadowPage) else None

    def _entry(self, table: _Table, index: int, word: int) -> Iterator[DerivedRun | Unread]:
        page = table.page
        spte = decode_spte(word, page.level, self.form)
        start = table.base + index * page_size(page.level)
        if spte.mmio is not None:
            yield self._run(table, index, spte.mmio.address, 0)
        elif spte.leaf:
            yield from self._leaf(table, index, spte)
        elif spte.kind is SpteKind.TABLE and spte.address is not None:
            child = self._page(spte.address)
            if child is not None and child.direct:
                yield self._run(table, index, child.gfn_address, noted_rights(child, None), child)
            elif child is not None:
                yield from self._below(spte.address, page.level - 1, start)

    def _leaf(self, table: _Table, index: int, spte: Spte) -> Iterator[DerivedRun]:
        found = leads(table.page, index)
        if found is not None:
            yield self._run(table, index, found[0], found[1] | _granted(spte))

    def _run(
        self, table: _Table, index: int, address: int, rights: int, *below: ShadowPage
    ) -> DerivedRun:
        size = page_size(table.page.level)
        base = table.base + index * size
        start, end = max(base, self.row.start), min(base + size, self.row.end)
        pages = [*(one.page for one in self.path), *below]
        return DerivedRun(
            start=start,
            end=end,
            page_size=size,
            address=L1Phys((address & -size) + start - base),
            place=L1Phys(table.page.gfn_address + index * ENTRY_SIZE),
            rights=EptEntry(rights),
            doubt=doubt_of(pages),
            why=self.row.why,
            kind=self.row.kind,
        )


def _granted(spte: Spte) -> int:
    """Its rights as bits of an EPT entry."""
    flags = (
        (EptEntry.read, spte.read),
        (EptEntry.write, spte.write),
        (EptEntry.execute, spte.execute),
        (EptEntry.user_execute, spte.user_execute),
    )
    return sum(field.mask for field, given in flags if given)
