# SPDX-License-Identifier: GPL-2.0-or-later
"""Controls, other than the EPTP, with which VM entry fails.

SDM vol. 3, June 2026 (325384-092), 29.2.1.1 "VM-Execution Control Fields"; edition of 2016:
26.2.1.1.  KVM does the same checks for L1, in vmx/nested.c nested_vmx_check_apic_access_controls(),
nested_vmx_check_apicv_controls() and nested_vmx_check_nmi_controls().
"""

from __future__ import annotations

from gdb_nept.memory.reader import PAGE_MASK
from gdb_nept.predict.access import Apic, Controls


def apic_problem(apic: Apic | None, maxphyaddr: int) -> str:
    """Why VM entry refuses what is told of APIC accesses, or ''."""
    if apic is None:
        return ""
    if apic.address & PAGE_MASK:
        return f"the APIC-access address {apic.address:#x} is not that of a page"
    if apic.address >> maxphyaddr:
        return f"the APIC-access address {apic.address:#x} is beyond {maxphyaddr} bits"
    if apic.tpr_shadow or not (apic.registers or apic.interrupt_delivery):
        return ""
    name = "APIC-register virtualization" if apic.registers else "virtual-interrupt delivery"
    return f"{name} needs the TPR shadow (primary control bit 21)"


def nmi_problem(controls: Controls) -> str:
    """Why VM entry refuses the controls about NMIs, or ''."""
    if controls.virtual_nmis and not controls.nmi_exiting:
        return "virtual NMIs (pin-based control bit 5) need NMI exiting (bit 3)"
    return ""
