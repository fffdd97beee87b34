# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the host has KVM with its Intel part, and a processor for it."""

from __future__ import annotations

from gdb_nept.errors import MemberMissing, MemoryUnreadable, NoGuest, TypeMissing
from gdb_nept.kvm.variables import variable_address
from gdb_nept.target.ports import Kernel, object_at

VMX = 5  # X86_FEATURE_VMX is bit 5 of word 4 (asm/cpufeatures.h)


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
    """Whether the boot processor has VMX that the kernel may use (word 4 is
    CPUID.1:ECX); None if the kernel does not tell."""
    address = variable_address(kernel, "boot_cpu_data", "kvm")
    if address is None:
        return None
    try:
        words = object_at(kernel, address, "cpuinfo_x86").member("x86_capability")
        return bool(words.index(4).number() >> VMX & 1)
    except (MemberMissing, MemoryUnreadable, TypeMissing):
        return None
