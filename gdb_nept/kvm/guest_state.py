# SPDX-License-Identifier: GPL-2.0-or-later
"""L2's registers: when KVM loads each from vmcs12, when it writes it back, and where it is else.

arch/x86/kvm/vmx/nested.c: prepare_vmcs02_early(), prepare_vmcs02_rare() and prepare_vmcs02() load
at VM entry; sync_vmcs02_to_vmcs12() writes back at an exit to L1, sync_vmcs02_to_vmcs12_rare() what
it put off; vmx.c vmx_set_msr() writes here too what L2 writes to an MSR.  Read in 5.10.262,
6.1.192, 6.12.117 and 7.2.13, which agree in all rows but guest_bndcfgs (see `kept`).  Up to 5.2
everything is written back at the exit, under the same controls.

IA32_RTIT_CTL, IA32_LBR_CTL, PKRS and UINV have no row: no struct vmcs12 has a field for them, and
no KVM offers their controls to L1, so that L2 runs with L1's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from typing import Callable

from gdb_nept.arch.bits import Bits
from gdb_nept.arch.controls import (
    EntryControls,
    ExitControls,
    PinControls,
    SecondaryControls,
)
from gdb_nept.walk.guest_paging import Cr0, Cr4


@dataclass(frozen=True)
class InForce:
    """What decides: vmcs12's controls (`secondary` as activated), and whether L2 uses PAE paging,
    None where that is not known."""

    pin: PinControls
    secondary: SecondaryControls
    exit: ExitControls
    entry: EntryControls
    pae: bool | None = None


@dataclass(frozen=True)
class Need:
    """One condition.  `lacking` says that it is not met; `met` is None where it is not known."""

    lacking: str
    met: Callable[[InForce], bool | None]


def _pin(flag: Bits) -> Need:
    return _need("pin-based control", flag, lambda now: now.pin.value)


def _secondary(flag: Bits) -> Need:
    return _need("secondary control", flag, lambda now: now.secondary.value)


def _exit(flag: Bits) -> Need:
    return _need("VM-exit control", flag, lambda now: now.exit.value)


def _entry(flag: Bits) -> Need:
    return _need("VM-entry control", flag, lambda now: now.entry.value)


def _need(word: str, flag: Bits, value: Callable[[InForce], int]) -> Need:
    lacking = f"{word} bit {flag.place}, {flag.meaning}, is clear"
    return Need(lacking, lambda now: bool(value(now) & flag.mask))


LOAD_DEBUG = _entry(EntryControls.load_debug_controls)
LOAD_PERF = _entry(EntryControls.load_perf_global_ctrl)
LOAD_PAT = _entry(EntryControls.load_pat)
LOAD_EFER = _entry(EntryControls.load_efer)
LOAD_BNDCFGS = _entry(EntryControls.load_bndcfgs)
LOAD_CET = _entry(EntryControls.load_cet)
SAVE_DEBUG = _exit(ExitControls.save_debug_controls)
SAVE_PAT = _exit(ExitControls.save_pat)
SAVE_EFER = _exit(ExitControls.save_efer)
SAVE_TIMER = _exit(ExitControls.save_preemption_timer)
TIMER = _pin(PinControls.preemption_timer)
EPT = _secondary(SecondaryControls.ept)
VID = _secondary(SecondaryControls.virtual_interrupt_delivery)
PAE = Need("L2 does not use PAE paging", lambda now: now.pae)


class Back(Enum):
    """When KVM writes a field back to vmcs12."""

    AT_EXIT = "at each exit to L1"
    RARE = "after an exit to L1, once L1 looks at one of them or gives the VMCS up"
    AT_WRMSR = "when L2 writes the MSR, which KVM intercepts"
    NEVER = "never"


@dataclass(frozen=True)
class Kept:
    """A row: fields that KVM treats alike.

    `loaded` is what must be met for VM entry to load them, `if_` for KVM to write them back;
    `live` is where the value is while L2 runs.  `otherwise` is what L2 runs with where they are not
    loaded; '' if L2 has no use for them then.  `drifts`: L2 may have another value than the one
    that was loaded or written (vmx_get_supported_debugctl() at entry; the processor, at #DB).
    """

    fields: tuple[str, ...]
    loaded: tuple[Need, ...]
    back: Back
    if_: tuple[Need, ...]
    live: str = "vmcs02"
    otherwise: str = ""
    drifts: bool = False


ALWAYS: tuple[Need, ...] = ()
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
AT_ONCE = ("cs", "ss")  # whose access rights are not put off
PDPTRS = tuple(f"guest_pdptr{place}" for place in range(4))

GUEST_STATE = (
    Kept(("guest_cr0", "guest_cr3", "guest_cr4"), ALWAYS, Back.AT_EXIT, ALWAYS),
    Kept(("guest_rsp", "guest_rip", "guest_rflags"), ALWAYS, Back.AT_EXIT, ALWAYS),
    Kept(tuple(f"guest_{each}_ar_bytes" for each in AT_ONCE), ALWAYS, Back.AT_EXIT, ALWAYS),
    Kept(("guest_interruptibility_info", "guest_activity_state"), ALWAYS, Back.AT_EXIT, ALWAYS),
    Kept(
        (
            *(f"guest_{each}_selector" for each in SEGMENTS),
            *(f"guest_{each}_base" for each in (*SEGMENTS, "gdtr", "idtr")),
            *(f"guest_{each}_limit" for each in (*SEGMENTS, "gdtr", "idtr")),
            *(f"guest_{each}_ar_bytes" for each in SEGMENTS if each not in AT_ONCE),
            "guest_pending_dbg_exceptions",
        ),
        ALWAYS,
        Back.RARE,
        ALWAYS,
    ),
    Kept(
        ("guest_sysenter_cs", "guest_sysenter_esp", "guest_sysenter_eip"),
        ALWAYS,
        Back.AT_WRMSR,
        ALWAYS,
    ),
    Kept(
        ("guest_ia32_efer",),
        (LOAD_EFER,),
        Back.AT_EXIT,
        (SAVE_EFER,),
        "kvm_vcpu_arch.efer",
        "L1's EFER, with LMA and LME as VM-entry control bit 9 says (nested_vmx_calc_efer())",
    ),
    Kept(
        ("guest_dr7",),
        (LOAD_DEBUG,),
        Back.AT_EXIT,
        (SAVE_DEBUG,),
        "kvm_vcpu_arch.dr7",
        "L1's DR7",
    ),
    Kept(
        ("guest_ia32_debugctl",),
        (LOAD_DEBUG,),
        Back.AT_WRMSR,
        (SAVE_DEBUG,),
        otherwise="L1's IA32_DEBUGCTL",
        drifts=True,
    ),
    Kept(
        ("guest_ia32_pat",),
        (LOAD_PAT,),
        Back.AT_WRMSR,
        (SAVE_PAT,),
        "kvm_vcpu_arch.pat",
        "L1's PAT",
    ),
    Kept(
        ("guest_ia32_perf_global_ctrl",),
        (LOAD_PERF,),
        Back.NEVER,
        ALWAYS,
        "kvm_vcpu_arch.pmu.global_ctrl",
        "L1's IA32_PERF_GLOBAL_CTRL",
    ),
    Kept(
        ("guest_bndcfgs",),
        (LOAD_BNDCFGS,),
        Back.AT_WRMSR,
        ALWAYS,
        otherwise="L1's IA32_BNDCFGS",
    ),
    Kept(
        ("guest_s_cet", "guest_ssp", "guest_ssp_tbl"),
        (LOAD_CET,),
        Back.AT_EXIT,
        ALWAYS,
        otherwise="L1's CET state",
    ),
    Kept(PDPTRS, (EPT, PAE), Back.AT_EXIT, (EPT, PAE), otherwise="no PDPTE registers"),
    Kept(
        ("vmx_preemption_timer_value",),
        (TIMER,),
        Back.AT_EXIT,
        (TIMER, SAVE_TIMER),
        "nested.preemption_timer_deadline",
    ),
    Kept(("guest_intr_status",), (VID,), Back.AT_EXIT, (VID,)),
)


@dataclass(frozen=True)
class Writes:
    """How this kernel writes back.  `at_wrmsr`: since 5.3, as told by the member
    nested.need_sync_vmcs02_to_vmcs12_rare of the same release; `bndcfgs_at_wrmsr`: as 6.1 does,
    told by nested.pre_vmenter_bndcfgs, where 5.10 has it among the fields that it puts off."""

    at_wrmsr: bool = True
    bndcfgs_at_wrmsr: bool = True


AS_TODAY = Writes()


@cache
def _rows() -> dict[str, Kept]:
    return {name: row for row in GUEST_STATE for name in row.fields}


def kept(name: str, writes: Writes) -> Kept | None:
    """The row of field `name` on this kernel; None for a field that is no state of L2's."""
    row = _rows().get(name)
    if row is None or row.back in (Back.AT_EXIT, Back.NEVER):
        return row
    if not writes.at_wrmsr:
        return replace(row, back=Back.AT_EXIT)
    if name == "guest_bndcfgs" and not writes.bndcfgs_at_wrmsr:
        return replace(row, back=Back.RARE)
    return row


def holds(needs: tuple[Need, ...], now: InForce | None) -> bool | None:
    """Whether all are met; None where that is not known."""
    if not needs:
        return True
    if now is None:
        return None
    met = [need.met(now) for need in needs]
    return False if False in met else None if None in met else True


def lacking(needs: tuple[Need, ...], now: InForce | None) -> str:
    """Which are not met, or not known to be."""
    return " and ".join(_lacking(needs, now))


def _lacking(needs: tuple[Need, ...], now: InForce | None) -> Iterator[str]:
    for need in needs:
        if now is None or not need.met(now):
            yield need.lacking


def is_pae(cr0: int, cr4: int, long_mode: bool) -> bool:
    """is_pae_paging() of KVM's x86.h."""
    return bool(Cr0(cr0).paging and Cr4(cr4).physical_address_extension) and not long_mode
