# SPDX-License-Identifier: GPL-2.0-or-later
"""One vCPU of a VM, and the L2 that L1 runs on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gdb_nept.address import HostPhys, L1Phys, L2Phys, L2Virt
from gdb_nept.memory.budget import Budget
from gdb_nept.nested.agreement import Agreement, Fault, Verdict
from gdb_nept.nested.bulk import ENTRIES, Comparison, Stretch
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.examine import Bytes, Space, all_or_none, examine
from gdb_nept.nested.journey import Journey
from gdb_nept.nested.session import Session
from gdb_nept.nested.spaces import Memory, l1_of_vcpu, l2_of_vcpu
from gdb_nept.nested.table import Table
from gdb_nept.nested.verdict import verdict
from gdb_nept.walk.runs import Unread

if TYPE_CHECKING:
    from gdb_nept.judge.check import Check
    from gdb_nept.kvm import vcpu
    from gdb_nept.kvm.vmcs12 import Vmcs12
    from gdb_nept.nested.registers import Registers
    from gdb_nept.nested.virtual import VirtualWalk
    from gdb_nept.predict.access import Access
    from gdb_nept.predict.linear import LinearAccess, LinearPrediction
    from gdb_nept.predict.outcome import Prediction


@dataclass(frozen=True)
class Walked:
    """Where an L2 physical address leads by each of the three ways, and what that means."""

    journey: Journey
    verdict: Verdict

    @property
    def l1(self) -> L1Phys | None:
        """Where EPT12 leads; None where it does not translate (`journey.ept12.stop` says why)."""
        return self.journey.ept12.address

    @property
    def host(self) -> HostPhys | None:
        """Where EPT12, the memslot and the host's page tables lead; None if nowhere."""
        return self.journey.host_physical

    @property
    def agreement(self) -> Agreement:
        return self.verdict.agreement

    @property
    def fault(self) -> Fault:
        return self.verdict.fault


class Vcpu:
    """One vCPU of a VM, and the L2 that L1 runs on it."""

    def __init__(self, session: Session, chosen: Chosen) -> None:
        self._session = session
        self._chosen = chosen

    @property
    def number(self) -> int:
        """Its index in its VM."""
        return self._chosen.place

    @property
    def state(self) -> vcpu.Vcpu:
        """What KVM keeps of it, decoded."""
        return self._chosen.vcpu

    @property
    def nested(self) -> bool | None:
        """Whether it is in VMX operation: an L1 hypervisor runs on it.  None if not known."""
        nested = self._chosen.vcpu.nested
        return None if nested is None else nested.vmxon

    @property
    def l2_active(self) -> bool | None:
        """Whether L2 runs on it, and not L1.  None if not known."""
        nested = self._chosen.vcpu.nested
        return None if nested is None else nested.l2_active

    def vmcs12(self) -> Vmcs12:
        """The VMCS that L1 runs L2 with.  Raises NoGuest where L1 has loaded none."""
        return self._session.vmcs12(self._chosen)

    @property
    def ept12(self) -> Table[L2Phys, L1Phys]:
        """L1's tables for L2.  Raises NoGuest where L1 uses no EPT, or runs no L2."""
        return Table(self._session, self._chosen, Which.L1)

    @property
    def ept02(self) -> Table[L2Phys, HostPhys]:
        """KVM's shadow of EPT12, which the processor uses for L2.  Raises NoGuest if there is none
        now."""
        return Table(self._session, self._chosen, Which.SHADOW)

    @property
    def ept01(self) -> Table[L1Phys, HostPhys]:
        """KVM's tables for L1.  Raises NoGuest if there are none now."""
        return Table(self._session, self._chosen, Which.HOST)

    def walk(self, address: L2Phys) -> Walked:
        """As nept-walk.  Raises NoGuest where L1 uses no EPT, BadInput for what is no physical
        address."""
        journey = self._session.journey(self._chosen, address)
        return Walked(journey, verdict(journey))

    def predict(self, access: Access, model: str = "kvm") -> Prediction[L1Phys]:
        """Which exit an access of L2's to an L2 physical address must cause, from the tables alone.
        `model` is one of nept-predict's.  Raises BadInput, NoGuest."""
        from gdb_nept.judge.oracle import oracle

        return oracle(self._session, self._chosen, model).physical(access)

    def predict_linear(self, access: LinearAccess, model: str = "kvm") -> LinearPrediction:
        """The same of an access to an L2 linear address, L2's own tables walked first."""
        from gdb_nept.judge.oracle import oracle
        from gdb_nept.nested.guest_registers import guest_registers

        paging = guest_registers(self._session, self._chosen).paging
        return oracle(self._session, self._chosen, model).linear(access, paging)

    def registers(self) -> Registers:
        """L2's and L1's, each with where it is from, as nept-regs.  Raises NoGuest where L1 has
        loaded no VMCS."""
        from gdb_nept.nested.registers import registers

        return registers(self._session, self._chosen)

    def walk_virtual(self, address: L2Virt) -> VirtualWalk:
        """From an L2 linear address, as nept-walk --virtual.  Raises BadInput for one that L2
        cannot form in its mode, NoGuest."""
        from gdb_nept.nested.virtual import virtual_walk

        return virtual_walk(self._session, self._chosen, address)

    def host_of(self, address: L2Virt) -> HostPhys:
        """The host physical address behind an L2 linear address.  Raises NoMemory, which says where
        the way ends."""
        from gdb_nept.nested.at_hand import host_of_l2_linear

        return host_of_l2_linear(self._session, self._chosen, address)

    def read_linear(self, address: L2Virt, size: int) -> bytes | Unread:
        """`size` bytes of L2's at a linear address, through L2's own tables and EPT12; all of them
        or none.  Raises BadInput for an address that L2 cannot form in its mode, NoGuest where L1
        has loaded no VMCS."""
        return all_or_none(self.examine(Space.L2_LINEAR, address, size), size)

    def examine(self, space: Space, address: int, size: int) -> Bytes:
        """As nept-x: `size` bytes at an address of `space`, page by page, or those before the first
        that cannot be read, of which `ends` tells.  Raises as read_linear()."""
        return examine(self._session, self._chosen, space, address, size)

    def check(self, model: str = "kvm") -> Check:
        """As nept-check: the last EPT exit that L1 saw, held against the prediction."""
        from gdb_nept.judge.check import check
        from gdb_nept.judge.features import named_model

        return check(self._session, self._chosen, named_model(self._session, self._chosen, model))

    def compare(
        self, low: int = 0, high: int | None = None, limit: int = ENTRIES
    ) -> Iterator[Stretch | Unread]:
        """EPT12 against EPT02 in one pass, as nept-compare: stretches of L2 physical addresses, in
        order, whose pages each have the verdict that `walk` gives them.  What is left once `limit`
        entries were looked at is an Unread.  Raises NoGuest where L1 uses no EPT."""
        return Comparison(self._session, self._chosen, Budget(limit)).stretches(low, high)

    @property
    def l2_memory(self) -> Memory[L2Phys]:
        """L2's physical memory, through EPT12.  Raises NoGuest where L1 uses no EPT."""
        return l2_of_vcpu(self._session, self._chosen)

    @property
    def memory(self) -> Memory[L1Phys]:
        """L1's physical memory, in the address space that this vCPU is in (SMM has its own)."""
        return l1_of_vcpu(self._session, self._chosen)
