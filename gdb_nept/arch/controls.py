# SPDX-License-Identifier: GPL-2.0-or-later
"""The control words of a VMCS, bit by bit.

SDM vol. 3, June 2026 (325384-092): VM-execution controls in 27.6.1 and 27.6.2, VM-exit controls in
27.7.1, VM-entry controls in 27.8.1; the bits that must be 1 ("default1") in appendix A.2 to A.5.
"""

from __future__ import annotations

from typing import ClassVar

from gdb_nept.arch.bits import Named, Word, bit


class Controls(Word):
    """A control word.  Bits of `default1` that have no name are 1 by rule and say nothing."""

    default1: ClassVar[int] = 0

    @classmethod
    def reserved_one(cls) -> int:
        """The nameless bits that software must set."""
        return cls.default1 & ~sum(field.mask for field in cls.fields())

    def named(self, zeros: bool = False) -> tuple[Named, ...]:
        return Word.named(type(self)(self.value & ~self.reserved_one()), zeros)

    @property
    def missing_default1(self) -> int:
        """Reserved bits that must be 1 and are not: VM entry would refuse the word."""
        return self.reserved_one() & ~self.value


class PinControls(Controls):
    title = "pin-based VM-execution controls"
    default1 = 0x16

    external_interrupt_exiting = bit(0, "external-interrupt exiting")
    nmi_exiting = bit(3, "NMI exiting")
    virtual_nmis = bit(5, "virtual NMIs")
    preemption_timer = bit(6, "activate VMX-preemption timer")
    posted_interrupts = bit(7, "process posted interrupts")


class PrimaryControls(Controls):
    title = "primary processor-based VM-execution controls"
    default1 = 0x0401E172

    interrupt_window_exiting = bit(2, "interrupt-window exiting")
    tsc_offsetting = bit(3, "use TSC offsetting")
    hlt_exiting = bit(7, "HLT exiting")
    invlpg_exiting = bit(9, "INVLPG exiting")
    mwait_exiting = bit(10, "MWAIT exiting")
    rdpmc_exiting = bit(11, "RDPMC exiting")
    rdtsc_exiting = bit(12, "RDTSC exiting")
    cr3_load_exiting = bit(15, "CR3-load exiting")
    cr3_store_exiting = bit(16, "CR3-store exiting")
    tertiary_controls = bit(17, "activate tertiary controls")
    cr8_load_exiting = bit(19, "CR8-load exiting")
    cr8_store_exiting = bit(20, "CR8-store exiting")
    tpr_shadow = bit(21, "use TPR shadow")
    nmi_window_exiting = bit(22, "NMI-window exiting")
    mov_dr_exiting = bit(23, "MOV-DR exiting")
    unconditional_io_exiting = bit(24, "unconditional I/O exiting")
    io_bitmaps = bit(25, "use I/O bitmaps")
    monitor_trap_flag = bit(27, "monitor trap flag")
    msr_bitmaps = bit(28, "use MSR bitmaps")
    monitor_exiting = bit(29, "MONITOR exiting")
    pause_exiting = bit(30, "PAUSE exiting")
    secondary_controls = bit(31, "activate secondary controls")


class SecondaryControls(Controls):
    title = "secondary processor-based VM-execution controls"

    virtualize_apic_accesses = bit(0, "virtualize APIC accesses")
    ept = bit(1, "enable EPT")
    descriptor_table_exiting = bit(2, "descriptor-table exiting")
    rdtscp = bit(3, "enable RDTSCP")
    virtualize_x2apic = bit(4, "virtualize x2APIC mode")
    vpid = bit(5, "enable VPID")
    wbinvd_exiting = bit(6, "WBINVD exiting")
    unrestricted_guest = bit(7, "unrestricted guest")
    apic_register_virtualization = bit(8, "APIC-register virtualization")
    virtual_interrupt_delivery = bit(9, "virtual-interrupt delivery")
    pause_loop_exiting = bit(10, "PAUSE-loop exiting")
    rdrand_exiting = bit(11, "RDRAND exiting")
    invpcid = bit(12, "enable INVPCID")
    vm_functions = bit(13, "enable VM functions")
    vmcs_shadowing = bit(14, "VMCS shadowing")
    encls_exiting = bit(15, "enable ENCLS exiting")
    rdseed_exiting = bit(16, "RDSEED exiting")
    pml = bit(17, "enable PML")
    ept_violation_ve = bit(18, "EPT-violation #VE")
    conceal_from_pt = bit(19, "conceal VMX from PT")
    xsaves = bit(20, "enable XSAVES/XRSTORS")
    pasid_translation = bit(21, "PASID translation")
    mode_based_execute = bit(22, "mode-based execute control for EPT", "MBEC")
    sub_page_write = bit(23, "sub-page write permissions for EPT", "SPP")
    pt_guest_physical = bit(24, "Intel PT uses guest physical addresses")
    tsc_scaling = bit(25, "use TSC scaling")
    user_wait_pause = bit(26, "enable user wait and pause")
    pconfig = bit(27, "enable PCONFIG")
    enclv_exiting = bit(28, "enable ENCLV exiting")
    bus_lock_detection = bit(30, "VMM bus-lock detection")
    instruction_timeout = bit(31, "instruction timeout")


class TertiaryControls(Controls):
    title = "tertiary processor-based VM-execution controls"

    loadiwkey_exiting = bit(0, "LOADIWKEY exiting")
    hlat = bit(1, "enable HLAT: linear addresses translated by tables of the hypervisor", "HLAT")
    paging_write = bit(2, "EPT paging-write control", "PW")
    verify_guest_paging = bit(3, "guest-paging verification (with bit 2)", "GPV")
    ipi_virtualization = bit(4, "IPI virtualization")
    seam_width = bit(5, "SEAM guest-physical address width")
    msr_list = bit(6, "enable MSR-list instructions")
    virtualize_spec_ctrl = bit(7, "virtualize IA32_SPEC_CTRL")
    apic_timer_virtualization = bit(8, "APIC-timer virtualization")
    pbndkb = bit(9, "enable PBNDKB")
    pebs_guest_physical = bit(12, "PEBS uses guest physical addresses")


class ExitControls(Controls):
    title = "primary VM-exit controls"
    default1 = 0x36DFF

    save_debug_controls = bit(2, "save debug controls")
    host_address_space_size = bit(9, "host address-space size")
    load_perf_global_ctrl = bit(12, "load IA32_PERF_GLOBAL_CTRL")
    acknowledge_interrupt = bit(15, "acknowledge interrupt on exit")
    save_pat = bit(18, "save IA32_PAT")
    load_pat = bit(19, "load IA32_PAT")
    save_efer = bit(20, "save IA32_EFER")
    load_efer = bit(21, "load IA32_EFER")
    save_preemption_timer = bit(22, "save VMX-preemption timer value")
    clear_bndcfgs = bit(23, "clear IA32_BNDCFGS")
    conceal_from_pt = bit(24, "conceal VMX from PT")
    clear_rtit_ctl = bit(25, "clear IA32_RTIT_CTL")
    clear_lbr_ctl = bit(26, "clear IA32_LBR_CTL")
    clear_uinv = bit(27, "clear UINV")
    load_cet = bit(28, "load CET state")
    load_pkrs = bit(29, "load PKRS")
    save_perf_global_ctrl = bit(30, "save IA32_PERF_GLOBAL_CTRL")
    secondary_controls = bit(31, "activate secondary controls")


class SecondaryExitControls(Controls):
    title = "secondary VM-exit controls"

    save_fred = bit(0, "save FRED")
    load_fred = bit(1, "load FRED")
    load_spec_ctrl = bit(2, "load IA32_SPEC_CTRL")
    busy_shadow_stack = bit(3, "prematurely busy shadow stack")


class EntryControls(Controls):
    title = "VM-entry controls"
    default1 = 0x11FF

    load_debug_controls = bit(2, "load debug controls")
    ia32e_guest = bit(9, "IA-32e mode guest")
    entry_to_smm = bit(10, "entry to SMM")
    deactivate_dual_monitor = bit(11, "deactivate dual-monitor treatment")
    load_perf_global_ctrl = bit(13, "load IA32_PERF_GLOBAL_CTRL")
    load_pat = bit(14, "load IA32_PAT")
    load_efer = bit(15, "load IA32_EFER")
    load_bndcfgs = bit(16, "load IA32_BNDCFGS")
    conceal_from_pt = bit(17, "conceal VMX from PT")
    load_rtit_ctl = bit(18, "load IA32_RTIT_CTL")
    load_uinv = bit(19, "load UINV")
    load_cet = bit(20, "load CET state")
    load_lbr_ctl = bit(21, "load guest IA32_LBR_CTL")
    load_pkrs = bit(22, "load PKRS")
    load_fred = bit(23, "load FRED")
    load_spec_ctrl = bit(24, "load IA32_SPEC_CTRL")
    seam_telemetry = bit(25, "allow SEAM-guest telemetry")
