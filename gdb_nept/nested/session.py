# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command or a script holds: the VMs of one kernel, and the EPTs of a nested vCPU.

session = Session(kernel)
vcpu = session.pick(None, None)
found = verdict(session.journey(vcpu, L2Phys(0x1000)))
print(found.sentence, found.fault.value)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Callable, TypeVar

from gdb_nept.address import HostPhys, HostVirt, KernelVirt, L2Phys
from gdb_nept.arch.cpu import HOST, Capabilities
from gdb_nept.arch.ept import check_physical
from gdb_nept.errors import MemoryUnreadable, NeptError, NoGuest, UnreadKind
from gdb_nept.kvm.memslots import MemSlots, memslots
from gdb_nept.kvm.shadow import mmu
from gdb_nept.kvm.spte_format import spte_format
from gdb_nept.kvm.vcpu import in_force, read_vcpu
from gdb_nept.kvm.visible import no_table_in
from gdb_nept.kvm.vm import PROCESS, Vm, mark_of, read_vm
from gdb_nept.kvm.vmcs12 import Vmcs12, read_vmcs12
from gdb_nept.kvm.vmcs12_layout import Layout
from gdb_nept.kvm.vms import VmList, vm_list, vm_places, vms
from gdb_nept.memory.guest import GuestMemory, Span
from gdb_nept.nested.choice import Chosen, choose
from gdb_nept.nested.epts import Ept, Which, ept02_cpu, own_eptp
from gdb_nept.nested.follow import follow
from gdb_nept.nested.journey import Journey
from gdb_nept.target.pagetable import Translation
from gdb_nept.target.ports import Kernel, Value, object_at
from gdb_nept.walk.scan import Scan

Thing = TypeVar("Thing")


@dataclass
class Known:
    """What holds while KVM stays loaded, and a VM's memslots are not changed; `vms` are by their
    struct kvm, with kvm.vm.mark_of() it.  Over a slow link it is most of what a stop would read.
    A VM keeps its index, so that it is the same from line to line.  `derived` follows from KVM's
    types and from what it is kept by."""

    vm_list: KernelVirt | None = None
    layout: Layout | None = None
    vms: dict[KernelVirt, tuple[tuple[int, int], Vm]] = field(default_factory=dict)
    derived: dict[Hashable, Any] = field(default_factory=dict)


class Session:
    """`drop()` after the target ran; until then what was read once is kept."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._vms: VmList | None = None
        self._vmcs12s: dict[KernelVirt, Vmcs12] = {}  # by the vCPU's struct kvm_vcpu
        self._known = Known()
        self._watched = False

    def drop(self) -> None:
        self._vms = None
        self._vmcs12s.clear()
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

    def by_types(self, key: Hashable, make: Callable[[], Thing]) -> Thing:
        """What `make` derives from KVM's types and from what is in `key`, and nothing else."""
        derived = self._known.derived
        if key not in derived:
            derived[key] = make()
        found: Thing = derived[key]
        return found

    def vms(self) -> VmList:
        """Raises NoGuest where there is no KVM.  A list with problems is read anew each time: the
        target may have answered with errors for a while."""
        if self._vms is None or self._vms.unknown or any(vm.problems for vm in self._vms.vms):
            self._vms = vms(self.kernel)
        return self._vms

    def pick(self, vm: int | None, vcpu: int | None, of_l1: bool = False) -> Chosen:
        """The vCPU meant by its numbers in nept-vms.

        What is not given is found: the only vCPU on which L2 is active, or else the only one in
        VMX operation; with `of_l1`, where there is none, the first of the only VM.  Raises NoGuest,
        which says what there is to choose from.
        """
        return choose(self.vms(), vm, vcpu, of_l1)

    def at(self, address: KernelVirt) -> Chosen:
        """The vCPU whose struct kvm_vcpu lies at `address`, as a register of KVM's has it.  Its VM
        alone is read, and not its thread.  Raises NoGuest if no VM has it, TypeMissing,
        MemoryUnreadable."""
        kvm = object_at(self.kernel, address, "kvm_vcpu", "kvm").member("kvm").pointer()
        for owner in self._owners(kvm):
            for vcpu in owner.vcpus:
                if vcpu.address == address:
                    vmx, unknown = vcpu.vmx is not None, vcpu.nested_unknown
                    now = read_vcpu(
                        self.kernel, address, vcpu.place, vmx, unknown, with_thread=False
                    )
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
        known = self._vmcs12s.get(chosen.vcpu.address)
        if known is not None:
            return known
        found = read_vmcs12(self.kernel, nested, self._known.layout, chosen.vcpu.pae)
        self._known.layout = found.layout
        lost = tuple(f"not known: {each}" for each in chosen.vcpu.lost)
        if lost:
            found = replace(found, problems=(*found.problems, *lost))
        self._vmcs12s[chosen.vcpu.address] = found
        return found

    # -- memory and tables ----------------------------------------------------------------------

    def slots(self, chosen: Chosen) -> MemSlots:
        """The memslots of the address space that the vCPU is in (SMM has its own)."""
        nested = chosen.vcpu.nested
        if nested is not None and nested.hflags.smm:
            return memslots(chosen.owner.value, 1)
        return self.slots_of(chosen.owner)

    def slots_of(self, vm: Vm) -> MemSlots:
        """Those outside SMM."""
        if vm.slots is None:
            why = "; ".join(each for each in vm.problems if each.startswith("memslots"))
            raise NoGuest(f"the memslots of VM {vm.index} cannot be read: {why}")
        return vm.slots

    def l1_memory(self, chosen: Chosen) -> GuestMemory:
        """L1 physical memory, as KVM finds L1's tables in it."""
        return self.memory_of(chosen.owner, self.slots(chosen))

    def memory_of(self, vm: Vm, slots: MemSlots) -> GuestMemory:
        spans = tuple(
            Span(slot.start, slot.size, slot.userspace_addr, no_table_in(self.kernel, slot))
            for slot in slots.slots
        )

        def translate(address: HostVirt) -> HostPhys:
            found = self.host_walk(vm, address)
            if found.physical is None:
                why = f"in the process that runs L1: {found.why}"
                kind = found.unread or UnreadKind.UNREADABLE
                raise MemoryUnreadable(address, 1, why, kind)
            return found.physical

        return GuestMemory(spans, translate, self.kernel.physical)

    def host_walk(self, vm: Vm, address: HostVirt) -> Translation:
        """The page tables of the process that runs `vm`."""
        if vm.mm_pgd is None:
            why = next((each for each in vm.problems if each.startswith(PROCESS)), "")
            if why:
                raise NoGuest(f"the page tables of VM {vm.index} cannot be found: {why}")
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
        cpu = self._ept02_cpu(chosen) if which is Which.SHADOW else HOST
        return Ept(which, own_eptp(found, found.root.hpa), cpu, self.kernel.physical)

    def _ept02_cpu(self, chosen: Chosen) -> Capabilities:
        """Where it is not known what L1 has in force, bit 10 is no right."""
        try:
            l1 = self._ept12(chosen).cpu
            return ept02_cpu(l1, spte_format(self.kernel, chosen.owner.value)) if l1.mbec else HOST
        except NeptError:
            return HOST

    def _ept12(self, chosen: Chosen) -> Ept:
        found = self.vmcs12(chosen)
        if not found.ept_enabled:
            raise NoGuest(
                "L1 runs this L2 without EPT (secondary control bit 1 is clear)",
                " ".join(
                    (
                        "L2's page tables lead to L1 physical addresses then: there is no EPT12, "
                        "and nept-walk --virtual ADDRESS follows a linear address.",
                        *(f"But {caveat}." for caveat in found.caveats),
                    )
                ),
            )
        offered = chosen.vcpu.capabilities
        if offered is None:
            why = chosen.vcpu.capabilities_unknown or "it is no VMX vCPU"
            raise NoGuest(f"VM {chosen.vm}, vCPU {chosen.place}: {why}")
        cpu = in_force(offered, found.secondary)
        return Ept(Which.L1, found.eptp, cpu, self.l1_memory(chosen), found.caveats)

    def scan(self, ept: Ept, low: int, high: int) -> Scan[Any, Any]:
        """The mappings of `ept` in a range, in the spaces that `ept.which` tells."""
        return Scan(ept.memory, ept.eptp, ept.cpu, low, high)

    # -- the journey ----------------------------------------------------------------------------

    def journey(self, chosen: Chosen, asked: L2Phys) -> Journey:
        """Follow `asked` by three ways; raises NoGuest where L1 has no EPT12, BadInput for what
        is no physical address."""
        check_physical(asked)
        return follow(self, chosen, asked)
