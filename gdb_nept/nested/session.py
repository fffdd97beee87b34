# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command or a script holds: the VMs of one kernel, and the EPTs of a nested vCPU.

session = Session(kernel)
vcpu = session.pick(None, None)
print(verdict(session.journey(vcpu, L2Phys(0x1000))).sentence)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Union

from gdb_nept.address import HostPhys, HostVirt, KernelVirt, L1Phys, L2Phys
from gdb_nept.arch.cpu import HOST, Capabilities
from gdb_nept.arch.ept import WB, WIDEST, Eptp
from gdb_nept.errors import BadInput, MemberMissing, MemoryUnreadable, NoGuest
from gdb_nept.kvm.memslots import MemSlots, Slot, Tracking, memslots, tracking
from gdb_nept.kvm.shadow import Mmu, mmu
from gdb_nept.kvm.shadow_page import ShadowPage, shadow_mmu_pages, shadow_page
from gdb_nept.kvm.spte import decode_spte
from gdb_nept.kvm.spte_format import spte_format
from gdb_nept.kvm.vcpu import in_force, read_vcpu
from gdb_nept.kvm.vm import Vm, VmList, mark_of, read_vm, vm_list, vm_places, vms
from gdb_nept.kvm.vmcs12 import Vmcs12, read_vmcs12
from gdb_nept.kvm.vmcs12_layout import Layout
from gdb_nept.memory.guest import GuestMemory, Span
from gdb_nept.memory.reader import PAGE_MASK, PhysicalMemory
from gdb_nept.nested.choice import Chosen, choose
from gdb_nept.nested.journey import Journey, ShadowWalk
from gdb_nept.target.pagetable import Translation
from gdb_nept.target.ports import Kernel, Value, object_at
from gdb_nept.walk.ept import Scan, walk_ept
from gdb_nept.walk.result import Walk


class Which(Enum):
    L1 = "EPT12"
    SHADOW = "EPT02"
    HOST = "EPT01"


@dataclass(frozen=True)
class Ept:
    """One EPT: EPT12 lies in L1's memory, KVM's own two in the host's."""

    which: Which
    eptp: Eptp
    cpu: Capabilities
    memory: Union[PhysicalMemory[L1Phys], PhysicalMemory[HostPhys]]


@dataclass
class Known:
    """What holds while KVM stays loaded, and a VM's memslots are not changed; `vms` are by their
    struct kvm, with kvm.vm.mark_of() it.  Over a slow link it is most of what a stop would read.
    A VM keeps its index, so that it is the same from line to line."""

    vm_list: KernelVirt | None = None
    layout: Layout | None = None
    vms: dict[KernelVirt, tuple[tuple[int, int], Vm]] = field(default_factory=dict)


class Session:
    """`drop()` after the target ran; until then what was read once is kept."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._vms: VmList | None = None
        self._known = Known()
        self._watched = False

    def drop(self) -> None:
        self._vms = None
        if not self._watched:
            self._known = Known()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The target runs from stop to stop, and stands at each within KVM."""
        self._watched = True
        try:
            yield
        finally:
            self._watched = False

    def vms(self) -> VmList:
        """Raises NoGuest where there is no KVM.  A list with problems is read anew each time: the
        target may have answered with errors for a while."""
        if self._vms is None or self._vms.unknown or any(vm.problems for vm in self._vms.vms):
            self._vms = vms(self.kernel)
        return self._vms

    def pick(self, vm: int | None, vcpu: int | None) -> Chosen:
        """The vCPU meant by its numbers in nept-vms.

        What is not given is found: the only vCPU on which L2 is active, or else the only one in
        VMX operation.  Raises NoGuest, which says what there is to choose from.
        """
        return choose(self.vms(), vm, vcpu)

    def at(self, address: KernelVirt) -> Chosen:
        """The vCPU whose struct kvm_vcpu lies at `address`, as a register of KVM's has it.  Its VM
        alone is read.  Raises NoGuest if no VM has it, TypeMissing, MemoryUnreadable."""
        kvm = object_at(self.kernel, address, "kvm_vcpu", "kvm").member("kvm").pointer()
        for owner in self._owners(kvm):
            for vcpu in owner.vcpus:
                if vcpu.address == address:
                    vmx, unknown = vcpu.vmx is not None, vcpu.nested_unknown
                    now = read_vcpu(self.kernel, address, vcpu.place, vmx, unknown)
                    return Chosen(owner, now)
        raise NoGuest(f"no VM has a vCPU at {address:#x}", "List them with nept-vms.")

    def _owners(self, kvm: KernelVirt) -> Iterator[Vm]:
        """The VM as it was read before, if that still holds; then as it is.  Nothing if `kvm` is
        not in KVM's list."""
        known = self._known
        if kvm in known.vms and known.vms[kvm][0] == mark_of(self._struct_kvm(kvm)):
            yield known.vms[kvm][1]
        if known.vm_list is None:
            known.vm_list = vm_list(self.kernel)
        places = vm_places(self.kernel, known.vm_list)
        if kvm in places:
            found = read_vm(self._struct_kvm(kvm), places[kvm])
            mark = mark_of(found.value)
            if mark is not None and not found.problems:
                known.vms[kvm] = (mark, found)
            yield found

    def _struct_kvm(self, address: KernelVirt) -> Value:
        return object_at(self.kernel, address, "kvm", "kvm")

    def vmcs12(self, chosen: Chosen) -> Vmcs12:
        """Raises NoGuest where L1 has loaded no VMCS."""
        nested = chosen.vcpu.nested
        if nested is None or not nested.vmxon:
            raise NoGuest(
                f"VM {chosen.vm}, vCPU {chosen.place} has no nested state: it is not in VMX "
                "operation",
                "nept-vms shows which vCPUs are.",
            )
        found = read_vmcs12(self.kernel, nested, self._known.layout)
        self._known.layout = found.layout
        return found

    # -- memory and tables ----------------------------------------------------------------------

    def slots(self, chosen: Chosen) -> MemSlots:
        """The memslots of the address space that the vCPU is in (SMM has its own)."""
        nested = chosen.vcpu.nested
        if nested is not None and nested.hflags.smm:
            return memslots(chosen.owner.value, 1)
        if chosen.owner.slots is None:
            why = "; ".join(each for each in chosen.owner.problems if each.startswith("memslots"))
            raise NoGuest(f"the memslots of VM {chosen.vm} cannot be read: {why}")
        return chosen.owner.slots

    def l1_memory(self, chosen: Chosen) -> GuestMemory:
        spans = tuple(
            Span(slot.start, slot.size, slot.userspace_addr) for slot in self.slots(chosen).slots
        )

        def translate(address: HostVirt) -> HostPhys:
            found = self.host_walk(chosen.owner, address)
            if found.physical is None:
                raise MemoryUnreadable(address, 1, f"in the process that runs L1: {found.why}")
            return found.physical

        return GuestMemory(spans, translate, self.kernel.physical)

    def host_walk(self, vm: Vm, address: HostVirt) -> Translation:
        """The page tables of the process that runs `vm`."""
        if vm.mm_pgd is None:
            raise NoGuest(f"VM {vm.index} has no process any more", "It is being destroyed.")
        return self.kernel.translate_user(vm.mm_pgd, address)

    def ept(self, chosen: Chosen, which: Which) -> Ept:
        """Raises NoGuest where there is no such EPT now."""
        if which is Which.L1:
            return self._ept12(chosen)
        name = "guest_mmu" if which is Which.SHADOW else "root_mmu"
        found = mmu(chosen.vcpu.value, name)
        if found.root.hpa is None:
            raise NoGuest(f"there is no {which.value} now: {found.why_no_root}")
        return Ept(which, _own_eptp(found, found.root.hpa), HOST, self.kernel.physical)

    def _ept12(self, chosen: Chosen) -> Ept:
        found = self.vmcs12(chosen)
        if not found.ept_enabled:
            raise NoGuest(
                "L1 runs this L2 without EPT (secondary control bit 1 is clear)",
                "L2's page tables lead to L1 physical addresses then: there is no EPT12.",
            )
        offered = chosen.vcpu.capabilities
        if offered is None:
            raise NoGuest(f"VM {chosen.vm}, vCPU {chosen.place} is no VMX vCPU")
        cpu = in_force(offered, found.secondary)
        return Ept(Which.L1, found.eptp, cpu, self.l1_memory(chosen))

    def scan(self, ept: Ept, low: int, high: int) -> Scan[Any, Any]:
        """The mappings of `ept` in a range, in the spaces that `ept.which` tells."""
        return Scan(ept.memory, ept.eptp, ept.cpu, low, high)

    # -- the journey ----------------------------------------------------------------------------

    def journey(self, chosen: Chosen, asked: L2Phys) -> Journey:
        """Follow `asked` by three ways; raises NoGuest where L1 has no EPT12, BadInput for what
        is no physical address."""
        if asked >> WIDEST:
            raise BadInput(
                f"{asked:#x} is no physical address", f"They have {WIDEST} bits at most."
            )
        ept12 = self._ept12(chosen)
        walk = walk_ept(self.l1_memory(chosen), ept12.eptp, asked, ept12.cpu)
        slot = self.slots(chosen).find(walk.address) if walk.address is not None else None
        virtual = slot.host_virtual(walk.address) if slot and walk.address is not None else None
        shadow, missing, notes = self._shadow(chosen, ept12.eptp, asked)
        if asked >> ept12.cpu.maxphyaddr:
            notes += (
                f"L2 cannot form this address: MAXPHYADDR is {ept12.cpu.maxphyaddr}, and an entry "
                "of its own page tables that names it is a page fault in L2",
            )
        return Journey(
            asked,
            chosen.vm,
            chosen.place,
            ept12.eptp,
            walk,
            slot,
            virtual,
            self.host_walk(chosen.owner, virtual) if virtual is not None else None,
            _tracking(slot, walk.address),
            self._table_in(chosen, walk, shadow),
            shadow,
            missing,
            self._ept01(chosen, walk),
            notes,
        )

    def _table_in(
        self, chosen: Chosen, ept12: Walk[L2Phys, L1Phys], shadow: ShadowWalk | None
    ) -> ShadowPage | None:
        """The table of L1's that the page holds, if KVM shadows it; looked for only where KVM
        withholds a write, since it means a walk over all shadow pages."""
        if ept12.address is None or shadow is None or shadow.walk.stop is not None:
            return None
        if not ept12.rights.write or shadow.walk.rights.write:
            return None
        page = ept12.address & ~PAGE_MASK
        for found in shadow_mmu_pages(chosen.owner.value).pages:
            if not found.direct and found.gfn_address == page:
                return found
        return None

    def _shadow(
        self, chosen: Chosen, eptp: Eptp, asked: L2Phys
    ) -> tuple[ShadowWalk | None, str, tuple[str, ...]]:
        try:
            ept02 = self.ept(chosen, Which.SHADOW)
        except NoGuest as error:
            return None, error.message, ()
        pgd = mmu(chosen.vcpu.value, "guest_mmu").root.pgd
        notes: tuple[str, ...] = ()
        if pgd is not None and Eptp(pgd).address != eptp.address:
            notes = (f"this EPT02 was built for another EPTP ({pgd:#x}), not for {eptp.value:#x}",)
        walk = walk_ept(self.kernel.physical, ept02.eptp, asked, HOST)
        return self._with_sptes(chosen, walk), "", notes

    def _ept01(self, chosen: Chosen, ept12: Walk[L2Phys, L1Phys]) -> ShadowWalk | None:
        if ept12.address is None:
            return None
        try:
            ept01 = self.ept(chosen, Which.HOST)
        except NoGuest:
            return None
        walk = walk_ept(self.kernel.physical, ept01.eptp, ept12.address, HOST)
        return self._with_sptes(chosen, walk)

    def _with_sptes(
        self, chosen: Chosen, walk: Walk[L2Phys, HostPhys] | Walk[L1Phys, HostPhys]
    ) -> ShadowWalk:
        vm = chosen.owner.value
        form = spte_format(self.kernel, vm)
        sptes = (decode_spte(step.entry.value, step.level, form) for step in walk.steps)
        pages = (shadow_page(self.kernel, vm, step.table) for step in walk.steps)
        return ShadowWalk(walk, tuple(sptes), tuple(pages))


def _own_eptp(found: Mmu, root: HostPhys) -> Eptp:
    """The EPTP that KVM gives the processor for one of its own EPTs: construct_eptp(), vmx.c."""
    flags = 0 if found.role.number("ad_disabled") else 1
    return Eptp(
        Eptp.build(address=root, memory_type=WB, walk_length=found.level - 1, accessed_dirty=flags)
    )


def _tracking(slot: Slot | None, address: L1Phys | None) -> Tracking | None:
    if slot is None or address is None:
        return None
    try:
        return tracking(slot, address)
    except (MemoryUnreadable, MemberMissing):
        return None  # the verdict then says less, and nothing wrong
