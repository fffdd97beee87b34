# SPDX-License-Identifier: GPL-2.0-or-later
"""From an L2 linear address: L2's own tables, each entry found through EPT12, then the journey.

SDM vol. 3, June 2026 (325384-092), 31.3.1: with EPT, the addresses in CR3 and in L2's
paging-structure entries are guest-physical ones.  Where L1 runs L2 without EPT, vmcs12's CR3 names
a table of L1's own making (its shadow of L2's), whose entries hold L1 physical addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gdb_nept.address import HostPhys, HostVirt, L1Phys, L2Phys, L2Virt
from gdb_nept.arch.cpu import HOST
from gdb_nept.arch.paging import PAGING_PAE
from gdb_nept.errors import BadInput, MemberMissing, MemoryUnreadable, NoGuest
from gdb_nept.kvm.memslots import Slot
from gdb_nept.kvm.shadow import mmu
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.nested.agreement import Agreement
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Ept, Which
from gdb_nept.nested.guest_registers import GuestRegisters, guest_registers, pdptes_in_memory
from gdb_nept.nested.journey import Journey
from gdb_nept.nested.nesting import Nesting, nesting
from gdb_nept.nested.session import Session
from gdb_nept.target.pagetable import PageTables, Translation
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.guest_paging import GuestPaging, GuestStep, Reference
from gdb_nept.walk.linear_address import not_canonical, too_wide, unmasked
from gdb_nept.walk.paging import LinearWalk, TableAccess, walk_linear
from gdb_nept.walk.result import Walk

Found = Walk[L2Phys, L1Phys]


@dataclass(frozen=True)
class GuestEntry:
    """An entry of L2's own, and how EPT12 found it: None for a PDPTE register, and without EPT."""

    step: GuestStep
    found_by: Found | None


@dataclass(frozen=True)
class Landing:
    """Where an L1 physical address is, if no EPT12 led to it.  `kvm` is where KVM's own tables lead
    (EPT01, or its shadow of L1's shadow), None where they do not: `kvm_why` says why."""

    address: L1Phys
    slot: Slot | None
    host_virtual: HostVirt | None
    host: Translation | None
    kvm: HostPhys | None = None
    kvm_why: str = ""

    @property
    def agreement(self) -> Agreement:
        """Whether KVM's tables lead where L1's memslot and the host's tables do."""
        host = self.host.physical if self.host else None
        if self.slot is None:
            return Agreement.NO_SLOT
        if host is None:
            unread = self.host is not None and self.host.unread is not None
            return Agreement.UNREADABLE if unread else Agreement.NOT_BACKED
        if self.kvm is None:
            return Agreement.NOT_SHADOWED
        return Agreement.AGREE if self.kvm == host else Agreement.STALE


@dataclass(frozen=True)
class VirtualWalk:
    """`linear` is what is translated of `asked`, which may have bits that LAM masks.  `ept12` finds
    L2's entries, if L1 uses EPT.  `hidden` is the walk through EPT12 that leads to no next entry;
    `why` says why there is no `journey` (or `landing`), '' if there is one."""

    asked: L2Virt
    linear: L2Virt
    vm: int
    vcpu: int
    nesting: Nesting
    registers: GuestRegisters
    entries: tuple[GuestEntry, ...]
    walk: LinearWalk | None = None
    hidden: Found | None = None
    journey: Journey | None = None
    landing: Landing | None = None
    why: str = ""
    warnings: tuple[str, ...] = ()
    ept12: Ept | None = None

    @property
    def references(self) -> int:
        """Reads of memory that a processor makes with nothing cached: each entry of L2's and of
        EPT12 on the way to it, and EPT12 for the page."""
        own = sum(1 for entry in self.entries if entry.step.gpa is not None)
        ways = [entry.found_by for entry in self.entries]
        ways += [self.hidden, self.journey.ept12 if self.journey else None]
        return own + sum(len(way.steps) for way in ways if way)


class _Hidden(Exception):
    """EPT12 does not lead to an entry of L2's."""

    def __init__(self, walk: Found, why: str) -> None:
        super().__init__(why)
        self.walk, self.why = walk, why


@dataclass
class _Reading:
    """L2's tables, read through EPT12 (or in L1 physical memory), each way kept."""

    memory: PhysicalMemory[L1Phys]
    ept: Ept | None
    ways: dict[L2Phys, Found]

    def read(self, wanted: TableAccess) -> int:
        where = L1Phys(wanted.gpa)
        if self.ept is not None:
            way: Found = walk_ept(self.memory, self.ept.eptp, wanted.gpa, self.ept.cpu)
            if way.address is None:
                why = way.stop.why if way.stop else "it leads nowhere"
                raise _Hidden(way, f"EPT12 hides L2's level-{wanted.level} entry at "
                                   f"{wanted.gpa:#x}: {why}")  # fmt: skip
            self.ways[wanted.gpa], where = way, way.address
        return int.from_bytes(self.memory.read(where, wanted.size), "little")


def virtual_walk(session: Session, chosen: Chosen, asked: L2Virt) -> VirtualWalk:
    """Raises BadInput for an address that L2 cannot form in its mode, NoGuest where there is no
    L2."""
    registers = guest_registers(session, chosen)
    # where it leads, not whether an access is allowed: no SMAP, all keys allow
    paging = replace(registers.paging, ac=True, pkru=0, pkrs=0)
    if too_wide(paging, asked):
        raise BadInput(
            f"L2 has no linear address {asked:#x}: it is not in IA-32e mode, where they have 32 "
            "bits"
        )
    linear = unmasked(paging, asked, fetch=False)
    ept = session.ept(chosen, Which.L1) if session.vmcs12(chosen).ept_enabled else None
    found = VirtualWalk(
        asked=asked,
        linear=linear,
        vm=chosen.vm,
        vcpu=chosen.place,
        nesting=nesting(session, chosen),
        registers=registers,
        entries=(),
        why=not_canonical(paging, linear),
        warnings=(*registers.doubts, *pdptes_differ(session, chosen, registers)),
        ept12=ept,
    )
    if found.why:
        return found
    return _followed(session, chosen, found, paging, _Reading(session.l1_memory(chosen), ept, {}))


def _followed(
    session: Session, chosen: Chosen, found: VirtualWalk, paging: GuestPaging, reading: _Reading
) -> VirtualWalk:
    walker = walk_linear(paging, Reference(found.linear, write=False))
    done: tuple[GuestStep, ...] = ()
    try:
        wanted = next(walker)
        while True:
            done = wanted.done
            wanted = walker.send(0 if wanted.update else reading.read(wanted))
    except StopIteration as end:
        walk: LinearWalk = end.value
        found = replace(found, walk=walk, entries=_entries(walk.steps, reading.ways))
        return _arrived(session, chosen, found, walk, reading.ept is not None)
    except _Hidden as error:
        return replace(
            found, entries=_entries(done, reading.ways), hidden=error.walk, why=error.why
        )
    except MemoryUnreadable as error:
        return replace(found, entries=_entries(done, reading.ways), why=error.message)


def _entries(steps: tuple[GuestStep, ...], ways: dict[L2Phys, Found]) -> tuple[GuestEntry, ...]:
    return tuple(GuestEntry(step, ways.get(step.gpa) if step.gpa else None) for step in steps)


def _arrived(
    session: Session, chosen: Chosen, found: VirtualWalk, walk: LinearWalk, with_ept: bool
) -> VirtualWalk:
    if walk.gpa is None:
        fault = walk.fault
        return replace(found, why=f"L2's own page fault: {fault.why}" if fault else "")
    if with_ept:
        return replace(found, journey=session.journey(chosen, walk.gpa))
    address = L1Phys(walk.gpa)
    slot = session.slots(chosen).find(address)
    virtual = slot.host_virtual(address) if slot else None
    host = session.host_walk(chosen.owner, virtual) if virtual is not None else None
    kvm, why = _by_kvm(session, chosen, found, address)
    return replace(found, landing=Landing(address, slot, virtual, host, kvm, why))


def _by_kvm(
    session: Session, chosen: Chosen, found: VirtualWalk, address: L1Phys
) -> tuple[HostPhys | None, str]:
    """By KVM's own tables: EPT01, or with ept=0 its shadow of the tables that vmcs12's CR3 names,
    which are x86's own (mmu/paging_tmpl.h); or why not."""
    try:
        if found.nesting is not Nesting.SHADOW_ON_SHADOW:
            ept01 = session.ept(chosen, Which.HOST)
            walk = walk_ept(session.kernel.physical, ept01.eptp, address, HOST)
            return walk.address, walk.stop.why if walk.stop else ""
        if not session.vmcs12(chosen).situation.l2_active:
            return None, "L1 runs: KVM's shadow is that of L1's own tables"
        own = mmu(chosen.vcpu.value, "root_mmu")
    except (NoGuest, MemberMissing) as error:
        return None, error.message
    if own.root.hpa is None:
        return None, own.why_no_root
    tables = PageTables(session.kernel.physical, own.root.hpa, own.level)
    translated = tables.walk(HostVirt(found.linear))
    return translated.physical, translated.why


def pdptes_differ(session: Session, chosen: Chosen, registers: GuestRegisters) -> tuple[str, ...]:
    """Where the table that CR3 points to holds other entries than the PDPTE registers (5.4.1)."""
    paging = registers.paging
    loaded = any(one.name == "pdptrs" for one in registers.registers)  # from that very table
    if paging.mode is not PAGING_PAE or loaded or not paging.pdptrs:
        return ()
    pairs = zip(paging.pdptrs, pdptes_in_memory(session, chosen, paging.root))
    return tuple(
        f"PDPTE register {number} is {register:#x}, and the table at CR3 now has {memory:#x}: L2 "
        "translates by the register until it moves to CR3"
        for number, (register, memory) in enumerate(pairs)
        if register != memory
    )
