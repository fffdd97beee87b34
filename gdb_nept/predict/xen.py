# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit that Xen as L0 makes for L1.

xen/arch/x86: hvm/vmx/vmx.c ept_handle_violation(), hvm/vmx/vvmx.c nvmx_hap_walk_L1_p2m() and
sync_vvmcs_ro(), mm/hap/nested_ept.c nept_walk_tables() and nept_translate_l2ga().  What is named in
`Rule` holds for every Xen that has nested_ept.c (4.3, 2013) up to 4.21.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

from gdb_nept.address import L2Virt, Out
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.cpu import ANY_LARGE_PAGE, Capabilities, EptVpidCap
from gdb_nept.arch.ept import Eptp
from gdb_nept.arch.exits import EptViolation
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.predict.access import Access, Apic, Controls, Stage, switched_on
from gdb_nept.predict.apic import apic_access
from gdb_nept.predict.case import KIND, READ, WRITE, Case, Hardware
from gdb_nept.predict.hardware import explain, named
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.predict.passed_on import LINEAR, Known, passed_on
from gdb_nept.predict.qualification import NMI_UNBLOCKING, kind_of
from gdb_nept.walk.ept import walk_ept_by_index
from gdb_nept.walk.result import Cause, Stop

LEVELS = 4
OFFERED = ANY_LARGE_PAGE  # NEPT_CAP_BITS, never asked again
RAW = 0xFFFF_FFC0  # nept_translate_l2ga(): exit_qual & 0xffffffc0
RIGHTS = EptViolation.readable.mask | EptViolation.writable.mask | EptViolation.executable.mask


class Rule(Enum):
    """What Xen does otherwise than the processor."""

    RAW_BITS = (
        "bits 31:6 of a violation are those with which the processor left L2 "
        "(nept_translate_l2ga())"
    )
    WRITE_READS = "a write is a read too (ept_handle_violation(): npfec.read_access)"
    TABLE_IN_NO_MEMORY = (
        "a table that Xen cannot map is a misconfiguration (nept_walk_tables(): map_err), unless "
        "it is paged out: then L2 tries again, and L1 is told nothing"
    )
    FOUR_LEVELS = (
        "of the EPTP nothing but the address counts, and it is not checked: 4 levels, no accessed "
        "and dirty flags (nvmx_vcpu_eptp_base(), nept_walk_tables())"
    )
    HIGH_BITS_IGNORED = "bits 51:48 of the address are not looked at (ept_lvl_table_offset())"
    EMULATED_IS_NOT_TOLD = (
        "a failing access of Xen's own emulator is no exit for L1 (mm/p2m.c paging_gva_to_gfn())"
    )


@dataclass(frozen=True)
class Xen:
    """Xen, and the processor that it runs on."""

    name: str
    hardware: Hardware

    def refuses(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> str:
        """Why VM entry fails, or '': Xen takes any EPTP, and offers L1 none of these controls
        (vvmx.c nvmx_msr_read_intercept(), MSR_IA32_VMX_PROCBASED_CTLS2)."""
        refused = ", ".join(switched_on(cpu, controls))
        return f"{refused}: not offered to L1 by Xen" if refused else ""


def reflect_by_xen(
    memory: PhysicalMemory[Out],
    eptp: Eptp,
    access: Access,
    cpu: Capabilities,
    xen: Xen,
    apic: Apic | None = None,
) -> Prediction[Out]:
    """What L1 must find in its VMCS after `access`; TRANSLATED if EPT12 allows it."""
    plain = Eptp(Eptp.build(memory_type=6, walk_length=LEVELS - 1, address=eptp.address))
    offered = _offered(cpu)
    walk = walk_ept_by_index(memory, plain, access.gpa, offered)
    case = Case(walk, access, plain, offered, Controls(apic=apic), xen.hardware)
    found = _outcome(case)
    found = replace(found, rules=(*_rules(case, eptp), *found.rules))
    if access.emulated and found.reason is not None:
        why = f"{found.why}; Xen's emulator tells L1 nothing of it"
        rules = (Rule.EMULATED_IS_NOT_TOLD.name,)
        return Prediction(Outcome.L0_INTERNAL, case.walk, why, change=found.change, rules=rules)
    return found


# The width that nept_rsv_bits_check() goes by is the host's (EPT_MUST_RSV_BITS: paddr_bits), as is
# whether X alone is allowed (nept_rwx_bits_check()): those of `cpu`, whatever CPUID tells L1.
@lru_cache(maxsize=64)
def _offered(cpu: Capabilities) -> Capabilities:
    return Capabilities(cpu.maxphyaddr, EptVpidCap(cpu.ept_vpid_cap.value | OFFERED))


def _rules(case: Case[Out], eptp: Eptp) -> tuple[str, ...]:
    found = []
    if eptp.levels != LEVELS or eptp.accessed_dirty:
        found.append(Rule.FOUR_LEVELS)
    if case.access.gpa >= case.eptp.reach:
        found.append(Rule.HIGH_BITS_IGNORED)
    return tuple(each.name for each in found)


def _outcome(case: Case[Out]) -> Prediction[Out]:
    if case.walk.stop is not None:
        return _stopped(case, case.walk.stop)
    lacking = _kind(case) & ~case.allowed
    if lacking:
        return _violation(case, *explain(case, lacking))
    allowed = "EPT12 allows it: Xen deals with the access"
    virtualized = None if case.access.emulated else apic_access(case)
    return virtualized or Prediction(Outcome.TRANSLATED, case.walk, allowed)


def _kind(case: Case[Out]) -> int:
    """Bits 2:0 of the access with which Xen walks EPT12."""
    raw = case.access.raw
    kind = kind_of(case).value if raw is None else raw & KIND
    return kind | READ if kind & WRITE else kind


def _stopped(case: Case[Out], stop: Stop) -> Prediction[Out]:
    if stop.cause in (Cause.UNREADABLE, Cause.NO_WALK):
        return Prediction(Outcome.UNKNOWN, case.walk, stop.why)
    if stop.cause is Cause.NO_MEMORY:
        change = "let the entry above, or the EPTP, name memory of L1"
        found = _misconfig(case, stop.why, change)
        return replace(found, rules=(*found.rules, Rule.TABLE_IN_NO_MEMORY.name))
    step = case.walk.steps[-1]
    if stop.cause is Cause.MISCONFIGURED:
        why = f"{stop.why}, at {step.address:#x}"
        return _misconfig(case, why, f"correct bits {stop.bits:#x} of the {named(step)}")
    why = f"the {named(step)} is not present ({step.entry.value:#x})"
    return _violation(case, why, f"make the {named(step)} present")


def _violation(case: Case[Out], why: str, change: str) -> Prediction[Out]:
    """Bits 5:0 are Xen's own: no rights at all if the walk did not end at a page."""
    rights = (case.walk.rights.value << EptViolation.readable.low) & RIGHTS if case.complete else 0
    raw = _raw(case)
    rules = [Rule.RAW_BITS]
    if _kind(case) & WRITE and not case.needed & READ:
        rules.append(Rule.WRITE_READS)
    return Prediction(
        Outcome.VIOLATION,
        case.walk,
        why,
        qualification=raw.value | _kind(case) | rights,
        mask=ALL_BITS & ~RAW | raw.mask,
        gpa=case.access.gpa,
        gla=_linear_address(case),
        change=change,
        rules=tuple(each.name for each in rules),
    )


def _raw(case: Case[Out]) -> Known:
    """Of those that are not seen, bits 8:7 follow from the access, and bit 12 if it is said."""
    if case.access.raw is not None:
        return passed_on(case, RAW)
    return passed_on(case, LINEAR | (NMI_UNBLOCKING if case.access.nmi_unblocking else 0))


def _misconfig(case: Case[Out], why: str, change: str) -> Prediction[Out]:
    gpa, gla = case.access.gpa, _linear_address(case)
    return Prediction(
        Outcome.MISCONFIG,
        case.walk,
        why,
        qualification=0,
        mask=ALL_BITS,
        gpa=gpa,
        gla=gla,
        change=change,
    )


def _linear_address(case: Case[Out]) -> L2Virt | None:
    """L1 reads the processor's own field (sync_vvmcs_ro())."""
    return None if case.access.stage is Stage.PDPTE else case.access.gla
