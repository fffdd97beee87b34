# SPDX-License-Identifier: GPL-2.0-or-later
"""Where each CPU of a dump stood, and what became of the VMCSs."""

from __future__ import annotations

from gdb_nept.address import HostPhys, KernelVirt
from gdb_nept.arch.paging import Cr3
from gdb_nept.errors import NeptError
from gdb_nept.memory.cpu_registers import Registers
from gdb_nept.memory.dump import Dump
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.pagetable import PageTables
from gdb_nept.target.scan import PTI_USER

MOST_CPUS = 32  # told
KERNEL_HALF = 1 << 63


def cpus_in_words(dump: Dump, kernel: LinuxKernel) -> tuple[str, ...]:
    """Where each CPU stood, and whether a guest ran on it."""
    told = tuple(
        f"CPU {number}: {_cpu_in_words(one.rip, one, kernel)}"
        for number, one in enumerate(dump.cpus[:MOST_CPUS])
        if one.rip is not None
    )
    left = len(dump.cpus) - MOST_CPUS
    return (*told, f"and {left} more CPUs") if left > 0 else told


def _cpu_in_words(rip: int, cpu: Registers, kernel: LinuxKernel) -> str:
    place = f"RIP {rip:#x}"
    if not cpu.cr3:
        if rip < KERNEL_HALF:
            return f"{place}, in user space or in a guest (the dump has no CR3, which would tell)"
        return f"{place} ({_name(kernel, rip)})"
    place += f", CR3 {cpu.cr3:#x}"
    if not _of_host(kernel, cpu.cr3):
        return f"{place}, whose tables are not the host's: a guest ran; nept-vms tells which"
    if rip < KERNEL_HALF:
        return f"{place}, in user space of the host"
    return f"{place}, in the host's kernel ({_name(kernel, rip)})"


def _name(kernel: LinuxKernel, rip: int) -> str:
    try:
        return kernel.symbols.name_at(KernelVirt(rip)) or "no symbol of this kernel"
    except NeptError as error:
        return error.message


def _of_host(kernel: LinuxKernel, cr3: int) -> bool:
    """Whether its tables lead to this kernel's own text, as those of every process do."""
    text = kernel.symbols.address("_stext")
    here = kernel.to_physical(text)
    for root in (cr3 & ~PTI_USER, cr3):
        tables = PageTables(kernel.physical, HostPhys(Cr3(root).address), kernel.levels)
        if tables.walk(text).physical == here:
            return True
    return False


def vmcs_in_words(dump: Dump) -> tuple[str, ...]:
    """What may be taken from the VMCSs of a dump.  vmcs12 is KVM's own memory, and whole in both;
    what only vmcs02 holds while L2 runs is in a VMCS, which the processor may keep to itself."""
    if dump.by_kdump is None:
        return ()
    if dump.by_kdump:
        return (
            "kdump has cleared the loaded VMCSs before it dumped (arch/x86/kvm/vmx/vmx.c, "
            "vmx_emergency_disable_virtualization_cpu in 6.12; before, "
            "crash_vmclear_local_loaded_vmcss, which leaves out L1's shadow VMCS): what the "
            "processor held of vmcs02 is in memory, and none is loaded any more",
        )
    return (
        "a hypervisor below the host took the dump, and cleared no VMCS: vmcs12 as KVM keeps it is "
        "whole, but a VMCS that was loaded may be older in memory than in the processor",
    )
