# SPDX-License-Identifier: GPL-2.0-or-later
"""What the way in which a dump was taken means for a vmcs12 in it.

Before it starts the crash kernel, the dying host executes VMCLEAR for every VMCS that is loaded on
a processor, which writes what the processor held of it to memory: vmx_emergency_disable_
virtualization_cpu() of arch/x86/kvm/vmx/vmx.c (6.12), crash_vmclear_local_loaded_vmcss() before.
Nothing of that goes into KVM's vmcs12, and the page that L1 named by VMPTRLD is written by
nested_release_vmcs12() alone, when L1 gives the VMCS up.
"""

from __future__ import annotations

from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.memory.taken import Vmcss

TAKEN = {
    Vmcss.CLEARED: "kdump took this dump: it cleared the loaded VMCSs first, and copied nothing of "
    "them into vmcs12",
    Vmcss.KEPT: "a hypervisor below the host took this dump, and cleared no VMCS: what a processor "
    "held of one may be newer than memory",
    Vmcss.UNKNOWN: "this format does not tell whether kdump took the dump, which clears the loaded "
    "VMCSs first, or a hypervisor below the host, which does not",
}
VMCS02 = {
    Vmcss.CLEARED: "what is stale here stands in vmcs02, whole in memory, in the processor's own "
    "layout",
    Vmcss.KEPT: "what is stale here stands in vmcs02, which may be older in memory than it was in "
    "the processor",
    Vmcss.UNKNOWN: "what is stale here stands in vmcs02, of which memory has all if kdump cleared "
    "it",
}
SHADOW = {
    Vmcss.CLEARED: "L1's newest VMWRITEs stand in its shadow VMCS, which newer kernels clear too, "
    "and older ones leave in the processor",
    Vmcss.KEPT: "L1's newest VMWRITEs stand in its shadow VMCS, which may be older in memory than "
    "it was in the processor",
    Vmcss.UNKNOWN: "L1's newest VMWRITEs stand in its shadow VMCS, of which memory need not have "
    "all",
}


def dumped_in_words(vmcss: Vmcss | None, found: Vmcs12) -> tuple[str, ...]:
    """Which copy of `found` to believe, in a dump that was taken so; nothing if it is none."""
    if vmcss is None:
        return ()
    now = found.situation
    told = [TAKEN[vmcss]]
    if now.loaded and found.pointer is not None:
        told.append(
            f"KVM's cached copy is what counts; the page at L1 physical {found.pointer:#x} is "
            "older: KVM writes it only when L1 gives the VMCS up (nested_release_vmcs12())"
        )
    if now.l2_active:
        told.append(VMCS02[vmcss])
    elif now.loaded and now.shadowing and not now.newer_in_cache:
        told.append(SHADOW[vmcss])
    return tuple(told)
