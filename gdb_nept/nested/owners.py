# SPDX-License-Identifier: GPL-2.0-or-later
"""The way back: which addresses of L1s and of L2s lead to a page of the host.

Memslots and the page tables of each VMM are looked through for the page, and then EPT12 and EPT02
of each vCPU on which an L1 runs an L2.  KVM's own reverse maps (kvm_memory_slot.arch.rmap) have no
part in it, since the TDP MMU keeps none: what is found is what a walk forward would find.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gdb_nept.address import HostPhys, HostVirt, L1Phys, L2Phys
from gdb_nept.arch.ept import ADDRESS, ENTRIES, EptEntry
from gdb_nept.errors import MemoryUnreadable, NeptError
from gdb_nept.kvm.memslots import Slot
from gdb_nept.kvm.vm import Vm
from gdb_nept.memory.budget import Budget, shared, within
from gdb_nept.memory.ram import END
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.walk.runs import Run, Unread

PRESENT = 1
TABLE = 1 << 21  # what a table of PTEs covers
PAGE_MASK = ~(PAGE_SIZE - 1)


@dataclass(frozen=True)
class L1Page:
    """An L1 physical page that is on the page of the host."""

    vm: int
    address: L1Phys
    slot: int
    host_virtual: HostVirt


@dataclass(frozen=True)
class L2Page:
    """An L2 physical page that leads there; `ept12` and `ept02` are the rights that each grants,
    None where it does not lead there, or where a table that is `unread` might."""

    vm: int
    vcpu: int
    address: L2Phys
    ept12: EptEntry | None = None
    ept02: EptEntry | None = None
    unread: tuple[Which, ...] = ()


@dataclass
class Owners:
    """Of the page at `page`.  `notes` say what was not looked through: there may be more, as there
    may where a part was `unread`."""

    page: HostPhys
    l1: list[L1Page] = field(default_factory=list)
    l2: list[L2Page] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    complete: bool = True
    unread: bool = False

    @property
    def vms(self) -> tuple[int, ...]:
        return tuple(sorted({one.vm for one in self.l1} | {one.vm for one in self.l2}))


def owners(session: Session, page: HostPhys, limit: int | None = None) -> Owners:
    """Who has the page of the host that `page` is on, in every VM.  At most `limit` entries of
    tables are looked at; None: as many as the command that runs may."""
    if limit is None:
        return _owners(session, page, shared())
    with within(Budget(limit)) as budget:
        return _owners(session, page, budget)


def _owners(session: Session, page: HostPhys, budget: Budget) -> Owners:
    found = Owners(HostPhys(page & PAGE_MASK))
    listed = session.vms()
    found.notes += listed.notes
    found.unread = bool(listed.unknown)
    for vm in listed.vms:
        _not_seen(vm, found)
        _in_slots(session, vm, found, budget)
        for vcpu in vm.vcpus:
            if vcpu.nested is not None and vcpu.nested.vmxon:
                _in_epts(session, Chosen(vm, vcpu), found)
    return found


def _not_seen(vm: Vm, found: Owners) -> None:
    """Memslots and vCPUs of a VM that could not be read, and may lead there."""
    told = [f"VM {vm.index}: its memslots cannot be read"] if vm.slots is None else []
    if vm.nested_unknown:
        told.append(f"VM {vm.index}: whether an L1 runs an L2 is not known: {vm.nested_unknown}")
    found.notes += told
    found.unread = found.unread or bool(told)


def _in_slots(session: Session, vm: Vm, found: Owners, budget: Budget) -> None:
    for slot in vm.slots.slots if vm.slots else ():
        for place in _places(session, vm, slot, found, budget):
            inside = L1Phys(slot.start + (place - slot.userspace_addr))
            found.l1.append(L1Page(vm.index, inside, slot.id, HostVirt(place)))


def _places(session: Session, vm: Vm, slot: Slot, found: Owners, budget: Budget) -> Iterator[int]:
    """The host virtual pages of a slot that lead to the page, by whole tables of the VMM's."""
    place = int(slot.userspace_addr)
    end = place + slot.size
    while place < end:
        if not budget.take(ENTRIES):
            found.complete = False
            left = f"memslot {slot.id} of VM {vm.index} from {place:#x} on"
            found.notes.append(f"{left}: not looked at: {budget.spent}")
            return
        walk = session.host_walk(vm, HostVirt(place))
        last = walk.steps[-1] if walk.steps else None
        if last is None or (walk.physical is None and last.entry.present and last.level > 1):
            found.notes.append(f"memslot {slot.id} of VM {vm.index} at {place:#x}: {walk.why}")
            found.unread = True
            place = _behind(place, TABLE)
            continue
        if last.level == 1:
            yield from _in_table(session, last.table, place, end, found)
            place = _behind(place, TABLE)
            continue
        covered = TABLE << (9 * (last.level - 2))
        if walk.physical is not None:
            inside = place + (found.page - (walk.physical & PAGE_MASK))
            if place & -covered == inside & -covered and place <= inside < end:
                yield inside
        place = _behind(place, covered)


def _in_table(
    session: Session, table: HostPhys, place: int, end: int, found: Owners
) -> Iterator[int]:
    first = place & -TABLE
    try:
        data = session.kernel.physical.read(table, PAGE_SIZE)
    except MemoryUnreadable as error:
        found.notes.append(f"a table of the VMM's: {error.message}")
        found.unread = True
        return
    for number, word in enumerate(memoryview(data).cast("Q")):
        if word & ADDRESS == found.page and word & PRESENT:
            inside = first + number * PAGE_SIZE
            if place <= inside < end:
                yield inside


def _behind(place: int, size: int) -> int:
    return (place & -size) + size


def _in_epts(session: Session, chosen: Chosen, found: Owners) -> None:
    pages = {one.address & PAGE_MASK for one in found.l1 if one.vm == chosen.vm}
    both: dict[int, list[EptEntry | None]] = {}
    unread: dict[Which, list[Unread]] = {Which.L1: [], Which.SHADOW: []}
    for side, which in enumerate((Which.L1, Which.SHADOW)):
        wanted = pages if which is Which.L1 else {int(found.page)}
        for address, rights in _leading(session, chosen, which, wanted, found, unread[which]):
            both.setdefault(address, [None, None])[side] = rights
    found.unread = found.unread or any(not one.given_up for each in unread.values() for one in each)
    for address in sorted(both):
        doubted = [
            which
            for which, stretches in unread.items()
            if any(one.start <= address < one.start + one.size for one in stretches)
        ]
        ept12, ept02 = both[address]
        place = L2Phys(address)
        found.l2.append(L2Page(chosen.vm, chosen.place, place, ept12, ept02, tuple(doubted)))


def _leading(
    session: Session,
    chosen: Chosen,
    which: Which,
    wanted: set[int],
    found: Owners,
    unread: list[Unread],
) -> Iterator[tuple[int, EptEntry]]:
    """The L2 pages that an EPT leads to one of `wanted`; what cannot be read goes to `unread`."""
    name = f"{which.value} of VM {chosen.vm}, vCPU {chosen.place}"
    try:
        ept = session.ept(chosen, which)
    except NeptError as error:
        found.notes.append(f"{name}: {error.message}")
        if isinstance(error, MemoryUnreadable):
            unread.append(Unread(0, END, error.message, kind=error.kind))
        return
    scan = session.scan(ept, 0, ept.eptp.reach)
    for run in scan.found():
        if isinstance(run, Unread):
            found.complete = found.complete and not run.given_up
            unread.append(run)
            found.notes.append(f"{name} from {run.start:#x} on: {run.why}")
        elif run.stop is None:
            yield from _pages_of(run, wanted)


def _pages_of(run: Run[L2Phys, L1Phys], wanted: set[int]) -> Iterator[tuple[int, EptEntry]]:
    for page in wanted:
        if run.address <= page < run.address + run.size:
            yield run.start + (page - run.address), run.rights
