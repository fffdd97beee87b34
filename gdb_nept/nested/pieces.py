# SPDX-License-Identifier: GPL-2.0-or-later
"""All of L1's or L2's physical memory in pieces, as it lies in the host: each table on the way is
read once, so that a whole memory can be copied.

Where nothing lies, or nobody can tell what does, is a Gap.  A page that the process which runs L1
has not mapped is a Gap as well: it may be untouched, or wait in a file or in swap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable, Union

from gdb_nept.address import HostPhys, HostVirt, L1Phys
from gdb_nept.arch.paging import Entry
from gdb_nept.errors import MemoryUnreadable, UnreadKind
from gdb_nept.kvm.vm import Vm
from gdb_nept.memory.budget import Budget
from gdb_nept.memory.guest import GuestMemory, Span
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.target.pagetable import TableStep, Translation
from gdb_nept.walk.runs import Unread

UNTOUCHED = "the PTE is 0 (not touched, or in a shared file that the process has not touched)"
CHUNK = 2 << 20  # what a table of pages maps
NO_SLOT = "no memslot"
NO_MAPPING = "misconfigured in EPT12"
NOT_LOOKED_AT = "not looked at"


@dataclass(frozen=True)
class Piece:
    """`size` bytes from `start` on lie at `host`."""

    start: int
    size: int
    host: HostPhys


@dataclass(frozen=True)
class Gap:
    """Of `size` bytes from `start` on nothing can be read.  `kind` in a word or two; `lost` if
    there is, or may be, memory that the target does not let us see."""

    start: int
    size: int
    kind: str
    why: str
    lost: bool

    @property
    def end(self) -> int:
        return self.start + self.size


Part = Union[Piece, Gap]
Parts = Callable[[Budget], Iterator[Part]]


def unread(start: int, size: int, kind: UnreadKind | None, why: str) -> Gap:
    told = kind or UnreadKind.UNREADABLE
    return Gap(start, size, told.value, why, told is not UnreadKind.NOT_MAPPED)


class L1Parts:
    """L1's memory: its memslots over the page tables of the process that runs it."""

    def __init__(self, session: Session, owner: Vm, memory: GuestMemory) -> None:
        self._session = session
        self._owner = owner
        self._memory = memory

    def all(self, budget: Budget) -> Iterator[Part]:
        """In order; slots that overlap count once."""
        for low, high in self._memory.extents():
            yield from self.between(L1Phys(low), L1Phys(high))

    def between(self, low: L1Phys, high: L1Phys) -> Iterator[Part]:
        """The memory from `low` up to `high`, in order."""
        place = low
        while place < high:
            span = next((one for one in self._memory.spans if place in one), None)
            if span is None:
                end = min((s.start for s in self._memory.spans if s.start > place), default=high)
                end = min(end, high)
                yield Gap(place, end - place, NO_SLOT, "no memslot holds it", lost=False)
            else:
                end = L1Phys(min(high, span.start + span.size))
                yield from self._within(span, place, end)
            place = end

    def _within(self, span: Span, low: L1Phys, high: L1Phys) -> Iterator[Part]:
        if span.why_not:
            yield Gap(low, high - low, NO_SLOT, span.why_not, lost=False)
            return
        place = low
        while place < high:
            virtual = HostVirt(span.host + (place - span.start))
            found = self._session.host_walk(self._owner, virtual)
            last = found.steps[-1] if found.steps else None
            reach = max(found.page_size, CHUNK if last and last.level == 1 else 0) or PAGE_SIZE
            end = min(high, place + reach - virtual % reach)
            if last is not None and last.level == 1:
                yield from self._pages(last, virtual, place, end - place)
            else:
                yield _part(place, end - place, found)
            place = L1Phys(end)

    def _pages(self, last: TableStep, virtual: int, start: int, size: int) -> Iterator[Part]:
        """What one table of the process's pages maps, from the entry of `last` on."""
        words = self._table(last)
        place = start
        while place < start + size:
            step = min(PAGE_SIZE - virtual % PAGE_SIZE, start + size - place)
            word = words[virtual // PAGE_SIZE % len(words)] if words else None
            if word == 0:
                yield unread(place, step, UnreadKind.NOT_MAPPED, UNTOUCHED)
            elif word is not None and word & Entry.present.mask:
                frame = word & Entry.address.mask
                yield Piece(place, step, HostPhys(frame + virtual % PAGE_SIZE))
            else:
                walked = self._session.host_walk(self._owner, HostVirt(virtual))
                yield _part(place, step, walked)
            place, virtual = place + step, virtual + step

    def _table(self, last: TableStep) -> Any:
        """Its 512 words; None where they are not the walk's (memory encryption)."""
        try:
            data = self._session.kernel.physical.read(last.table, PAGE_SIZE)
        except MemoryUnreadable:
            return None
        words = memoryview(data).cast("Q")
        return words if words[last.index] == last.entry.value else None


def _part(start: int, size: int, found: Translation) -> Part:
    if found.physical is not None:
        return Piece(start, size, found.physical)
    return unread(start, size, found.unread, found.why)


class L2Parts:
    """L2's memory: what EPT12 maps, whatever it lets L2 do there, over L1's.
    Raises NoGuest where L1 uses no EPT."""

    def __init__(self, session: Session, chosen: Chosen) -> None:
        self._session = session
        self._ept = session.ept(chosen, Which.L1)
        self._l1 = L1Parts(session, chosen.owner, session.l1_memory(chosen))

    def all(self, budget: Budget) -> Iterator[Part]:
        scan = self._session.scan(self._ept, 0, self._ept.eptp.reach)
        scan.budget = budget
        for run in scan.found():
            if isinstance(run, Unread):
                yield Gap(run.start, run.size, _kind(run), run.why, lost=True)
            elif run.stop is not None:
                yield Gap(run.start, run.size, NO_MAPPING, run.stop.why, lost=False)
            else:
                for part in self._l1.between(run.address, L1Phys(run.address + run.size)):
                    yield _moved(part, run.start - run.address)


def _kind(run: Unread) -> str:
    return NOT_LOOKED_AT if run.given_up else (run.kind or UnreadKind.UNREADABLE).value


def _moved(part: Part, by: int) -> Part:
    if isinstance(part, Piece):
        return Piece(part.start + by, part.size, part.host)
    return Gap(part.start + by, part.size, part.kind, part.why, part.lost)
