# SPDX-License-Identifier: GPL-2.0-or-later
"""One VM of a host: an L1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdb_nept.address import HostPhys, HostVirt, L1Phys
from gdb_nept.api.vcpu import Vcpu
from gdb_nept.memory.budget import ENTRIES
from gdb_nept.nested.at_hand import host_of_l1, host_of_vmm
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.owners import Owners, owners
from gdb_nept.nested.session import Session
from gdb_nept.nested.spaces import Memory, l1_of_vm

if TYPE_CHECKING:
    from gdb_nept.kvm import vm
    from gdb_nept.kvm.memslots import Slot
    from gdb_nept.kvm.shadow_page import ShadowPages


class Vm:
    """One VM of the host's: an L1."""

    def __init__(self, session: Session, found: vm.Vm) -> None:
        self._session = session
        self._found = found

    @property
    def number(self) -> int:
        """Its number in nept-vms, from the oldest on."""
        return self._found.index

    @property
    def state(self) -> vm.Vm:
        """What KVM keeps of it, decoded; `state.problems` is what could not be read."""
        return self._found

    @property
    def pid(self) -> int | None:
        """The process that runs it; None once that is gone."""
        return self._found.pid

    @property
    def vcpus(self) -> tuple[Vcpu, ...]:
        """Those that can be read; `state.unread` are the others."""
        return tuple(Vcpu(self._session, Chosen(self._found, one)) for one in self._found.vcpus)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Its memslots, lowest first.  Raises NoGuest where they cannot be read."""
        return self._session.slots_of(self._found).slots

    @property
    def memory(self) -> Memory[L1Phys]:
        """L1's physical memory outside SMM.  Raises NoGuest where the memslots cannot be read."""
        return l1_of_vm(self._session, self._found)

    def host_of(self, address: L1Phys) -> HostPhys:
        """The host physical address behind an L1 physical one outside SMM, by its memslot and the
        VMM's page tables.  Raises NoMemory, which says where the way ends; NoGuest."""
        return host_of_l1(self._session, self._found, self._session.slots_of(self._found), address)

    def host_of_virtual(self, address: HostVirt) -> HostPhys:
        """That behind a virtual address of the process that runs the VM.  Raises as host_of()."""
        return host_of_vmm(self._session, self._found, address)

    def owners(self, address: L1Phys, limit: int = ENTRIES) -> Owners:
        """As nept-who --l1: whatever leads to the page of the host that this L1 physical address
        is on, in every VM.  `limit` as Target.owners().  Raises as host_of()."""
        return owners(self._session, self.host_of(address), limit)

    def owners_of_virtual(self, address: HostVirt, limit: int = ENTRIES) -> Owners:
        """The same of a virtual address of the process that runs the VM: nept-who --hva."""
        return owners(self._session, self.host_of_virtual(address), limit)

    def shadow_pages(self) -> ShadowPages:
        """What KVM keeps of each table of its shadow MMU: all of EPT02's.  Raises
        MemberMissing."""
        from gdb_nept.kvm.shadow_page import shadow_mmu_pages

        return shadow_mmu_pages(self._found.value)
