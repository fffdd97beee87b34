# SPDX-License-Identifier: GPL-2.0-or-later
"""The accesses that can have caused an exit at a given place.

vmcs12 says where L2's access went (guest-physical and guest-linear address) and what KVM made of
it (reason and qualification), but not what the access was.  Here is every kind of access to that
place, with no look at what KVM made of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.arch.exits import EptViolation
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.judge.ground import Ground
from gdb_nept.kvm.vmcs12 import Field, Vmcs12
from gdb_nept.memory.reader import PAGE_MASK, PhysicalMemory
from gdb_nept.predict.access import Access, Op, Stage
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.guest_paging import GuestPaging, Reference
from gdb_nept.walk.paging import LinearWalk, walk_linear
from gdb_nept.walk.result import Walk

PLACE_FIELDS = ("guest_physical_address", "guest_linear_address", "guest_rip")
NOT_TOLD = L2Virt(0)  # for a model, which only says whether it leaves the field defined


@dataclass(frozen=True)
class Place:
    """Where the access went, as vmcs12 says; the fields with how far each can be trusted.

    Before KVM has written vmcs12, `gla` is None and there are no fields."""

    gpa: L2Phys
    gla: L2Virt | None
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What the processor reported of an access when it left L2 for L0: the kind of it and what the
    address was to it, bits 2:0 and 8:7 of its own qualification.  Its other bits are about EPT02:
    a model takes of `raw`, all of them, only what KVM passes on to L1 unread."""

    op: Op
    stage: Stage
    raw: int | None = field(default=None, compare=False)

    def at(self, gpa: L2Phys) -> Access:
        return Access(gpa, self.op, stage=self.stage, raw=self.raw)


class Lead(Enum):
    """What the guest-physical address is to the guest-linear one, by L2's own page tables."""

    TRANSLATION = "the guest-linear address translates to the guest-physical one"
    ENTRY = "the guest-physical address is an entry used to translate the guest-linear one"
    SAME_PAGE = "the guest-linear address translates to another place in that page"
    ENTRY_PAGE = "the guest-linear address is translated by an entry at another place in that page"
    ELSEWHERE = "L2's page tables do not lead from the guest-linear address there"
    UNKNOWN = "L2's page tables cannot be followed"


STAGES = {Lead.TRANSLATION: Stage.FINAL, Lead.SAME_PAGE: Stage.FINAL, Lead.ENTRY: Stage.WALK}


@dataclass(frozen=True)
class Link:
    """`user`, `writable`, `execute_disable`: of L2's entries, None where not known."""

    lead: Lead
    why: str = ""
    user: bool | None = None
    writable: bool | None = None
    execute_disable: bool | None = None

    @property
    def stage(self) -> Stage | None:
        """What the access was, if the guest-linear address belongs to it."""
        return STAGES.get(self.lead)


UNLINKED = Link(Lead.UNKNOWN, "(the guest-linear address is not told yet)")


def place_of(vmcs12: Vmcs12) -> Place:
    """Reads PLACE_FIELDS alone.  Raises NoGuest for a vmcs12 without them."""
    gpa, gla, rip = (vmcs12.field(name) for name in PLACE_FIELDS)
    return Place(L2Phys(gpa.value), L2Virt(gla.value), (gpa, gla, rip))


def candidates(
    place: Place,
    link: Link,
    seen: Seen | None = None,
    pae: bool | None = None,
    by_emulator: tuple[bool, ...] = (False, True),
) -> Iterator[Access]:
    """Every kind of access to `place`, the likeliest first: made by the processor, and at the
    stage that L2's page tables tell.  If the processor's access was seen, it alone is the
    processor's; L0's emulator may still have made another for it.  `by_emulator`: those of the
    processor, of the emulator, or of both.  PDPTE registers are loaded for
    an L2 with PAE paging alone (SDM vol. 3, June 2026, 5.4.1)."""
    stages = sorted((Stage.FINAL, Stage.WALK), key=lambda stage: stage is not link.stage)
    users = (False, True) if link.user is None else (link.user,)
    kinds = [(op, stage) for stage in stages for op in OPS[stage]]
    for emulated in by_emulator:
        for op, stage in [(seen.op, seen.stage)] if seen and not emulated else kinds:
            for user in users:
                raw = seen.raw if seen and not emulated else None
                yield _candidate(place, link, op, stage, user, emulated, raw)
    if not seen and pae is not False and False in by_emulator:
        yield _candidate(place, link, Op.READ, Stage.PDPTE, False, False)


OPS = {Stage.FINAL: tuple(Op), Stage.WALK: (Op.READ, Op.RMW)}


def seen_by(qualification: int) -> Seen:
    """The access that the processor's own qualification of an EPT violation tells of (SDM vol. 3,
    table 30-7).  A read-modify-write may be reported as a write, which fails alike."""
    op, stage = _reported(EptViolation(qualification))
    return Seen(op, stage, qualification)


def _reported(told: EptViolation) -> tuple[Op, Stage]:
    if not told.linear_valid:
        return Op.READ, Stage.PDPTE
    if not told.translated:
        return Op.RMW if told.write else Op.READ, Stage.WALK
    if told.fetch:
        return Op.FETCH, Stage.FINAL
    if told.write:
        return Op.RMW if told.read else Op.WRITE, Stage.FINAL
    return Op.READ, Stage.FINAL


def _candidate(
    place: Place,
    link: Link,
    op: Op,
    stage: Stage,
    user: bool,
    emulated: bool,
    raw: int | None = None,
) -> Access:
    final = stage is Stage.FINAL
    return Access(
        place.gpa,
        op,
        user,
        stage,
        NOT_TOLD if place.gla is None else place.gla,
        linear_writable=link.writable if final else None,
        linear_execute_disable=link.execute_disable if final else None,
        emulated=emulated,
        raw=raw,
    )


# -- from the guest-linear address to the guest-physical one ------------------------------------


def link_of(base: Ground, place: Place, paging: GuestPaging, doubt: str = "") -> Link:
    """Follow L2's page tables, through EPT12 whatever its rights, from the one to the other.  With
    a `doubt` about the registers, that they lead elsewhere says nothing."""
    found = _followed(base, place, paging)
    if doubt and found.lead in (Lead.ELSEWHERE, Lead.ENTRY_PAGE):
        return Link(Lead.UNKNOWN, f"{found.why}, by registers that may be old: {doubt}")
    return found


def _followed(base: Ground, place: Place, paging: GuestPaging) -> Link:
    if place.gla is None:
        return UNLINKED
    # a supervisor's read with SMAP lifted: L2's rights have no say in where an address leads
    walker = walk_linear(replace(paging, ac=True), Reference(place.gla, write=False))
    page = None
    try:
        wanted = next(walker)
        while True:
            if wanted.gpa == place.gpa:
                return Link(Lead.ENTRY, f"(level {wanted.level})")
            if (wanted.gpa ^ place.gpa) <= PAGE_MASK:
                page = Link(Lead.ENTRY_PAGE, f"({wanted.gpa:#x}, level {wanted.level})")
            if wanted.update:
                wanted = walker.send(0)  # reading is all that we do
                continue
            there: Walk[L2Phys, L1Phys] = walk_ept(base.memory, base.eptp, wanted.gpa, base.cpu)
            if there.address is None:
                return page or Link(Lead.UNKNOWN, f"({_no_way(wanted.gpa, there)})")
            wanted = walker.send(_word(base.memory, there.address, wanted.size))
    except MemoryUnreadable as error:
        return page or Link(Lead.UNKNOWN, f"({error.message})")
    except StopIteration as end:
        found = _arrived(place, end.value)
        return page if page and found.lead is Lead.ELSEWHERE else found


def _no_way(gpa: L2Phys, walk: Walk[L2Phys, L1Phys]) -> str:
    """A table that cannot be read is no hole."""
    if walk.stop is not None and walk.stop.unread is not None:
        return f"EPT12 cannot be followed for {gpa:#x}: {walk.stop.why}"
    return f"EPT12 has no page for {gpa:#x}"


def _word(memory: PhysicalMemory[L1Phys], address: L1Phys, size: int) -> int:
    return int.from_bytes(memory.read(address, size), "little")


def _arrived(place: Place, walk: LinearWalk) -> Link:
    if walk.gpa is None:
        return Link(Lead.ELSEWHERE, f"({walk.fault.why if walk.fault else 'no translation'})")
    same_page = (walk.gpa ^ place.gpa) <= PAGE_MASK
    if same_page:
        lead = Lead.TRANSLATION if walk.gpa == place.gpa else Lead.SAME_PAGE
        why = "" if walk.gpa == place.gpa else f"({walk.gpa:#x})"
        return Link(lead, why, walk.user, walk.writable, walk.execute_disable)
    return Link(Lead.ELSEWHERE, f"(but to {walk.gpa:#x})")
