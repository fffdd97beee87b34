# SPDX-License-Identifier: GPL-2.0-or-later
"""What a prediction for a live L2 is made from: tables, controls and capabilities.

Nothing here reads the exit fields of vmcs12, nor what KVM keeps of the processor's last exit: a
prediction must not know its answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import ENTRY_SIZE, WALK_LENGTHS, EptEntry, Eptp, index
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.kvm.authority import Authority
from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.memory.reader import PageCache, PhysicalMemory
from gdb_nept.memory.standing import Standing
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.predict.access import Access, Apic, Controls
from gdb_nept.predict.kvm import FOUR
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Prediction


@dataclass(frozen=True)
class Ground:
    """EPT12 as it stands, and what is in force for it.  `pae` is whether L2 uses PAE paging, None
    where that is not known; `caveats` say why EPT12 or the controls may be others."""

    memory: PhysicalMemory[L1Phys]
    eptp: Eptp
    cpu: Capabilities
    controls: Controls
    pae: bool | None = None
    caveats: tuple[str, ...] = ()

    def predict(self, access: Access, model: Model) -> Prediction[L1Phys]:
        return model.predict(self.memory, self.eptp, access, self.cpu, self.controls)

    def standing(self, gpa: L2Phys) -> Ground:
        """Of `gpa` alone, and over the tables as they stand now, whenever it is asked.  An
        older KVM walks 4 levels whatever the EPTP says."""
        memory = Standing(self.memory)
        for levels in {self.eptp.levels, FOUR}.intersection(WALK_LENGTHS):
            _keep_path(memory, L1Phys(self.eptp.address), levels, gpa)
        return replace(self, memory=memory)


def _keep_path(memory: Standing[L1Phys], table: L1Phys, levels: int, gpa: L2Phys) -> None:
    """Each entry that some model may come to: they differ in where they stop."""
    for level in range(levels, 0, -1):
        try:
            entry = EptEntry(memory.keep(L1Phys(table + index(gpa, level) * ENTRY_SIZE)))
        except MemoryUnreadable:
            return
        if entry.leaf_at(level):
            return
        table = L1Phys(entry.address)


def ground(session: Session, chosen: Chosen) -> Ground:
    """Raises NoGuest where L1 runs no L2 with EPT."""
    ept12 = session.ept(chosen, Which.L1)
    memory: PageCache[L1Phys] = PageCache(cast("PhysicalMemory[L1Phys]", ept12.memory))
    vmcs12 = session.vmcs12(chosen)
    caveats = (*ept12.caveats, *_log_in_doubt(vmcs12))
    return Ground(memory, ept12.eptp, ept12.cpu, controls_of(vmcs12), vmcs12.pae, caveats)


def _log_in_doubt(vmcs12: Vmcs12) -> tuple[str, ...]:
    """The PML index decides between a full log and none; L1 may write it without an exit."""
    index = vmcs12.find("guest_pml_index") if vmcs12.secondary.pml else None
    if index is None or index.authority is not Authority.MAYBE_STALE:
        return ()
    return (f"{index.name}: {index.authority.value}: {index.why}",)


def controls_of(vmcs12: Vmcs12) -> Controls:
    """KVM's vmcs12 has no SPP table, and no KVM offers L1 sub-page permissions."""
    secondary = vmcs12.secondary
    return Controls(
        pml=bool(secondary.pml),
        pml_index=vmcs12.number("guest_pml_index"),
        ve=bool(secondary.ept_violation_ve),
        nmi_exiting=bool(vmcs12.pin.nmi_exiting),
        virtual_nmis=bool(vmcs12.pin.virtual_nmis),
        apic=_apic_of(vmcs12) if secondary.virtualize_apic_accesses else None,
    )


def _apic_of(vmcs12: Vmcs12) -> Apic:
    """Primary controls that are not written back yet say nothing of a TPR shadow that the others
    cannot do without (29.2.1.1)."""
    secondary, shadow = vmcs12.secondary, bool(vmcs12.primary.tpr_shadow)
    return Apic(
        vmcs12.number("apic_access_addr"),
        tpr_shadow=shadow,
        registers=bool(shadow and secondary.apic_register_virtualization),
        interrupt_delivery=bool(shadow and secondary.virtual_interrupt_delivery),
    )
