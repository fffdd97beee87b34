# SPDX-License-Identifier: GPL-2.0-or-later
"""What a prediction for a live L2 is made from: tables, controls and capabilities.

Nothing here reads the exit fields of vmcs12, nor what KVM keeps of the processor's last exit: a
prediction must not know its answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.address import L1Phys
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.memory.reader import PageCache, PhysicalMemory
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session, Which
from gdb_nept.predict.access import Access, Controls
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Prediction


@dataclass(frozen=True)
class Ground:
    """EPT12 as it stands, and what is in force for it."""

    memory: PhysicalMemory[L1Phys]
    eptp: Eptp
    cpu: Capabilities
    controls: Controls

    @property
    def refusal(self) -> str:
        """Why VM entry refuses the EPTP, so that no L2 runs with it; '' if it does not."""
        return self.eptp.problem(self.cpu)

    def predict(self, access: Access, model: Model) -> Prediction[L1Phys]:
        return model.predict(self.memory, self.eptp, access, self.cpu, self.controls)


def ground(session: Session, chosen: Chosen) -> Ground:
    """Raises NoGuest where L1 runs no L2 with EPT."""
    ept12 = session.ept(chosen, Which.L1)
    memory: PageCache[L1Phys] = PageCache(session.l1_memory(chosen))
    return Ground(memory, ept12.eptp, ept12.cpu, controls_of(session.vmcs12(chosen)))


def controls_of(vmcs12: Vmcs12) -> Controls:
    """KVM's vmcs12 has no SPP table, and no KVM offers L1 sub-page permissions."""
    secondary = vmcs12.secondary
    return Controls(
        pml=bool(secondary.pml),
        pml_index=vmcs12.number("guest_pml_index"),
        ve=bool(secondary.ept_violation_ve),
    )
