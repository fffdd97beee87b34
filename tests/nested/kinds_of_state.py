# SPDX-License-Identifier: GPL-2.0-or-later
"""Every kind of state, and how each is made.

A state is one kind of each dimension: EPT12's entries, the memslot that they lead to, what KVM
shadows, whether it knows L1's table to be out of sync, and EPT02's root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from gdb_nept.arch.ept import EptEntry
from tests.nested.states import HOLE_OF_L1, INVALID_SLOT, Machine

W, X = EptEntry.write.mask, EptEntry.execute.mask


A, D = EptEntry.accessed.mask, EptEntry.dirty.mask


RWX_A = 0x107


ANOTHER_PAGE = 0x5000000  # of the host


NOT_IN_THE_PROCESS = 0x7000_0000_0000


Make = Callable[[Machine], None]


def leaf(keep: int) -> Make:
    def make(machine: Machine) -> None:
        now = int.from_bytes(machine.memory.read(machine.ept12[1].host, 8), "little")
        machine.put(machine.ept12[1], now & keep)

    return make


def misconfigured(machine: Machine) -> None:
    leaf(~(0x7 & ~W))(machine)


def table_at(address: Callable[[Machine], int]) -> Make:
    """EPT12's PDE names a table at L1 physical `address`, and KVM shadows that."""

    def make(machine: Machine) -> None:
        place = address(machine)
        machine.put(machine.ept12[2], place | RWX_A)
        machine.set(machine.pages[1].value.member("gfn"), place >> 12)

    return make


def table_in_a_slot_being_deleted(machine: Machine) -> None:
    slot = machine.other_slot()
    table_at(lambda _: slot.start)(machine)
    machine.set(slot.value.member("flags"), INVALID_SLOT)


def unbacked(machine: Machine) -> int:
    """A page of a slot that the VMM's process has nothing for, nor KVM for L1."""
    slot = machine.other_slot()
    machine.set(slot.value.member("userspace_addr"), NOT_IN_THE_PROCESS)
    machine.put(machine.ept01_of(slot.start), machine.form.empty)
    return slot.start


LEADING: dict[str, Make] = {
    "rwx": leaf(-1),
    "read only": leaf(~(W | X)),
    "not dirty": leaf(~D),
    "not accessed": leaf(~A),
}


ENDING: dict[str, Make] = {
    "hole": leaf(0),
    "misconfigured": misconfigured,
    "table in no memslot": table_at(lambda _: HOLE_OF_L1),
    "table in a memslot being deleted": table_in_a_slot_being_deleted,
    "table not in the process": table_at(unbacked),
}


EPT12 = {**LEADING, **ENDING}


def to_other_slot(machine: Machine, member: str = "", number: int = 0) -> None:
    slot = machine.other_slot()
    machine.maps(slot.start)
    if member:
        machine.set(slot.value.member(member), number)


SLOTS: dict[str, Make] = {
    "ordinary": to_other_slot,
    "none": lambda machine: machine.maps(HOLE_OF_L1),
    "KVM's own": lambda machine: to_other_slot(machine, "id", machine.apic_access_id),
    "being deleted": lambda machine: to_other_slot(machine, "flags", INVALID_SLOT),
    "not in the process": lambda machine: machine.maps(unbacked(machine)),
}


def shadows_the_page(machine: Machine) -> None:
    machine.shadows(machine.mapped(), machine.backing())


def shadows_it_read_only(machine: Machine) -> None:
    shadows_the_page(machine)
    now = int.from_bytes(machine.memory.read(machine.ept02[1].host, 8), "little")
    machine.put(machine.ept02[1], now & ~W)


def mmio(age: int) -> Make:
    def make(machine: Machine) -> None:
        word = machine.mmio(machine.mapped(), machine.generation() - age)
        machine.put(machine.ept02[1], word)

    return make


SHADOWS: dict[str, Make] = {
    "the page": shadows_the_page,
    "the page, read only": shadows_it_read_only,
    "empty": lambda machine: machine.put(machine.ept02[1], machine.form.empty),
    "another page of the host": lambda machine: machine.shadows(machine.mapped(), ANOTHER_PAGE),
    "another page of L1": lambda machine: machine.shadows(0x1000, ANOTHER_PAGE),
    "MMIO of this generation": mmio(0),
    "MMIO of an older generation": mmio(2),
}


def sync(unsync: int) -> Make:
    return lambda machine: machine.set(machine.pages[1].value.member("unsync"), unsync)


SYNC = {"in sync": sync(0), "out of sync": sync(1)}


def eptp(change: Callable[[int], int]) -> Make:
    return lambda machine: machine.vmcs12("ept_pointer", change(machine.eptp))


def waits(machine: Machine) -> None:
    """L1 has gone to another EPTP and come back, and has not entered L2 with it yet."""
    pgd, hpa = machine.root()
    waiting = machine.guest_mmu().member("prev_roots").index(1)
    machine.set(waiting.first("pgd", "cr3"), pgd.number())
    machine.set(waiting.member("hpa"), hpa.number())
    machine.set(pgd, pgd.number() + 0x1000)
    machine.set(hpa, machine.pages[3].table)


def dropped(machine: Machine) -> None:
    machine.set(machine.root()[1], -1)


def obsolete(machine: Machine) -> None:
    machine.role(4, "invalid", 1)


def being_dropped(machine: Machine) -> None:
    obsolete(machine)
    machine.set(machine.before.vcpu.value.member("requests"), 1 << 39 | 1 << 1)


ROOTS: dict[str, Make] = {
    "of this EPTP": lambda machine: None,
    "waiting": waits,
    "none": dropped,
    "of other A/D flags": eptp(lambda now: now ^ 1 << 6),
    "of another memory type": lambda machine: machine.set(
        machine.root()[0], machine.root()[0].number() ^ 6
    ),
    "refused: memory type": eptp(lambda now: now & ~7 | 1),
    "refused: levels": eptp(lambda now: now & ~(7 << 3) | 2 << 3),
    "refused: reserved bit": eptp(lambda now: now | 1 << 8),
    "refused: shadow stacks": eptp(lambda now: now | 1 << 7),
    "refused: type UC": eptp(lambda now: now & ~7),
    "obsolete": obsolete,
    "obsolete, being dropped": being_dropped,
}


def gfn(machine: Machine) -> None:
    machine.set(machine.pages[1].value.member("gfn"), 1)


def old_generation(machine: Machine) -> None:
    value = machine.pages[2].value.member("mmu_valid_gen")
    machine.set(value, value.number() + 1)


IDENTITY: dict[str, Make] = {
    "theirs": lambda machine: None,
    "of another table": gfn,
    "direct": lambda machine: machine.role(1, "direct", 1),
    "of another level": lambda machine: machine.role(2, "level", 3),
    "of fewer rights": lambda machine: machine.role(1, "access", 1),
    "invalid": lambda machine: machine.role(2, "invalid", 1),
    "of an old generation": old_generation,
    "not for L2": lambda machine: machine.role(3, "guest_mode", 0),
}


@dataclass(frozen=True)
class State:
    ept12: str = "rwx"
    slot: str = "ordinary"
    shadow: str = "the page"
    sync: str = "in sync"
    root: str = "of this EPTP"
    pages: str = "theirs"

    def make(self, machine: Machine) -> None:
        machine.reset()
        if self.ept12 in LEADING:
            SLOTS[self.slot](machine)
        SHADOWS[self.shadow](machine)
        SYNC[self.sync](machine)
        EPT12[self.ept12](machine)
        IDENTITY[self.pages](machine)
        ROOTS[self.root](machine)

    def __str__(self) -> str:
        return ", ".join((self.ept12, self.slot, self.shadow, self.sync, self.root, self.pages))


def states() -> Iterator[State]:
    """Slots matter only where EPT12 leads to one, and what is below a root only where it is in
    use; every pair of kinds that can meet does."""
    for entries, slot, shadow, known in product(LEADING, SLOTS, SHADOWS, SYNC):
        yield State(entries, slot, shadow, known)
    for entries, shadow, known in product(ENDING, SHADOWS, SYNC):
        yield State(entries, shadow=shadow, sync=known)
    for root, entries in product(ROOTS, EPT12):
        yield State(entries, root=root)
    for pages, entries in product(IDENTITY, EPT12):
        yield State(entries, pages=pages)
