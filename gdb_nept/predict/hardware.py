# SPDX-License-Identifier: GPL-2.0-or-later
"""The VM exit that the processor takes for an access to guest-physical memory.

SDM vol. 3, June 2026 (325384-092): 31.3.3 "EPT-Induced VM Exits", in its order: not present and
misconfigured while walking (walk/ept.py), then the rights at the leaf (31.3.3.2), then the log of
modified pages (31.3.6).  2016 edition: 28.2.3 and 28.2.5.

Where an implementation departs from the SDM, that is a named `Deviation`, never a looser mask.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from gdb_nept.address import L2Phys, Out
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import LEVEL_NAMES, EptEntry, Eptp, page_size
from gdb_nept.arch.exits import EptViolation
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.predict.access import Access, Controls, Stage
from gdb_nept.predict.apic import apic_access
from gdb_nept.predict.case import FETCH, READ, SDM, WRITE, Case, Deviation, Hardware
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.predict.qualification import (
    ASYNCHRONOUS,
    NMI_UNBLOCKING,
    Qualification,
    other_events,
    qualify,
)
from gdb_nept.predict.sub_page import SubPage, walk_sub_page
from gdb_nept.walk.ept import judge, walk_ept
from gdb_nept.walk.result import Cause, Step, Stop, Walk

PML_LAST = 511  # the highest index into the page-modification log
NO_CONTROLS = Controls()
RIGHTS = (EptEntry.read, EptEntry.write, EptEntry.execute, EptEntry.user_execute)
BIT_12 = 1 << 12


def predict(
    memory: PhysicalMemory[Out],
    eptp: Eptp,
    access: Access,
    cpu: Capabilities,
    controls: Controls = NO_CONTROLS,
    hardware: Hardware = SDM,
) -> Prediction[Out]:
    """What `hardware` must do for `access` under the EPT at `eptp`; never raises for the guest."""
    walk = _walk(memory, eptp, access, _as_seen(cpu, hardware), hardware)
    case = Case(walk, access, eptp, cpu, controls, hardware)
    if walk.stop is not None:
        return _stopped(case, walk.stop)
    lacking = case.needed & ~case.allowed
    if lacking == WRITE and _has_sub_pages(case):
        if Deviation.SPP_NEEDS_READ not in hardware or case.allowed & READ:
            return _sub_page(case, memory)
        refused = _violation(case, *explain(case, lacking))
        return replace(refused, rules=(*refused.rules, Deviation.SPP_NEEDS_READ.name))
    if lacking or case.unverified:
        return _violation(case, *explain(case, lacking))
    if _log_is_full(case):
        return _pml_full(case)
    allowed = Prediction(Outcome.TRANSLATED, walk, "every entry on the path allows it")
    return apic_access(case) or allowed


def _as_seen(cpu: Capabilities, hardware: Hardware) -> Capabilities:
    if Deviation.EXECUTE_ONLY_ASSUMED not in hardware:
        return cpu
    cap = EptVpidCap(cpu.ept_vpid_cap.value | EptVpidCap.execute_only.mask)
    return replace(cpu, ept_vpid_cap=cap)


def _walk(
    memory: PhysicalMemory[Out],
    eptp: Eptp,
    access: Access,
    cpu: Capabilities,
    hardware: Hardware,
) -> Walk[L2Phys, Out]:
    walk = walk_ept(memory, eptp, access.gpa, cpu)
    stop = walk.stop
    if stop is None or (stop.cause, stop.bits) != (Cause.MISCONFIGURED, BIT_12):
        return walk
    last = walk.steps[-1]
    if not last.leaf or Deviation.LARGE_BIT_12_IGNORED not in hardware:
        return walk
    entry = EptEntry(last.entry.value & ~BIT_12)
    if stop := judge(entry, last.level, cpu):
        return replace(walk, stop=stop)
    there = entry.page(last.level) | (access.gpa & (page_size(last.level) - 1))
    return replace(walk, stop=None, address=cast(Out, there))


def _stopped(case: Case[Out], stop: Stop) -> Prediction[Out]:
    """The walk ended before a page."""
    if stop.cause in (Cause.UNREADABLE, Cause.NO_MEMORY, Cause.NO_WALK):
        return Prediction(Outcome.UNKNOWN, case.walk, stop.why)
    if stop.cause is Cause.MISCONFIGURED:
        return _misconfig(case, stop)
    if stop.cause is Cause.BEYOND_WIDTH:
        return _violation(case, stop.why, "use an address within the width")
    step = case.walk.steps[-1]
    why = f"the {named(step)} is not present ({step.entry.value:#x})"
    return _violation(case, why, f"make the {named(step)} present")


def _misconfig(case: Case[Out], stop: Stop) -> Prediction[Out]:
    """EPT misconfiguration: qualification 0; the guest-linear address is undefined."""
    shows_linear = Deviation.LINEAR_ON_MISCONFIG in case.hardware
    return Prediction(
        Outcome.MISCONFIG,
        case.walk,
        f"{stop.why}, at {case.walk.steps[-1].address:#x}",
        qualification=0,
        mask=ALL_BITS,
        gpa=case.access.gpa,
        gla=case.access.gla if shows_linear else None,
        change=f"correct bits {stop.bits:#x} of the {named(case.walk.steps[-1])}",
        rules=(Deviation.LINEAR_ON_MISCONFIG.name,) if shows_linear else (),
    )


def _violation(case: Case[Out], why: str, change: str) -> Prediction[Out]:
    found = qualify(case)
    linear = case.access.stage is not Stage.PDPTE
    return Prediction(
        Outcome.VE if _convertible(case) else Outcome.VIOLATION,
        case.walk,
        why,
        qualification=found.value,
        mask=found.mask,
        gpa=case.access.gpa,
        gla=case.access.gla if linear else None,
        change=change,
        rules=found.rules,
    )


def _convertible(case: Case[Out]) -> bool:
    """Whether it becomes a #VE instead of an exit (28.5.8.1): bit 63 of the last entry is 0, and
    nothing stands against it."""
    access, controls = case.access, case.controls
    if not controls.ve or controls.ve_busy or not case.walk.steps:
        return False
    against = access.event_delivery or access.asynchronous or access.real_mode
    return not (case.leaf.suppress_ve or against)


# -- sub-page permissions (31.3.4) and the page-modification log (31.3.6) -----------------------


def _has_sub_pages(case: Case[Out]) -> bool:
    """31.3.4.1: a write that bit 1 alone refuses, to a 4-KByte page."""
    leaf = case.walk.steps[-1]
    return bool(
        case.controls.sppt_pointer is not None
        and case.access.stage is Stage.FINAL
        and not case.shadow_stack_rules
        and leaf.level == 1
        and leaf.entry.sub_page_write
    )


def _sub_page(case: Case[Out], memory: PhysicalMemory[Out]) -> Prediction[Out]:
    access, pointer = case.access, case.controls.sppt_pointer or 0
    found, why = walk_sub_page(memory, pointer, access.gpa, case.cpu.maxphyaddr)
    if found is SubPage.WRITABLE:  # and the dirty flag is set, as for any write (31.3.5)
        full = _log_is_full(case)
        if full:
            return _pml_full(case)
        return apic_access(case) or Prediction(Outcome.TRANSLATED, case.walk, why)
    if found is SubPage.UNREADABLE:
        return Prediction(Outcome.UNKNOWN, case.walk, why)
    if found is SubPage.READ_ONLY:
        return _violation(case, why, "set the sub-page's bit in the SPP vector")
    miss = EptViolation.execute_disable_linear.mask  # bit 11 tells a miss from a misconfiguration
    other = _other_events(case)
    value = (miss if found is SubPage.MISS else 0) | other.value
    mask = miss | other.mask
    return Prediction(
        Outcome.SPP, case.walk, why, qualification=value, mask=mask, gpa=access.gpa, gla=access.gla
    )


def _log_is_full(case: Case[Out]) -> bool:
    controls = case.controls
    if not (controls.pml and case.eptp.accessed_dirty) or controls.pml_index <= PML_LAST:
        return False
    if Deviation.PML_CHECKED_ALWAYS in case.hardware:
        return True
    accessed = all(step.entry.accessed for step in case.walk.steps)
    return not accessed or bool(case.needed & WRITE and not case.leaf.dirty)


def _pml_full(case: Case[Out]) -> Prediction[Out]:
    index = case.controls.pml_index
    why = f"an accessed or dirty flag must be set, and the PML index is {index:#x}"
    told, change = _other_events(case), f"reset the PML index to {PML_LAST} or below"
    return Prediction(Outcome.PML_FULL, case.walk, why, told.value, told.mask, change=change)


def _other_events(case: Case[Out]) -> Qualification:
    """Bits 12 and 16, all that such an exit has besides (30.2.1)."""
    told = other_events(case)
    return Qualification(told.value, told.mask & (NMI_UNBLOCKING | ASYNCHRONOUS))


# -- in words -----------------------------------------------------------------------------------


def explain(case: Case[Out], lacking: int) -> tuple[str, str]:
    """Why the rights do not suffice, naming the entries, and the single change that helps."""
    if not lacking:
        why = "the leaf asks for verified guest paging, which a guest table page lacks"
        return why, "set bit 58 in the EPT leaves of the guest's table pages, or clear bit 57"
    if case.shadow_stack_rules:
        why = "a supervisor shadow-stack access needs R everywhere, W in the tables and bit 60"
        return f"{why} in the leaf", f"set what is missing, in the {named(case.walk.steps[-1])}"
    wanted = _rights(case, lacking)
    steps = case.walk.steps
    at_fault = [step for step in steps if wanted & ~step.entry.value] or [steps[-1]]
    names = " and the ".join(f"{named(step)} ({step.entry.value:#x})" for step in at_fault)
    walking = case.access.stage is Stage.WALK
    what = "access to a guest paging-structure entry" if walking else case.access.op.value
    lacks = "lacks" if len(at_fault) == 1 else "lack"
    why = f"the {what} needs {_letters(wanted)}, which the {names} {lacks}"
    if wanted & WRITE and not all(step.entry.read for step in at_fault):
        wanted |= READ  # W alone would be a misconfiguration
    return why, f"set {_letters(wanted)} in the {names}"


def named(step: Step[Out]) -> str:
    """'PDE at 0x4950'."""
    return f"{LEVEL_NAMES[step.level]} at {step.address:#x}"


def _rights(case: Case[Out], lacking: int) -> int:
    """Bits of an entry: those of `lacking`, but of a user-mode fetch with MBEC, XU for X."""
    if lacking & FETCH and case.cpu.mbec and case.user:
        return lacking & ~FETCH | EptEntry.user_execute.mask
    return lacking


def _letters(rights: int) -> str:
    return "+".join(field.short for field in RIGHTS if rights & field.mask)
