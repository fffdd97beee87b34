# SPDX-License-Identifier: GPL-2.0-or-later
"""How far the cached value of a field of vmcs12 can be trusted just now, and why.

Controls are L1's alone; fields that report are written at an exit; what is state of L2 follows the
table in kvm/guest_state.py, by the controls in force.  While L1 runs, its newest VMWRITE may be in
a hardware shadow VMCS or an enlightened one: copy_shadow_to_vmcs12(), copy_enlightened_to_vmcs12(),
vmx_get_nested_state() of arch/x86/kvm/vmx/nested.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gdb_nept.kvm.guest_state import AS_TODAY, Back, InForce, Kept, Writes, holds, kept, lacking
from gdb_nept.kvm.vmcs12_layout import known_field


class Authority(Enum):
    """How far the cached value of a field can be trusted just now."""

    AUTHORITATIVE = "authoritative"
    STALE = "stale"
    MAYBE_STALE = "maybe stale"
    LAST_EXIT = "last exit"  # exit information: right, and about the last exit that L1 saw


#: What is no older than what it says it is.
CURRENT = (Authority.AUTHORITATIVE, Authority.LAST_EXIT)


@dataclass(frozen=True)
class Judgement:
    """Whether a field of vmcs12 is the true value, and why (not)."""

    authority: Authority
    why: str


@dataclass(frozen=True)
class Situation:
    """What decides about the fields: read from Nested, and apart from it for tests.

    `controls` are those of this vmcs12, None where they are not known."""

    loaded: bool
    l2_active: bool
    run_pending: bool = False
    rare_sync_pending: bool = False
    shadowing: bool = False  # L1 has a hardware shadow VMCS
    newer_in_cache: bool = False  # the cache waits to be copied to the shadow VMCS or eVMCS
    evmcs: bool = False
    controls: InForce | None = None
    writes: Writes = AS_TODAY


#: Fields that report: when KVM writes them.
WRITTEN_AT = {
    "exit": "written at the last exit to L1",
    "ept-exit": "written at the last exit to L1 because of EPT, whatever exits came since",
    "vmfail": "written when a VMX instruction of L1's failed last",
}
OWN = Judgement(Authority.AUTHORITATIVE, "L1 alone writes it")
NOT_OFFERED = Judgement(
    Authority.AUTHORITATIVE, "L1 cannot access it: KVM does not offer it on this processor"
)
SHARED = Judgement(
    Authority.AUTHORITATIVE, "L1 writes it, and KVM changes it here as hardware would"
)
PENDING = Judgement(Authority.AUTHORITATIVE, "VM entry is pending: L2 has not run with it")
AT_WRMSR = Judgement(
    Authority.AUTHORITATIVE, "loaded at VM entry, and KVM writes it here too when L2 writes the MSR"
)
DRIFTS = Judgement(
    Authority.MAYBE_STALE,
    "KVM loads those of its bits that it supports, and writes it here when L2 writes the MSR; what "
    "the processor changes of it is never written back",
)


def judge(name: str, now: Situation) -> Judgement:
    """Whether the cached value of field `name` is the true one just now."""
    known = known_field(name)
    if not now.loaded:
        return Judgement(Authority.STALE, "no vmcs12 is loaded")
    if known is None:
        return Judgement(Authority.MAYBE_STALE, "a field that this program does not know")
    if known.keeper in WRITTEN_AT:
        return Judgement(Authority.LAST_EXIT, WRITTEN_AT[known.keeper])
    row = kept(name, now.writes)
    if now.l2_active:
        return _while_l2_runs(known.keeper, row, now)
    return _while_l1_runs(known.keeper, row, known.shadowed, now)


def _while_l2_runs(keeper: str, row: Kept | None, now: Situation) -> Judgement:
    if row is not None:
        return _unknown(row, now) or _not_loaded(row, now) or _changing(row, now)
    if keeper == "entry":
        why = "L1 alone writes it, but for bit 9 (IA-32e mode guest): the last entry's"
        return Judgement(Authority.AUTHORITATIVE, why)
    return SHARED if keeper == "kvm" else OWN


def _while_l1_runs(keeper: str, row: Kept | None, shadowed: str, now: Situation) -> Judgement:
    if now.evmcs and not now.newer_in_cache:
        why = "L1 writes its enlightened VMCS; KVM reads it at the next VM entry"
        return Judgement(Authority.MAYBE_STALE, why)
    if row is not None and row.back is Back.RARE and now.rare_sync_pending:
        why = "put off (need_sync_vmcs02_to_vmcs12_rare): still only in vmcs02"
        return Judgement(Authority.STALE, why)
    if shadowed == "rw" and now.shadowing and not now.newer_in_cache:
        why = "L1's newest VMWRITE may be only in the hardware shadow VMCS until the next VM entry"
        return Judgement(Authority.MAYBE_STALE, why)
    if row is not None:
        return _unknown(row, now) or _left(row, now)
    return SHARED if keeper == "kvm" else OWN


def _unknown(row: Kept, now: Situation) -> Judgement | None:
    """Where it hangs on something that is not known."""
    for needs, what in ((row.loaded, "loads"), (row.if_, "writes back")):
        if holds(needs, now.controls) is None:
            why = f"not if {lacking(needs, now.controls)}, which is not known here"
            return Judgement(Authority.MAYBE_STALE, f"KVM {what} it {why}")
    return None


def _not_loaded(row: Kept, now: Situation) -> Judgement | None:
    """Of an L2 that was not given the field's value."""
    if holds(row.loaded, now.controls):
        return None
    why = lacking(row.loaded, now.controls)
    if not row.otherwise:
        return Judgement(
            Authority.AUTHORITATIVE, f"L1 alone writes it, and L2 has no use for it: {why}"
        )
    told = f"not loaded at VM entry ({why}): L2 runs with {row.otherwise}"
    if row.back is Back.AT_WRMSR and holds(row.if_, now.controls):
        return Judgement(Authority.MAYBE_STALE, f"{told}, until it writes the MSR")
    return Judgement(Authority.STALE, told)


def _changing(row: Kept, now: Situation) -> Judgement:
    """While L2 runs with the value that was loaded."""
    if now.run_pending:
        return PENDING
    written = holds(row.if_, now.controls)
    if row.back is Back.AT_WRMSR and written:
        return DRIFTS if row.drifts else AT_WRMSR
    if row.back in (Back.AT_WRMSR, Back.NEVER):
        because = f" ({lacking(row.if_, now.controls)})" if not written else ""
        why = f"the last entry's: KVM does not write it back{because}; L2's is in {row.live}"
        return Judgement(Authority.MAYBE_STALE, why)
    if not written and not row.otherwise:
        return Judgement(Authority.AUTHORITATIVE, _from_l1(row, now))
    why = f"L2 runs: the value is in {row.live}; this is the last entry's"
    return Judgement(Authority.STALE, why)


def _left(row: Kept, now: Situation) -> Judgement:
    """After an exit to L1."""
    loaded, written = holds(row.loaded, now.controls), holds(row.if_, now.controls)
    if not loaded and (not written or row.back in (Back.AT_WRMSR, Back.NEVER)):
        return _not_loaded(row, now) or OWN
    if not written or row.back is Back.NEVER:
        return Judgement(Authority.AUTHORITATIVE, _from_l1(row, now))
    if row.back is Back.AT_WRMSR:
        return DRIFTS if row.drifts else AT_WRMSR
    why = "refreshed from vmcs02 at the last exit to L1"
    if not loaded:
        why += f"; the next VM entry does not load it ({lacking(row.loaded, now.controls)})"
    return Judgement(Authority.AUTHORITATIVE, why)


def _from_l1(row: Kept, now: Situation) -> str:
    because = lacking(row.if_, now.controls)
    why = f" ({because})" if because else ""
    return f"L1 alone writes it: loaded at each VM entry, and not written back{why}"
