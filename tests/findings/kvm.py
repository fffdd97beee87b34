# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a released KVM departs from the SDM in what it gives L1, and no changelog says so.

Files are in arch/x86/kvm of Linux 7.2, on which each is run.  Not shown, as no processor at hand
can, but read in its source: under a 4-level EPT bits 51:48 of a guest-physical address are not
looked at (predict/kvm.py UPPER_BITS_IGNORED), and a PDPTE that the emulator cannot load is a #GP in
L2 and no exit (EMULATED_PDPTES).
"""

from __future__ import annotations

from tests.features.cases import MOVS, PML, PML_FULL, A, D
from tests.findings.finding import Finding, one
from tests.guests.generate import LARGE_PAGE, SMALL_PAGE, WALKED
from tests.guests.scenarios import OUTS, PDE, PTE, READ, RWX, WRITE, W, ept, walk

RUN_ON = ("7.2",)
FULL = PML | PML_FULL

FINDINGS = (
    Finding(
        "DIRTY_ALONE_IS_LOGGED",
        RUN_ON,
        "a full page-modification log does not stop an access that must set an accessed flag alone",
        "SDM vol. 3, 31.3.6: the PML index is looked at when an accessed or dirty flag for EPT is "
        "to be set",
        "mmu/paging_tmpl.h update_accessed_dirty_bits(): write_log_dirty() is called for the dirty "
        "flag only",
        "exit 62",
        one("DIRTY_ALONE_IS_LOGGED", READ, SMALL_PAGE, [ept(PTE, A)], features=FULL),
    ),
    Finding(
        "FLAGS_AT_FULL_LOG",
        RUN_ON,
        "at a full log the accessed flags above the leaf are set all the same",
        "SDM vol. 3, 31.3.6: the accessed or dirty flag is not set then",
        "mmu/paging_tmpl.h update_accessed_dirty_bits(): goes from the top down, and comes to the "
        "dirty flag last",
        "exit 62 with bit 8 of the third EPT entry (PDE) still 0",
        one("FLAGS_AT_FULL_LOG", WRITE, SMALL_PAGE, [ept(PDE, A), ept(PTE, D)], features=FULL),
    ),
    Finding(
        "EMULATED_FULL_LOG_WARNS",
        RUN_ON,
        "a guest can raise a WARN_ON_ONCE() of the host: a full log that the emulator meets",
        "SDM vol. 3, 31.3.6: a full log is an exit for L1, and no fault of the host",
        "vmx/nested.c nested_ept_inject_page_fault(): takes an EPT violation for the only exit of "
        "L2's that leads there; here it is 30, I/O instruction: OUTSB reads its operand in the "
        "emulator, whose page walk must set a dirty flag of EPT12",
        "exit 62, and no warning in the host's log (dmesg)",
        one("EMULATED_FULL_LOG_WARNS", OUTS, WALKED, [walk(PTE, PTE, D)], features=FULL),
        warns="nested_ept_inject_page_fault",
    ),
    Finding(
        "EMULATED_WALK_WRITES",
        RUN_ON,
        "the emulator's page walks need write access in EPT12, with its A/D flags off too",
        "SDM vol. 3, 31.3.3.2: with EPTP bit 6 clear, an access to a paging-structure entry is a "
        "read, but for the update of a flag",
        "mmu/paging_tmpl.h walk_addr_generic(): have_ad, and so PFERR_WRITE_MASK in nested_access, "
        "is about L2's own paging there, and always true; EPTP12 is not asked",
        "no exit: L2's flags are all set",
        one("EMULATED_WALK_WRITES", OUTS, WALKED, [walk(PTE, PTE, W)], flags=0),
    ),
    Finding(
        "EMULATED_OFFSET_LOST",
        RUN_ON,
        "the guest-physical address of a violation that the emulator meets has bits 11:0 clear",
        "SDM vol. 3, 30.2.1: the field is the guest-physical address that caused the violation",
        "mmu/paging_tmpl.h walk_addr_generic(): kvm_translate_gpa() gets gfn_to_gpa(gfn), of a "
        "table gfn_to_gpa(table_gfn) and not pte_gpa",
        "exit 48 with 0x40 in bits 11:0 of the GPA",
        one("EMULATED_OFFSET_LOST", OUTS, SMALL_PAGE, [ept(PTE, RWX)]),
    ),
    Finding(
        "EMULATED_ADVANCED_LOST",
        RUN_ON,
        "bits 11:9 of a violation that the emulator meets are 0, though L1 is offered them",
        "SDM vol. 3, table 30-7: with IA32_VMX_EPT_VPID_CAP bit 22 and bits 8:7 both 1 they are "
        "the rights of the linear address",
        "vmx/nested.c nested_ept_inject_page_fault(): takes them from fault->exit_qualification, "
        "where walk_addr_generic() sets bits 8:7 and none of these",
        "exit 48 with bits 11:9 of the qualification 2: L2's page is the supervisor's, writable",
        one("EMULATED_ADVANCED_LOST", OUTS, LARGE_PAGE, [ept(PDE, RWX)]),
    ),
    Finding(
        "EMULATED_LINEAR_STALE",
        RUN_ON,
        "the guest-linear address of a violation that the emulator meets is that of another access",
        "SDM vol. 3, 30.2.1: with bit 7 of the qualification 1 it is the linear address that "
        "caused the violation",
        "vmx/nested.c sync_vmcs02_to_vmcs12(): copies the field of vmcs02, which the processor "
        "wrote for the exit that made KVM emulate: here of the source of a MOVSB, which is MMIO",
        "exit 48 with GLA 0x500000000108, that of the destination",
        one("EMULATED_LINEAR_STALE", WRITE, SMALL_PAGE, [ept(PTE, RWX)], features=MOVS),
    ),
)
