# SPDX-License-Identifier: GPL-2.0-or-later
"""One VM of a host: an L1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdb_nept.address import L1Phys
from gdb_nept.api.vcpu import Vcpu
from gdb_nept.nested.choice import Chosen
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

    def shadow_pages(self) -> ShadowPages:
        """What KVM keeps of each table of its shadow MMU: all of EPT02's.  Raises
        MemberMissing."""
        from gdb_nept.kvm.shadow_page import shadow_mmu_pages

        return shadow_mmu_pages(self._found.value)
