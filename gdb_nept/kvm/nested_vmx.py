# SPDX-License-Identifier: GPL-2.0-or-later
"""Nested state of a vCPU: struct nested_vmx, and whether L2 is the one that runs.

arch/x86/kvm/vmx/vmx.h and nested.c (vmx.c up to 4.19).  "L2 active" is told by several signs that
KVM keeps apart; they are shown one by one, since a disagreement between them is itself a bug, or a
stop in the middle of a nested transition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from gdb_nept.address import KernelVirt, L1Phys
from gdb_nept.arch.controls import SecondaryControls
from gdb_nept.arch.cpu import EptVpidCap
from gdb_nept.kvm.guest_state import AS_TODAY, Writes
from gdb_nept.kvm.lost import Lost
from gdb_nept.target.ports import Value

NO_ADDRESS = (1 << 64) - 1  # INVALID_GPA, "none", of current_vmptr and vmxon_ptr
EVMPTR_MAP_PENDING = NO_ADDRESS - 1

# Bits of vcpu->arch.hflags: macros, so no type names them.  Up to 6.2 bits 0 to 4 belonged to SVM
# alone; 6.3 (32e69f232db4) renumbered.  On VMX the two sets therefore share no bit.
OLD_GUEST, OLD_SMM, OLD_FLAGS = 1 << 5, 1 << 6, 0b1110_0000
NEW_GUEST, NEW_SMM, NEW_FLAGS = 1 << 0, 1 << 1, 0b0000_0111


@dataclass(frozen=True)
class Sign:
    """One sign of L2 being active.  `says` is None where it cannot tell."""

    name: str
    says: bool | None
    detail: str


@dataclass(frozen=True)
class HostFlags:
    """vcpu->arch.hflags, decoded by the numbering that the word itself shows."""

    word: int
    guest_mode: bool
    smm: bool
    numbering: str


@dataclass(frozen=True)
class ShadowVmcs:
    """The hardware shadow VMCS that L1's VMREAD and VMWRITE use without an exit."""

    address: KernelVirt | None  # kernel address of its page; None if not in use
    newer_in_cache: bool  # need_vmcs12_to_shadow_sync: the cache is to be copied to it


@dataclass(frozen=True)
class Nested:
    """struct nested_vmx of one vCPU, and what belongs to it elsewhere."""

    address: KernelVirt
    vmxon: bool
    vmxon_ptr: L1Phys | None
    current_vmptr: L1Phys | None
    cached_vmcs12: KernelVirt | None
    run_pending: bool
    l2_active: bool
    signs: tuple[Sign, ...]
    disagreement: str
    hflags: HostFlags
    smm_guest_mode: bool
    evmcs: L1Phys | None
    evmcs_state: str  # "", "valid" or "map pending"
    rare_sync_pending: bool
    shadow: ShadowVmcs
    ept_vpid_cap: EptVpidCap | None
    secondary_allowed: SecondaryControls | None
    writes: Writes = AS_TODAY
    lost: tuple[str, ...] = ()  # what this kernel has no member for

    @property
    def has_vmcs12(self) -> bool:
        """Whether cached_vmcs12 holds a VMCS that L1 has loaded."""
        return self.current_vmptr is not None or self.evmcs_state == "valid"


def read_nested(vmx: Value) -> Nested:
    """The nested state in a struct vcpu_vmx.  Raises MemberMissing where it cannot be told whether
    L2 runs, or with which vmcs12, and MemoryUnreadable."""
    nested, lost = vmx.member("nested"), Lost()
    arch = vmx.member("vcpu.arch")
    hflags = lost.or_else(None, lambda: host_flags(arch.member("hflags").number()))
    signs = l2_signs(vmx, hflags, lost)
    evmcs, evmcs_state = _evmcs(nested)
    smm = nested.member("smm") if nested.has("smm") else None  # 4.15+
    return Nested(
        address=nested.address,
        vmxon=bool(nested.member("vmxon").number()),
        vmxon_ptr=lost.or_else(None, lambda: _guest_address(nested.member("vmxon_ptr"))),
        current_vmptr=_guest_address(nested.member("current_vmptr")),
        cached_vmcs12=nested.member("cached_vmcs12").pointer() or None,
        run_pending=lost.or_else(False, lambda: _run_pending(nested, arch)),
        l2_active=next((bool(sign.says) for sign in signs if sign.says is not None), False),
        signs=signs,
        disagreement=disagreement(signs),
        hflags=hflags or host_flags(0),
        smm_guest_mode=smm is not None and _flag(smm, "guest_mode"),
        evmcs=evmcs,
        evmcs_state=evmcs_state,
        rare_sync_pending=_flag(nested, "need_sync_vmcs02_to_vmcs12_rare"),  # 5.3+
        shadow=lost.or_else(ShadowVmcs(None, False), lambda: _shadow_vmcs(vmx, nested)),
        ept_vpid_cap=lost.or_else(None, lambda: _ept_vpid_cap(nested)),
        secondary_allowed=lost.or_else(None, lambda: _secondary_allowed(nested)),
        writes=Writes(
            nested.has("need_sync_vmcs02_to_vmcs12_rare"), nested.has("pre_vmenter_bndcfgs")
        ),
        lost=lost.messages,
    )


def host_flags(word: int) -> HostFlags:
    """Decode hflags of a VMX vCPU."""
    if word & NEW_FLAGS:
        return HostFlags(word, bool(word & NEW_GUEST), bool(word & NEW_SMM), "bit 0, as since 6.3")
    if word & OLD_FLAGS:
        return HostFlags(word, bool(word & OLD_GUEST), bool(word & OLD_SMM), "bit 5, as up to 6.2")
    return HostFlags(word, False, False, "no flag set, in either numbering")


def l2_signs(vmx: Value, hflags: HostFlags | None, lost: Lost | None = None) -> tuple[Sign, ...]:
    """All signs, the most reliable first; one whose member this kernel lacks says nothing."""
    lost = lost or Lost()

    def sign(name: str, read: Callable[[Value], Sign]) -> Sign:
        return lost.or_else(Sign(name, None, "not known on this kernel"), lambda: read(vmx))

    flags = _hflags(hflags) if hflags else Sign("hflags", None, "not known on this kernel")
    return (
        sign("loaded_vmcs", _loaded_vmcs),
        flags,
        sign("stat.guest_mode", _statistic),
        sign("mmu", _mmu),
    )


def disagreement(signs: tuple[Sign, ...]) -> str:
    """'' if all signs that say something about L2 say the same.

    The MMU says nothing by "no": L1 may run L2 without EPT.
    """
    yes = [sign.name for sign in signs if sign.says]
    no = [sign.name for sign in signs if sign.says is False]
    if not yes or not no:
        return ""
    return f"signs disagree: L2 is active by {', '.join(yes)}; not by {', '.join(no)}"


def _loaded_vmcs(vmx: Value) -> Sign:
    loaded = vmx.member("loaded_vmcs").pointer()
    vmcs01 = vmx.member("vmcs01").address
    nested = vmx.member("nested")
    if loaded == vmcs01:
        detail = "loaded_vmcs is vmcs01"
    elif nested.has("vmcs02") and loaded == nested.member("vmcs02").address:
        detail = "loaded_vmcs is nested.vmcs02"
    else:  # 4.10 to 4.14 took it from a pool
        detail = f"loaded_vmcs is {loaded:#x}, not vmcs01"
    return Sign("loaded_vmcs", loaded != vmcs01, detail)


def _hflags(hflags: HostFlags) -> Sign:
    detail = f"HF_GUEST_MASK in arch.hflags {hflags.word:#x} ({hflags.numbering})"
    return Sign("hflags", hflags.guest_mode, detail)


def _statistic(vmx: Value) -> Sign:
    stat = vmx.member("vcpu.stat")
    if not stat.has("guest_mode"):
        return Sign("stat.guest_mode", None, "not kept by this kernel (5.14+)")
    number = stat.member("guest_mode").number()
    return Sign("stat.guest_mode", bool(number), f"vcpu->stat.guest_mode is {number}")


def _mmu(vmx: Value) -> Sign:
    """5.0+: arch.mmu points to guest_mmu; before, walk_mmu points to nested_mmu."""
    arch = vmx.member("vcpu.arch")
    newer = arch.has("guest_mmu") or not arch.has("nested_mmu")
    pointer, own = ("mmu", "guest_mmu") if newer else ("walk_mmu", "nested_mmu")
    if arch.member(pointer).pointer() == arch.member(own).address:
        return Sign("mmu", True, f"arch.{pointer} is &arch.{own}")
    return Sign("mmu", None, f"arch.{pointer} is not &arch.{own}: L1, or L2 without nested EPT")


def _guest_address(value: Value) -> L1Phys | None:
    number = value.number() & NO_ADDRESS
    return None if number == NO_ADDRESS else L1Phys(number)


def _flag(value: Value, name: str) -> bool:
    return value.has(name) and bool(value.member(name).number())


def _run_pending(nested: Value, arch: Value) -> bool:
    """Moved from nested_vmx to kvm_vcpu_arch in 7.1."""
    name = "nested_run_pending"
    return bool((arch if arch.has(name) else nested).member(name).number())


def _evmcs(nested: Value) -> tuple[L1Phys | None, str]:
    """5.0+, and only with CONFIG_KVM_HYPERV since 6.8."""
    if not nested.has("hv_evmcs_vmptr"):
        return None, ""
    pointer = nested.member("hv_evmcs_vmptr").number() & NO_ADDRESS
    if pointer == EVMPTR_MAP_PENDING:
        return None, "map pending"
    if pointer in (NO_ADDRESS, 0):  # 0 is what 5.0 to 5.10 start with
        return None, ""
    return L1Phys(pointer), "valid"


def _shadow_vmcs(vmx: Value, nested: Value) -> ShadowVmcs:
    """vmcs01.shadow_vmcs is allocated at VMXON if enable_shadow_vmcs (4.8+)."""
    names = ("need_vmcs12_to_shadow_sync", "need_vmcs12_sync", "sync_shadow_vmcs")
    newer = any(_flag(nested, name) for name in names)
    return ShadowVmcs(vmx.member("vmcs01.shadow_vmcs").pointer() or None, newer)


def _ept_vpid_cap(nested: Value) -> EptVpidCap:
    """IA32_VMX_EPT_VPID_CAP as L1 reads it: msrs.* since 4.18, flat before."""
    ept = nested.member("msrs.ept_caps" if nested.has("msrs") else "nested_vmx_ept_caps").number()
    vpid = nested.member(
        "msrs.vpid_caps" if nested.has("msrs") else "nested_vmx_vpid_caps"
    ).number()
    return EptVpidCap((ept & 0xFFFFFFFF) | (vpid & 0xFFFFFFFF) << 32)


def _secondary_allowed(nested: Value) -> SecondaryControls:
    """The controls that L1 may set: IA32_VMX_PROCBASED_CTLS2, high half."""
    flat = "nested_vmx_secondary_ctls_high"
    name = "msrs.secondary_ctls_high" if nested.has("msrs") else flat
    return SecondaryControls(nested.member(name).number() & 0xFFFFFFFF)
