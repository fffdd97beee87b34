# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit that KVM makes for L1, from its own walk of EPT12.

The processor runs L2 on EPT02, KVM's shadow, and faults there.  KVM then walks EPT12 in software
with the kind of access that the processor reported; where that walk fails, it writes an exit into
vmcs12 (arch/x86/kvm: mmu/paging_tmpl.h walk_addr_generic(), vmx/nested.c
nested_ept_inject_page_fault()).  The same walk serves KVM's instruction emulator
(`Access.emulated`), with other results.

What L1 sees has changed over the years: kvm.py has the rules, passed_on.py the fields.
"""

from __future__ import annotations

from dataclasses import replace

from gdb_nept.address import Out
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.predict import passed_on
from gdb_nept.predict.access import Access, Controls, Stage
from gdb_nept.predict.apic import apic_access
from gdb_nept.predict.case import WRITE, Case
from gdb_nept.predict.hardware import PML_LAST, explain, named
from gdb_nept.predict.kvm import Feature, Habit, Kvm
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.predict.passed_on import Known, Met
from gdb_nept.walk.ept import walk_ept_by_index
from gdb_nept.walk.result import Cause, Stop

FAILED = (Outcome.VIOLATION, Outcome.MISCONFIG, Outcome.PML_FULL)  # of KVM's own walk
ALLOWED = "EPT12 allows it: L0 alone deals with the access"
WRITABLE = "let it be writable in EPT12, or set EPTP bit 6"
UPPER = "KVM does not look at bits {:#x} of the address, and the processor does: it faults again"
UNFIXED = (
    "KVM takes the page walk for a read and maps the page read-only, and EPT02 needs W for it: "
    "no exit for L1, and L2 makes no progress"
)


def reflect(
    memory: PhysicalMemory[Out],
    eptp: Eptp,
    access: Access,
    cpu: Capabilities,
    controls: Controls,
    kvm: Kvm,
) -> Prediction[Out]:
    """What L1 must find in vmcs12 after `access`.

    TRANSLATED means that EPT12 allows it: L0 alone deals with the access then.
    """
    offered = kvm.offers(eptp, cpu, controls)
    walk = walk_ept_by_index(memory, offered.eptp, access.gpa, offered.cpu)
    case = Case(walk, access, offered.eptp, offered.cpu, offered.controls, kvm.hardware)
    found = _outcome(Met(case, kvm))
    if not access.emulated or found.outcome not in FAILED:
        return found
    if access.stage is Stage.PDPTE:
        return _general_protection(found)
    return found if Feature.EMULATED_TOLD in kvm else _untold(found, access)


def _outcome(met: Met[Out]) -> Prediction[Out]:
    case = met.case
    if case.walk.stop is not None:
        return _stopped(met, case.walk.stop)
    if met.lacking:
        return _violation(met, *explain(case, met.lacking))
    if _log_is_full(met):
        return _pml_full(met)
    return _translated(met)


def _translated(met: Met[Out]) -> Prediction[Out]:
    case = met.case
    upper = case.access.gpa - case.access.gpa % case.eptp.reach
    if upper:
        why, rules = UPPER.format(upper), (Habit.UPPER_BITS_IGNORED.name,)
        return Prediction(Outcome.TRANSLATED, case.walk, f"{ALLOWED}; {why}", rules=rules)
    if _log_would_be_full(met):
        rules = (Habit.DIRTY_ALONE_IS_LOGGED.name,)
        return Prediction(Outcome.TRANSLATED, case.walk, ALLOWED, rules=rules)
    if met.fixed_up and not case.allowed & WRITE and not met.emulated:
        return Prediction(Outcome.TRANSLATED, case.walk, UNFIXED, change=WRITABLE)
    virtualized = None if met.emulated else apic_access(case)
    return virtualized or Prediction(Outcome.TRANSLATED, case.walk, ALLOWED)


def _stopped(met: Met[Out], stop: Stop) -> Prediction[Out]:
    walk = met.case.walk
    if stop.cause is Cause.MISCONFIGURED:
        return _misconfig(met, stop)
    if stop.cause in (Cause.UNREADABLE, Cause.NO_WALK):
        return Prediction(Outcome.UNKNOWN, walk, stop.why)
    if stop.cause is Cause.NO_MEMORY:
        return _no_table(met, stop) if walk.steps else _no_root(met, stop)
    step = walk.steps[-1]
    why = f"the {named(step)} is not present ({step.entry.value:#x})"
    return _violation(met, why, f"make the {named(step)} present")


def _no_table(met: Met[Out], stop: Stop) -> Prediction[Out]:
    """A table of EPT12 lies where L1 has no memory."""
    found = _violation(met, stop.why, "let the entry above name memory of L1")
    return replace(found, rules=(*found.rules, Habit.TABLE_IN_NO_MEMSLOT.name))


def _no_root(met: Met[Out], stop: Stop) -> Prediction[Out]:
    """mmu_check_root(), when KVM builds EPT02, and so before any access; from 6.6 on an empty root
    is built, and the walk finds no table."""
    why = f"the root of EPT12: {stop.why}"
    change = "let the EPTP name memory of L1"
    if Feature.DUMMY_ROOT in met.kvm:
        found = _violation(met, why, change)
        return replace(found, rules=(*found.rules, Habit.TABLE_IN_NO_MEMSLOT.name))
    if Feature.TRIPLE_FAULT_TOLD in met.kvm:
        why = f"{why}: mmu_check_root() asks for a triple fault, which is an exit for L1"
        return Prediction(Outcome.TRIPLE_FAULT, met.case.walk, why, 0, ALL_BITS, change=change)
    why = f"{why}: mmu_check_root() asks for a triple fault, and L1's VM ends (KVM_EXIT_SHUTDOWN)"
    return Prediction(Outcome.SHUTDOWN, met.case.walk, why, change=change)


def _violation(met: Met[Out], why: str, change: str) -> Prediction[Out]:
    told = passed_on.violation(met)
    return _exit(met, Outcome.VIOLATION, told, why, change)


def _misconfig(met: Met[Out], stop: Stop) -> Prediction[Out]:
    last = met.case.walk.steps[-1]
    told = passed_on.misconfiguration(met)
    why = f"{stop.why}, at {last.address:#x}"
    return _exit(
        met, Outcome.MISCONFIG, told, why, f"correct bits {stop.bits:#x} of the {named(last)}"
    )


def _pml_full(met: Met[Out]) -> Prediction[Out]:
    """nested_vmx_write_pml_buffer(): KVM's log is checked where the dirty flag must be set."""
    why = f"the dirty flag must be set, and the PML index is {met.case.controls.pml_index:#x}"
    change = f"reset the PML index to {PML_LAST} or below"
    return _exit(met, Outcome.PML_FULL, passed_on.full_log(met), why, change)


def _log_is_full(met: Met[Out]) -> bool:
    """Habit.DIRTY_ALONE_IS_LOGGED."""
    case = met.case
    enabled = case.controls.pml and case.eptp.accessed_dirty
    full = enabled and case.controls.pml_index > PML_LAST
    return bool(full and met.kind & WRITE and not case.leaf.dirty)


def _log_would_be_full(met: Met[Out]) -> bool:
    """For the processor, which must set an accessed flag."""
    controls = met.case.controls
    full = controls.pml and controls.pml_index > PML_LAST and met.case.eptp.accessed_dirty
    return bool(full and not all(step.entry.accessed for step in met.case.walk.steps))


def _exit(met: Met[Out], outcome: Outcome, told: Known, why: str, change: str) -> Prediction[Out]:
    return Prediction(
        outcome,
        met.case.walk,
        why,
        qualification=told.value & told.mask,
        mask=told.mask,
        gpa=passed_on.guest_physical(met),
        gla=passed_on.guest_linear(met),
        change=change,
        rules=passed_on.rules(met, outcome is Outcome.VIOLATION),
    )


def _untold(found: Prediction[Out], access: Access) -> Prediction[Out]:
    """Before 3.18 walk_addr_generic() of nested_mmu takes a table of L2's that EPT12 refuses for
    one that is not present, and leaves the fault of a page as it found it."""
    if access.stage is Stage.WALK:
        why = f"{found.why}; walk_addr_generic() makes it a #PF in L2, and no exit"
        return Prediction(Outcome.PAGE_FAULT, found.walk, why, change=found.change)
    why = f"{found.why}; walk_addr_generic() fails and does not fill in the fault that is injected"
    return Prediction(Outcome.UNKNOWN, found.walk, why, change=found.change)


def _general_protection(found: Prediction[Out]) -> Prediction[Out]:
    """Habit.EMULATED_PDPTES: load_pdptrs() keeps no exception, and fails.

    A full log is forgotten there too, and nested.pml_full stays set: L1 is told of it at the next
    EPT violation.
    """
    why = f"{found.why}; load_pdptrs() makes it a #GP in L2, and no exit"
    if found.outcome is Outcome.PML_FULL:
        why = f"{why} (L1 gets the full log at its next EPT violation instead of that)"
    return Prediction(
        Outcome.GENERAL_PROTECTION,
        found.walk,
        why,
        change=found.change,
        rules=(Habit.EMULATED_PDPTES.name,),
    )
