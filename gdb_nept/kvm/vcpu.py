# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU: struct kvm_vcpu, and struct vcpu_vmx around it.

vcpu_vmx begins with its kvm_vcpu (vmx.c asserts it since 5.4), so both lie at one address.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gdb_nept.address import KernelVirt
from gdb_nept.arch.controls import SecondaryControls
from gdb_nept.arch.cpu import PHYSICAL_WIDTHS, Capabilities
from gdb_nept.arch.exits import ExitReason
from gdb_nept.errors import MemberMissing, MemoryUnreadable
from gdb_nept.kvm.guest_state import is_pae
from gdb_nept.kvm.lost import Lost
from gdb_nept.kvm.nested_vmx import Nested, read_nested
from gdb_nept.target.ports import Kernel, Value, object_at
from gdb_nept.walk.guest_paging import Efer

MODES = ("OUTSIDE_GUEST_MODE", "IN_GUEST_MODE", "EXITING_GUEST_MODE", "READING_SHADOW_PAGE_TABLES")
IN_GUEST_MODE = 1
NOT_LOADED = -1
UNKNOWN_MODE = -1

GENERAL = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
RSP, RIP = 4, 16  # places in regs_avail: enum kvm_reg, all versions up to 7.2


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


@dataclass(frozen=True)
class Vcpu:
    """One vCPU.  `place` is its index within the VM, `id` its APIC id.

    `nested` is None for a TDX guest, and where it cannot be told: `nested_unknown` then says why.
    Likewise `thread` is None before the vCPU first ran, and with `thread_unknown`.
    """

    address: KernelVirt
    place: int
    id: int
    cpu: int
    mode: int
    thread: int | None
    nested: Nested | None
    capabilities: Capabilities | None  # what L1 is offered
    registers: tuple[Register, ...]
    last_exit: LastExit | None
    value: Value = field(repr=False, compare=False)
    vmx: Value | None = field(repr=False, compare=False)
    nested_unknown: str = ""
    thread_unknown: str = ""
    capabilities_unknown: str = ""
    lost: tuple[str, ...] = ()  # what this kernel has no member for

    @property
    def mode_name(self) -> str:
        return MODES[self.mode] if 0 <= self.mode < len(MODES) else f"mode {self.mode}"

    @property
    def in_guest(self) -> bool:
        """Whether a processor is in non-root mode for it: what KVM caches is then older."""
        return self.mode == IN_GUEST_MODE and self.cpu != NOT_LOADED

    def register(self, name: str) -> Register | None:
        return next((register for register in self.registers if register.name == name), None)

    @property
    def pae(self) -> bool | None:
        """Whether who runs uses PAE paging.  KVM's copies of the bits that decide are never old:
        it intercepts each write that changes one (kvm_cache_regs.h, KVM_POSSIBLE_CR0_GUEST_BITS,
        KVM_POSSIBLE_CR4_GUEST_BITS; EFER)."""
        cr0, cr4, efer = (self.register(name) for name in ("cr0", "cr4", "efer"))
        if cr0 is None or cr4 is None or efer is None:
            return None
        return is_pae(cr0.number, cr4.number, bool(Efer(efer.number).long_mode_active))


def read_vcpu(
    kernel: Kernel, address: KernelVirt, place: int, vmx: bool = True, unknown: str = ""
) -> Vcpu:
    """The struct kvm_vcpu at `address`; with `vmx`, the struct vcpu_vmx around it.  Without,
    `unknown` is why its nested state cannot be told ('' if it has none).

    Raises TypeMissing, MemoryUnreadable; what concerns the nested state or the thread alone, and
    what this kernel has no member for, is told in the result.
    """
    vcpu, lost = object_at(kernel, address, "kvm_vcpu", "kvm"), Lost()
    whole = object_at(kernel, address, "vcpu_vmx", "kvm_intel") if vmx else None
    nested: Nested | None = None
    try:
        nested = read_nested(whole) if whole is not None else None
    except (MemoryUnreadable, MemberMissing) as error:
        whole, unknown = None, error.message
    thread, thread_unknown = _thread(vcpu)
    cpu = lost.or_else(NOT_LOADED, lambda: vcpu.member("cpu").number())
    mode = lost.or_else(UNKNOWN_MODE, lambda: vcpu.member("mode").number())
    in_guest = mode in (IN_GUEST_MODE, UNKNOWN_MODE) and cpu != NOT_LOADED
    offered, offered_unknown = _capabilities(vcpu, nested)
    return Vcpu(
        address=address,
        place=place,
        id=lost.or_else(place, lambda: vcpu.member("vcpu_id").number()),
        cpu=cpu,
        mode=mode,
        thread=thread,
        nested=nested,
        capabilities=offered,
        registers=(
            *(lost.or_else(None, lambda: _registers(vcpu, in_guest)) or ()),
            *_control_registers(vcpu, whole, in_guest, lost),
        ),
        last_exit=lost.or_else(None, lambda: _last_exit(vcpu, whole)),
        value=vcpu,
        vmx=whole,
        nested_unknown=unknown,
        thread_unknown=thread_unknown,
        capabilities_unknown=offered_unknown,
        lost=(*lost.messages, *(nested.lost if nested else ())),
    )


def in_force(offered: Capabilities, secondary: SecondaryControls) -> Capabilities:
    """The capabilities with what L1 has switched on by vmcs12's secondary controls."""
    return replace(
        offered,
        mbec=bool(secondary.mode_based_execute),
        sub_page=bool(secondary.sub_page_write),
    )


PDPTRS_CACHED = 17  # VCPU_EXREG_PDPTR in regs_avail, behind RIP


def pdptrs_cached(vcpu: Vcpu) -> bool:
    """Whether KVM has read the PDPTE registers since the last VM exit: L2's MOV CR3 loads them, and
    KVM intercepts none with EPT (kvm_pdptr_read(), vmx_cache_reg(), ept_save_pdptrs())."""
    available = _available(vcpu.value)
    return not vcpu.in_guest and bool(available >> PDPTRS_CACHED & 1)


FREE_OBSOLETE_ROOTS = 8 + 31  # KVM_REQ_MMU_FREE_OBSOLETE_ROOTS, 5.18+ (asm/kvm_host.h)
MMU_RELOAD = 1  # KVM_REQ_MMU_RELOAD before (linux/kvm_host.h), which drops all roots


def frees_roots(vcpu: Vcpu) -> bool | None:
    """Whether KVM is asked to drop the roots that are not valid any more before this vCPU enters a
    guest again; None on a kernel whose numbers of requests are not known."""
    arch = vcpu.value.member("arch")
    if not arch.has("guest_mmu") or not vcpu.value.has("requests"):
        return None
    number = FREE_OBSOLETE_ROOTS if arch.member("guest_mmu").has("root") else MMU_RELOAD
    return bool(vcpu.value.member("requests").number() >> number & 1)


def _capabilities(vcpu: Value, nested: Nested | None) -> tuple[Capabilities | None, str]:
    """What the processor is to L1, or why that is not known."""
    if nested is None:
        return None, ""
    if nested.ept_vpid_cap is None:
        return None, "what L1 is offered is not known: " + "; ".join(nested.lost)
    try:
        width = vcpu.member("arch.maxphyaddr").number()
    except MemberMissing as error:
        return None, f"its MAXPHYADDR is not known: {error.message}"
    if width not in PHYSICAL_WIDTHS:
        return None, f"its MAXPHYADDR, arch.maxphyaddr, is {width}, which no processor has"
    return Capabilities(width, nested.ept_vpid_cap), ""


def _thread(vcpu: Value) -> tuple[int | None, str]:
    """The thread that runs KVM_RUN: numbers[0] of struct pid; None before it first ran.  And why
    it cannot be told: struct pid lies elsewhere, and is no reason to lose the vCPU."""
    try:
        pid = vcpu.member("pid")
        if not pid.pointer():
            return None, ""
        return pid.deref().member("numbers").index(0).member("nr").number(), ""
    except (MemoryUnreadable, MemberMissing) as error:
        return None, error.message


def _registers(vcpu: Value, in_guest: bool) -> tuple[Register, ...]:
    """RSP and RIP are in memory only if regs_avail says so; the others since the last exit."""
    arch = vcpu.member("arch")
    available = _available(vcpu)
    found = []
    for place, name in enumerate((*GENERAL, "rip")):
        cached = place not in (RSP, RIP) or bool(available >> place & 1)
        why = "" if cached else "in the loaded VMCS"
        if in_guest:
            why = "in the processor: the vCPU is in guest mode"
        # 7.2: "Add dedicated storage for guest RIP", which was the last of regs[] before
        own = name == "rip" and arch.has("rip")
        value = arch.member("rip") if own else arch.member("regs").index(place)
        found.append(Register(name, value.number(), not why, why))
    return tuple(found)


def _available(vcpu: Value) -> int:
    """regs_avail, a u32, in 7.2 a bitmap of one word.  RIP and what follows it in enum
    kvm_reg have their known places behind 16 general registers alone: of a kernel that holds more
    (APX has 32), nothing behind those 16 is believed to be there."""
    arch = vcpu.member("arch")
    number = arch.member("regs_avail").number()
    if arch.has("rip") and arch.member("regs").type.count != len(GENERAL):
        return number & (1 << len(GENERAL)) - 1
    return number


def _control_registers(
    vcpu: Value, vmx: Value | None, in_guest: bool, lost: Lost
) -> tuple[Register, ...]:
    """CR0, CR3, CR4, EFER of whoever runs.

    Their places in regs_avail follow RIP: PDPTR, CR3 up to 5.7; PDPTR, CR0, CR3, CR4 from 5.8,
    which also brought vcpu_vmx.exit_qualification (in struct vcpu_vt since 6.16).
    """
    available = lost.or_else(0, lambda: _available(vcpu))
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


EXIT_INFO_1 = 23  # in regs_avail, with the layout of 5.8 and later


def _last_exit(vcpu: Value, vmx: Value | None) -> LastExit | None:
    """6.16+: vmx->vt; 5.11+: union vmx_exit_reason; before: a u32."""
    if vmx is None:
        return None
    owner = vmx.member("vt") if vmx.has("vt") else vmx
    reason = owner.member("exit_reason")
    word = reason.member("full") if reason.has("full") else reason
    qualification = None
    if owner.has("exit_qualification") and _available(vcpu) >> EXIT_INFO_1 & 1:
        qualification = owner.member("exit_qualification").number()
    return LastExit(ExitReason(word.number() & 0xFFFFFFFF), qualification)
