# SPDX-License-Identifier: GPL-2.0-or-later
"""States of a nested vCPU, made by changing single words of a real memory.

One page that L2 has used is the subject: its entries in EPT12 and EPT02, KVM's notes of it, the
memslots, the root and EPTP12 are set as a state wants them, in an overlay over the snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gdb_nept.address import HostPhys, KernelVirt, L1Phys, L2Phys
from gdb_nept.arch.ept import EptEntry
from gdb_nept.kvm.memslots import Slot, user_slots
from gdb_nept.kvm.shadow_page import ShadowPage
from gdb_nept.kvm.spte_format import SpteFormat, spte_format
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import read_u64
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.journey import Journey
from gdb_nept.nested.session import Session
from gdb_nept.target.linux import attach
from gdb_nept.target.ports import Value
from gdb_nept.walk.ept import walk_ept
from tests.conftest import facts, kernel_cache
from tests.overlay import Overlay

ADDRESS = EptEntry.address.mask
HOLE_OF_L1 = 48 << 20  # between the slots, as tests/guests/scenarios.py has it
INVALID_SLOT = 1 << 16  # KVM_MEMSLOT_INVALID
ALL_ONES = (1 << 64) - 1
MMU_PRESENT = 1 << 11


@dataclass(frozen=True)
class Word:
    """A word of the host's memory, and what it holds in the snapshot."""

    place: int
    value: int
    size: int = 8

    @property
    def host(self) -> HostPhys:
        return HostPhys(self.place)


class Machine:
    """A snapshot, the page in question, and where all that concerns it lies."""

    def __init__(self, snapshot: Path) -> None:
        raw: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
        self.memory = Overlay(raw)
        self.changed = False
        self.session = Session(attach(self.memory, ram=raw.size, cache=kernel_cache()))
        page = next(page for page in facts(snapshot, "page") if page["by"] == "l2")
        self.asked = L2Phys(int(page["l2gpa"], 16))
        chosen = self.chosen
        self.before = chosen  # as the snapshot has it
        self.slots = self.session.slots(chosen)
        self.eptp = self.session.vmcs12(chosen).eptp.value
        self.form: SpteFormat = spte_format(self.session.kernel, chosen.owner.value)
        journey = self.journey()
        assert journey.shadow is not None
        assert journey.host_physical is not None
        assert journey.slot is not None
        self.page = journey.host_physical
        self.slot = journey.slot
        l1 = self.session.l1_memory(chosen)
        self.ept12 = {
            step.level: Word(l1.host_physical(L1Phys(step.address)), step.entry.value)
            for step in journey.ept12.steps
        }
        self.ept02 = {
            step.level: Word(step.address, step.entry.value) for step in journey.shadow.walk.steps
        }
        self.index = journey.shadow.walk.steps[-1].index
        self.pages = {
            page.level: page for page in journey.shadow.pages if isinstance(page, ShadowPage)
        }
        assert set(self.ept12) == set(self.ept02) == set(self.pages) == {1, 2, 3, 4}

    # -- what a state is asked ------------------------------------------------------------------

    @property
    def chosen(self) -> Chosen:
        """As it is after the changes made so far."""
        if self.changed:
            self.session.drop()
            self.changed = False
        return self.session.pick(None, None)

    def journey(self) -> Journey:
        return self.session.journey(self.chosen, self.asked)

    def reset(self) -> None:
        self.memory.bytes.clear()
        self.changed = True

    # -- what can be changed --------------------------------------------------------------------

    def put(self, word: Word, value: int) -> None:
        self.memory.put(word.place, value & ((1 << 8 * word.size) - 1), word.size)
        self.changed = True

    def word(self, value: Value) -> Word:
        """A C object as a word: not a bit field."""
        place = self.session.kernel.to_physical(value.address)
        return Word(place, value.number(), value.type.size)

    def set(self, value: Value, number: int) -> None:
        self.put(self.word(value), number)

    def role(self, level: int, name: str, number: int) -> None:
        """A bit field of the role of KVM's table at `level`."""
        value = self.pages[level].value.member("role")
        field = value.type.member(name)
        mask = ((1 << field.bit_size) - 1) << field.bit_offset
        word = self.word(value.member("word"))
        now = int.from_bytes(self.memory.read(HostPhys(word.place), word.size), "little")
        self.put(word, now & ~mask | number << field.bit_offset)

    def vmcs12(self, name: str, number: int) -> None:
        found = self.session.vmcs12(self.before)
        assert found.address is not None
        field = found.field(name)
        base = self.session.kernel.to_physical(found.address)
        self.put(Word(base + field.offset, 0, field.size), number)

    def guest_mmu(self) -> Value:
        return self.before.vcpu.value.member("arch.guest_mmu")

    def root(self) -> tuple[Value, Value]:
        """The EPTP that EPT02 stands for, and its root: `root` since 5.18."""
        mmu = self.guest_mmu()
        if mmu.has("root"):
            return mmu.member("root.pgd"), mmu.member("root.hpa")
        return mmu.first("root_pgd", "root_cr3"), mmu.member("root_hpa")

    def other_slot(self) -> Slot:
        """One that holds neither the page nor a table on its way."""
        return next(slot for slot in self.slots.slots if slot.start != self.slot.start)

    @property
    def apic_access_id(self) -> int:
        """APIC_ACCESS_PAGE_PRIVATE_MEMSLOT: KVM_USER_MEM_SLOTS + 1."""
        table = self.before.owner.value.member("memslots").index(0).deref()
        return user_slots(table) + 1

    def mapped(self) -> int:
        """Where EPT12's leaf leads now."""
        word = int.from_bytes(self.memory.read(self.ept12[1].host, 8), "little")
        return word & ADDRESS

    def backing(self) -> int:
        """The host's page of that, before any change; any page, if it has none."""
        address = L1Phys(self.mapped())
        return self.host_of(address) if self.slots.find(address) else self.page

    def generation(self) -> int:
        assert self.slots.generation is not None
        return self.slots.generation

    def maps(self, address: int) -> None:
        """EPT12's leaf leads to L1 physical `address`."""
        leaf = self.ept12[1]
        self.put(leaf, leaf.value & ~ADDRESS | address)

    def shadows(self, address: int, host: int) -> None:
        """KVM's leaf leads to `host`, and stands for L1 physical `address`."""
        leaf = self.ept02[1]
        self.put(leaf, leaf.value & ~ADDRESS | host)
        self.notes(address)

    def notes(self, address: int) -> None:
        """shadowed_translation[] (gfns[] before 6.0) of the leaf."""
        page = self.pages[1]
        assert page.shadowed is not None
        place = self.session.kernel.to_physical(KernelVirt(page.shadowed + 8 * self.index))
        before = read_u64(self.memory, place)
        rights = before & 0xFFF
        number = address | rights if page.value.has("shadowed_translation") else address >> 12
        self.put(Word(place, before), number)

    def mmio(self, address: int, generation: int) -> int:
        """An MMIO SPTE as make_mmio_spte() makes it."""
        low, high = self.form.mmio.fields()
        width = low.high - low.low + 1
        generation &= self.form.generation_mask
        value = self.form.mmio_value | address | self.form.rsvd_mask
        value |= (generation & ((1 << width) - 1)) << low.low
        return value | generation >> width << high.low

    def host_of(self, address: int) -> int:
        """Where L1 physical `address` lies in the host's memory."""
        return self.session.l1_memory(self.before).host_physical(L1Phys(address))

    def ept01_of(self, address: int) -> Word:
        """KVM's last entry of EPT01 for L1 physical `address`."""
        own = self.session.ept(self.before, Which.HOST)
        step = walk_ept(self.session.kernel.physical, own.eptp, L1Phys(address), own.cpu).steps[-1]
        return Word(step.address, step.entry.value)
