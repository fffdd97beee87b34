# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit that KVM makes for L1, from its own walk of EPT12.

The processor runs L2 on EPT02, KVM's shadow, and faults there.  KVM then walks EPT12 in software
with the kind of access that the processor reported; where that walk fails, it writes an exit into
vmcs12 (arch/x86/kvm: mmu/paging_tmpl.h walk_addr_generic(), vmx/nested.c
nested_ept_inject_page_fault()).  The same walk serves KVM's instruction emulator
(`Access.emulated`), with other results.

What L1 sees has changed over the years.  A kernel is a set of `Feature`s; which it has is probed
from its types (judge/features.py), never from its version.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from gdb_nept.address import L2Phys, L2Virt, Out
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.arch.exits import EptViolation
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.case import FETCH, READ, WRITE, Case, Hardware
from gdb_nept.predict.hardware import PML_LAST, explain, named
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.predict.qualification import ADVANCED, EVERYTHING, kind_of, qualify
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.result import Cause, Stop

WHOLE = (1 << 64) - 1  # KVM writes every bit of the field
LINEAR = EptViolation.linear_valid.mask | EptViolation.translated.mask
PAGE_OFFSET = 0xFFF
ALL_RIGHTS = 7


class Feature(Enum):
    """What KVMs do differently (files in arch/x86/kvm)."""

    LINEAR_COPIED = (
        "the guest-linear address reaches vmcs12 "
        "(vmx/nested.c sync_vmcs02_to_vmcs12(), 4.9, 119a9c01a592)"
    )
    RIGHTS_OF_ENTRIES = (
        "bits 5:3 are the entries' R, W, X and not ACC_* flags "
        "(mmu/paging_tmpl.h walk_addr_generic(), 4.12, 0780516a18f8)"
    )
    KIND_OF_WALK = (
        "bits 2:0 come from the access that KVM walks with "
        "(mmu/paging_tmpl.h walk_addr_generic(), 4.17, ddd6f0e94d31)"
    )
    MISCONFIG_CLEARED = (
        "a misconfiguration has qualification 0 "
        "(vmx/nested.c nested_ept_inject_page_fault(), 6.10, 0c4765140351)"
    )
    LINEAR_SYNTHESISED = (
        "bits 8:7 of a fault found by the emulator are made for it "
        "(vmx/nested.c nested_ept_inject_page_fault(), from_hardware; 7.2, 6.12.117)"
    )
    ONE_KIND = (
        "bits 2:0 are one of W, X, R, with R for every page walk "
        "(mmu/paging_tmpl.h walk_addr_generic(), 7.2)"
    )
    MBEC = "mode-based execute control is offered to L1 (vmx/nested.c, 7.2)"
    ADVANCED = "bits 11:9 are passed on (vmx/nested.c nested_ept_inject_page_fault(), 7.2)"


@dataclass(frozen=True)
class Kvm:
    """A KVM: its features, and the processor that it runs on."""

    name: str
    features: frozenset[Feature]
    hardware: Hardware

    def __contains__(self, feature: Feature) -> bool:
        return feature in self.features


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
    cpu = replace(cpu, mbec=cpu.mbec and Feature.MBEC in kvm)
    walk = walk_ept(memory, eptp, access.gpa, cpu)
    case = Case(walk, access, eptp, cpu, controls, kvm.hardware)
    kind = _walked_with(case, kvm)
    if walk.stop is not None:
        return _stopped(case, walk.stop, kind, kvm)
    lacking = kind & ~case.allowed
    if lacking:
        return _violation(case, kind, kvm, *explain(case, lacking))
    if _log_is_full(case, kind):
        return _pml_full(case)
    return Prediction(Outcome.TRANSLATED, walk, "EPT12 allows it: L0 alone deals with the access")


# -- with which access KVM walks EPT12 ----------------------------------------------------------


def _walked_with(case: Case[Out], kvm: Kvm) -> int:
    """Bits 2:0 of the access that KVM walks EPT12 with."""
    if not case.access.emulated:
        return kind_of(case).value  # handle_ept_violation() takes the processor's
    if case.access.stage is Stage.WALK:
        # walk_addr_generic() of nested_mmu: nested_access is USER, and WRITE as L2's own paging
        # mode has A/D flags, whatever EPTP12 says of its own
        return READ | WRITE
    kind = {Op.READ: READ, Op.WRITE: WRITE, Op.FETCH: FETCH, Op.RMW: WRITE}[case.access.op]
    if Feature.ONE_KIND in kvm:
        return kind
    return kind | READ  # translate_nested_gpa() adds PFERR_USER, which EPT takes as a read


# -- what KVM writes into vmcs12 ----------------------------------------------------------------


def _stopped(case: Case[Out], stop: Stop, kind: int, kvm: Kvm) -> Prediction[Out]:
    if stop.cause is Cause.MISCONFIGURED:
        return _misconfig(case, stop, kind, kvm)
    if stop.cause is Cause.UNREADABLE:
        return Prediction(Outcome.UNKNOWN, case.walk, stop.why)
    if stop.cause is Cause.NO_MEMORY:
        return _no_table(case, stop, kind, kvm)
    if stop.cause is Cause.BEYOND_WIDTH:
        return _beyond_width(case, stop, kind, kvm)
    step = case.walk.steps[-1]
    why = f"the {named(step)} is not present ({step.entry.value:#x})"
    return _violation(case, kind, kvm, why, f"make the {named(step)} present")


def _no_table(case: Case[Out], stop: Stop, kind: int, kvm: Kvm) -> Prediction[Out]:
    """A table of EPT12 lies where L1 has no memory: the rights of the levels above stay."""
    if not case.walk.steps:
        return Prediction(Outcome.UNKNOWN, case.walk, f"the root of EPT12: {stop.why}")
    found = _violation(case, kind, kvm, stop.why, "let the entry above name memory of L1")
    rights = (case.walk.rights.value & ALL_RIGHTS) << EptViolation.readable.low
    return replace(found, qualification=found.qualification | rights)


def _beyond_width(case: Case[Out], stop: Stop, kind: int, kvm: Kvm) -> Prediction[Out]:
    """The processor refuses the address, and KVM's walk_addr_generic() looks at the lower bits
    alone: what the entries there grant, if they refuse it too, is in the exit."""
    why = f"{stop.why}; KVM's own walk looks at the lower bits alone (walk_addr_generic())"
    found = _violation(case, kind, kvm, why, "use an address within the width")
    rights = EptViolation.readable.mask | EptViolation.writable.mask
    rights |= EptViolation.executable.mask | EptViolation.user_executable.mask
    return replace(found, qualification=found.qualification & ~rights, mask=found.mask & ~rights)


def _violation(case: Case[Out], kind: int, kvm: Kvm, why: str, change: str) -> Prediction[Out]:
    linear, mask = _linear(case, kvm)
    if case.access.emulated and Feature.KIND_OF_WALK not in kvm:
        mask &= ~(READ | WRITE | FETCH)  # those of the last EPT violation of the processor
    if Feature.ONE_KIND not in kvm:
        mask &= ~_implementation_specific(case)
    return Prediction(
        Outcome.VIOLATION,
        case.walk,
        why,
        linear | _reported_kind(case, kind, kvm) | _rights(case, kvm),
        mask,
        _guest_physical(case),
        _guest_linear(case, kvm),
        change,
        () if case.access.emulated else kind_of(case).rules,
    )


def _misconfig(case: Case[Out], stop: Stop, kind: int, kvm: Kvm) -> Prediction[Out]:
    """Before 6.10 the qualification is the one with which the processor left EPT02: its kind of
    access and bits 8:7, and no rights, since KVM shadows no misconfigured entry."""
    value, mask = 0, WHOLE
    if Feature.MISCONFIG_CLEARED not in kvm:
        value = kind | (qualify(case).value & LINEAR)
        mask = 0 if case.access.emulated else WHOLE & ~_implementation_specific(case)
    return Prediction(
        Outcome.MISCONFIG,
        case.walk,
        f"{stop.why}, at {case.walk.steps[-1].address:#x}",
        value & mask,
        mask,
        _guest_physical(case),
        _guest_linear(case, kvm),
        f"correct bits {stop.bits:#x} of the {named(case.walk.steps[-1])}",
    )


def _pml_full(case: Case[Out]) -> Prediction[Out]:
    """nested_vmx_write_pml_buffer(): KVM's log is checked where the dirty flag must be set."""
    why = f"the dirty flag must be set, and the PML index is {case.controls.pml_index:#x}"
    nmi = EptViolation.nmi_unblocking.mask if case.access.nmi_unblocking else 0
    change = f"reset the PML index to {PML_LAST} or below"
    gpa = _guest_physical(case)
    return Prediction(Outcome.PML_FULL, case.walk, why, nmi, WHOLE, gpa, change=change)


def _log_is_full(case: Case[Out], kind: int) -> bool:
    controls = case.controls
    enabled = controls.pml and case.eptp.accessed_dirty and controls.pml_index > PML_LAST
    return bool(enabled and kind & WRITE and not case.leaf.dirty)


# -- fields and bits ----------------------------------------------------------------------------


def _reported_kind(case: Case[Out], kind: int, kvm: Kvm) -> int:
    if Feature.ONE_KIND not in kvm:
        return kind
    one = WRITE if kind & WRITE else FETCH if kind & FETCH else READ
    return one | (READ if case.access.stage is Stage.WALK else 0)


def _implementation_specific(case: Case[Out]) -> int:
    """Bit 0 of a read-modify-write, which KVM passes on as the processor has it."""
    return 0 if case.access.emulated else EVERYTHING & ~kind_of(case).mask


def _rights(case: Case[Out], kvm: Kvm) -> int:
    """Bits 6:3."""
    if not case.complete:
        return 0
    rights = case.walk.rights
    allowed = rights.value & ALL_RIGHTS if Feature.RIGHTS_OF_ENTRIES in kvm else _mixed(case)
    user = EptViolation.user_executable.mask if case.cpu.mbec and rights.user_execute else 0
    return allowed << EptViolation.readable.low | user


def _mixed(case: Case[Out]) -> int:
    """`pt_access & pte` before 4.12: the tables' rights as ACC_EXEC 1, ACC_WRITE 2, ACC_USER 4
    (always set), the leaf's as R 1, W 2, X 4."""
    tables = ALL_RIGHTS
    for step in case.walk.steps[:-1]:
        tables &= step.entry.execute | step.entry.write << 1 | 1 << 2
    return tables & case.leaf.value & ALL_RIGHTS


def _linear(case: Case[Out], kvm: Kvm) -> tuple[int, int]:
    """Bits 11:7, and the mask of the bits of the whole field that are known."""
    processor = qualify(case)
    if case.access.emulated:
        if Feature.LINEAR_SYNTHESISED in kvm:
            return processor.value & LINEAR, WHOLE
        return 0, WHOLE & ~LINEAR  # those of the processor's last EPT violation
    if Feature.ADVANCED in kvm and case.cpu.ept_vpid_cap.advanced_exit:
        return processor.value & (LINEAR | ADVANCED), WHOLE & ~(ADVANCED & ~processor.mask)
    return processor.value & LINEAR, WHOLE


def _guest_physical(case: Case[Out]) -> L2Phys:
    """The emulator translates page by page: walk_addr_generic() of nested_mmu passes
    gfn_to_gpa(), so bits 11:0 are lost in every version."""
    gpa = case.access.gpa
    return L2Phys(gpa & ~PAGE_OFFSET) if case.access.emulated else gpa


def _guest_linear(case: Case[Out], kvm: Kvm) -> L2Virt | None:
    """What the processor left in vmcs02; after an emulated access that is an older exit's."""
    unknown = case.access.emulated or case.access.stage is Stage.PDPTE
    return None if unknown or Feature.LINEAR_COPIED not in kvm else case.access.gla
