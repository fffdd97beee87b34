# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers of a vCPU as KVM holds them, and the exit that its processor took last.

What of them is older than the VMCS, vcpu->arch.regs_avail tells (arch/x86/kvm/kvm_cache_regs.h).
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.arch.exits import ExitReason
from gdb_nept.kvm.lost import Lost
from gdb_nept.target.ports import Value

GENERAL = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
RSP, RIP = 4, 16  # places in regs_avail: enum kvm_reg, all versions up to 7.2
PDPTRS_CACHED = 17  # VCPU_EXREG_PDPTR in regs_avail, behind RIP
EXIT_INFO_1 = 23  # in regs_avail, with the layout of 5.8 and later


@dataclass(frozen=True)
class Register:
    """A register of the guest as KVM holds it.  `why` says, if not `valid`, where the value is."""

    name: str
    number: int
    valid: bool
    why: str = ""


@dataclass(frozen=True)
class LastExit:
    """The exit that the processor took last, of L1 or of L2, as vcpu_vmx keeps it.

    `qualification` is None if KVM has not read it from the VMCS.
    """

    reason: ExitReason
    qualification: int | None


def registers(vcpu: Value, available: int, in_guest: bool) -> tuple[Register, ...]:
    """RSP and RIP are in memory only if regs_avail says so; the others since the last exit."""
    arch = vcpu.member("arch")
    data = arch.member("regs").raw()
    # 7.2: "Add dedicated storage for guest RIP", which was the last of regs[] before
    own = arch.member("rip").number() if arch.has("rip") else None
    found = []
    for place, name in enumerate((*GENERAL, "rip")):
        cached = place not in (RSP, RIP) or bool(available >> place & 1)
        why = "" if cached else "in the loaded VMCS"
        if in_guest:
            why = "in the processor: the vCPU is in guest mode"
        number = int.from_bytes(data[8 * place : 8 * place + 8], "little")
        found.append(Register(name, number if place != RIP or own is None else own, not why, why))
    return tuple(found)


def regs_avail(vcpu: Value) -> int:
    """regs_avail, a u32, in 7.2 a bitmap of one word.  RIP and what follows it in enum
    kvm_reg have their known places behind 16 general registers alone: of a kernel that holds more
    (APX has 32), nothing behind those 16 is believed to be there."""
    arch = vcpu.member("arch")
    number = arch.member("regs_avail").number()
    if arch.has("rip") and arch.member("regs").type.count != len(GENERAL):
        return number & (1 << len(GENERAL)) - 1
    return number


def control_registers(
    vcpu: Value, vmx: Value | None, available: int, in_guest: bool, lost: Lost
) -> tuple[Register, ...]:
    """CR0, CR3, CR4, EFER of whoever runs.

    Their places in regs_avail follow RIP: PDPTR, CR3 up to 5.7; PDPTR, CR0, CR3, CR4 from 5.8,
    which also brought vcpu_vmx.exit_qualification (in struct vcpu_vt since 6.16).
    """
    newer = vmx is None or vmx.has("exit_qualification") or vmx.has("vt")
    places = {"cr0": 18, "cr3": 19, "cr4": 20} if newer else {"cr3": 18}
    found = []
    for name in ("cr0", "cr3", "cr4", "efer"):
        cached = name not in places or bool(available >> places[name] & 1)
        why = "" if cached else "in the loaded VMCS; this is the value last read from it"
        if in_guest and name != "efer":
            why = "in the processor: the vCPU is in guest mode"
        value = lost.or_else(None, lambda name=name: vcpu.member(f"arch.{name}").number())  # type: ignore[misc]
        if value is not None:
            found.append(Register(name, value, not why, why))
    return tuple(found)


def last_exit(vmx: Value | None, available: int) -> LastExit | None:
    """6.16+: vmx->vt; 5.11+: union vmx_exit_reason; before: a u32."""
    if vmx is None:
        return None
    owner = vmx.member("vt") if vmx.has("vt") else vmx
    reason = owner.member("exit_reason")
    word = reason.member("full") if reason.has("full") else reason
    qualification = None
    if owner.has("exit_qualification") and available >> EXIT_INFO_1 & 1:
        qualification = owner.member("exit_qualification").number()
    return LastExit(ExitReason(word.number() & 0xFFFFFFFF), qualification)
