# SPDX-License-Identifier: GPL-2.0-or-later
"""A vCPU: struct kvm_vcpu, and struct vcpu_vmx around it.

vcpu_vmx begins with its kvm_vcpu (vmx.c asserts it since 5.4), so both lie at one address.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gdb_nept.address import KernelVirt
from gdb_nept.arch.controls import SecondaryControls
from gdb_nept.arch.cpu import PHYSICAL_WIDTHS, Capabilities
from gdb_nept.errors import MemberMissing, MemoryUnreadable, UnreadKind
from gdb_nept.kvm.guest_state import is_pae
from gdb_nept.kvm.lost import Lost
from gdb_nept.kvm.nested_vmx import Nested, read_nested
from gdb_nept.kvm.problems import kind_of
from gdb_nept.kvm.vcpu_registers import (
    PDPTRS_CACHED,
    LastExit,
    Register,
    control_registers,
    last_exit,
    registers,
    regs_avail,
)
from gdb_nept.target.ports import Kernel, Value, object_at
from gdb_nept.walk.guest_paging import Efer

MODES = ("OUTSIDE_GUEST_MODE", "IN_GUEST_MODE", "EXITING_GUEST_MODE", "READING_SHADOW_PAGE_TABLES")
IN_GUEST_MODE = 1
NOT_LOADED = -1
UNKNOWN_MODE = -1


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
    nested_kind: UnreadKind | None = None  # what became of memory that would tell `nested`
    thread_kind: UnreadKind | None = None

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
    kernel: Kernel,
    address: KernelVirt,
    place: int,
    vmx: bool = True,
    unknown: str = "",
    with_thread: bool = True,
) -> Vcpu:
    """The struct kvm_vcpu at `address`; with `vmx`, the struct vcpu_vmx around it.  Without,
    `unknown` is why its nested state cannot be told ('' if it has none).  The thread lies
    elsewhere, and is left None where it is not asked for.

    Raises TypeMissing, MemoryUnreadable; what concerns the nested state or the thread alone, and
    what this kernel has no member for, is told in the result.
    """
    vcpu, lost = object_at(kernel, address, "kvm_vcpu", "kvm"), Lost()
    whole = object_at(kernel, address, "vcpu_vmx", "kvm_intel") if vmx else None
    nested: Nested | None = None
    kind: UnreadKind | None = None
    try:
        nested = read_nested(whole) if whole is not None else None
    except (MemoryUnreadable, MemberMissing) as error:
        whole, unknown, kind = None, error.message, kind_of(error)
    thread, thread_unknown, thread_kind = _thread(vcpu) if with_thread else (None, "", None)
    available = lost.or_else(0, lambda: regs_avail(vcpu))
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
            *(lost.or_else(None, lambda: registers(vcpu, available, in_guest)) or ()),
            *control_registers(vcpu, whole, available, in_guest, lost),
        ),
        last_exit=lost.or_else(None, lambda: last_exit(whole, available)),
        value=vcpu,
        vmx=whole,
        nested_unknown=unknown,
        thread_unknown=thread_unknown,
        capabilities_unknown=offered_unknown,
        lost=(*lost.messages, *(nested.lost if nested else ())),
        nested_kind=kind,
        thread_kind=thread_kind,
    )


def in_force(offered: Capabilities, secondary: SecondaryControls) -> Capabilities:
    """The capabilities with what L1 has switched on by vmcs12's secondary controls."""
    return replace(
        offered,
        mbec=bool(secondary.mode_based_execute),
        sub_page=bool(secondary.sub_page_write),
    )


def pdptrs_cached(vcpu: Vcpu) -> bool:
    """Whether KVM has read the PDPTE registers since the last VM exit: L2's MOV CR3 loads them, and
    KVM intercepts none with EPT (kvm_pdptr_read(), vmx_cache_reg(), ept_save_pdptrs())."""
    available = regs_avail(vcpu.value)
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


def _thread(vcpu: Value) -> tuple[int | None, str, UnreadKind | None]:
    """The thread that runs KVM_RUN: numbers[0] of struct pid; None before it first ran.  And why
    it cannot be told: struct pid lies elsewhere, and is no reason to lose the vCPU."""
    try:
        pid = vcpu.member("pid")
        if not pid.pointer():
            return None, "", None
        return pid.deref().member("numbers").index(0).member("nr").number(), "", None
    except (MemoryUnreadable, MemberMissing) as error:
        return None, error.message, kind_of(error)
