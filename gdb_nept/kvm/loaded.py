# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the host has KVM with its Intel part, and a processor for it."""

from __future__ import annotations

from gdb_nept.errors import (
    MemberMissing,
    MemoryUnreadable,
    NoGuest,
    SymbolMissing,
    TypeMissing,
)
from gdb_nept.kvm.variables import variable_address
from gdb_nept.target.ports import Kernel, object_at

VMX = 5  # X86_FEATURE_VMX is bit 5 of word 4 (asm/cpufeatures.h)
GBPAGES = 26  # X86_FEATURE_GBPAGES is bit 26 of word 1


def require_intel(kernel: Kernel) -> None:
    """Raises NoGuest where KVM or its Intel part is not there, with the reason."""
    loaded = {module.name for module in kernel.modules()}
    if "kvm_intel" in loaded:
        return
    if kernel.module_problem:
        raise NoGuest(
            f"whether KVM is loaded cannot be told: {kernel.module_problem}",
            "Is the dump truncated?  nept-target shows what is read.",
        )
    if "kvm_amd" in loaded:
        raise NoGuest(
            "KVM runs on AMD here (kvm_amd): nested EPT exists on Intel only",
            "AMD's counterpart, nested NPT, is not decoded.",
        )
    if variable_address(kernel, "vmx_vcpu_run", "kvm_intel") is not None:
        return  # built in
    if has_vmx(kernel) is False:
        raise NoGuest(
            "the host's processor has no VMX, so that no nested guest can be there",
            "Its firmware may have switched it off.  QEMU emulates none (TCG); its KVM gives an L0 "
            "VMX with -cpu host,+vmx (qemu-configs/l0-kvm.cfg).",
        )
    if "kvm" in loaded:
        raise NoGuest("kvm is loaded without kvm_intel", "Load kvm_intel on the host.")
    raise NoGuest("kvm module is not loaded", "Load kvm_intel on the host, and start a VM.")


def has_vmx(kernel: Kernel) -> bool | None:
    """Whether the boot processor has VMX that the kernel may use (word 4 is CPUID.1:ECX); None if
    the kernel does not tell."""
    return _has(kernel, 4, VMX)


def has_pages_1g(kernel: Kernel) -> bool | None:
    """Whether the boot processor has 1-GByte pages (word 1 is CPUID.80000001H:EDX); None as above.
    With EPT it walks L2's tables itself, so that this holds for L2 whatever CPUID its guest is
    shown: mmu/mmu.c, guest_can_use_gbpages()."""
    return _has(kernel, 1, GBPAGES)


def _has(kernel: Kernel, word: int, place: int) -> bool | None:
    try:
        address = kernel.symbols.address("boot_cpu_data")
        words = object_at(kernel, address, "cpuinfo_x86").member("x86_capability")
        return bool(words.index(word).number() >> place & 1)
    except (MemberMissing, MemoryUnreadable, SymbolMissing, TypeMissing):
        return None
