# SPDX-License-Identifier: GPL-2.0-or-later
"""The KVMs that L1 can run on: what each does differently, and since when.

A kernel is a set of `Feature`s.  Those of the kernels that are known by name stand in KERNELS; an
attached one is probed from its types instead (judge/features.py), never from its version.  What
every KVM does otherwise than the processor is a `Habit`.  Files are in arch/x86/kvm; before 4.21
vmx/ was vmx.c, and before 5.8 mmu/ was mmu.c and paging_tmpl.h.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from gdb_nept.arch.cpu import ANY_LARGE_PAGE, Capabilities, EptVpidCap
from gdb_nept.arch.ept import Eptp, EptpRule
from gdb_nept.predict.access import MBEC, PML, Controls, Plain, switched_on
from gdb_nept.predict.case import Hardware
from gdb_nept.predict.entry import apic_problem, nmi_problem


class Feature(Plain):
    """What a KVM does since some commit."""

    EMULATED_TOLD = (
        "an EPT fault that the emulator meets reaches L1 "
        "(x86.c translate_nested_gpa() hands the exception on, by the source of 3.18)"
    )
    READ_TRACKED = (
        "a read needs R, in every entry "
        "(mmu/paging_tmpl.h gpte_access(), 4.8, d95c55687e11; ACC_USER_MASK was always set)"
    )
    LINEAR_COPIED = (
        "the guest-linear address reaches vmcs12 "
        "(vmx/nested.c sync_vmcs02_to_vmcs12(), 4.9, 119a9c01a592)"
    )
    RIGHTS_OF_ENTRIES = (
        "bits 5:3 are the entries' R, W, X and not ACC_* flags "
        "(mmu/paging_tmpl.h walk_addr_generic(), 4.12, 0780516a18f8)"
    )
    ACCESSED_DIRTY = (
        "L1 may use accessed and dirty flags, and without them a page walk is no write "
        "(vmx/vmx.c handle_ept_violation(), 4.12, ae1e2d1082ae; EPT02 always had them on)"
    )
    PML = (
        "page-modification logging is offered to L1 "
        "(vmx/nested.c nested_vmx_write_pml_buffer(), 4.12, c5f983f6e845)"
    )
    WALK_AS_MADE = (
        "EPT02 uses accessed and dirty flags exactly if EPTP12 does, so that what a page walk did "
        "is what the processor reports (mmu/mmu.c kvm_init_shadow_ept_mmu(), 4.14, 995f00a61958)"
    )
    EPTP_CHECKED = (
        "VM entry checks EPTP12 "
        "(vmx/nested.c nested_vmx_check_eptp(), once valid_ept_address(), "
        "by the source of 4.14)"
    )
    KIND_OF_WALK = (
        "bits 2:0 come from the access that KVM walks with "
        "(mmu/paging_tmpl.h walk_addr_generic(), 4.17, ddd6f0e94d31, "
        "and stable releases of 4.14)"
    )
    FIVE_LEVELS = (
        "EPT12 may have 5 levels "
        "(vmx/nested.c nested_vmx_check_eptp(), mmu/mmu.c kvm_init_shadow_ept_mmu(), 5.7, "
        "bb1fcc70d98f)"
    )
    TRIPLE_FAULT_TOLD = (
        "a triple fault of L2 is an exit for L1, and does not end L1's VM "
        "(vmx/nested.c nested_vmx_triple_fault(), 5.13, cb6a32c2b877)"
    )
    LARGE_PAGES_CHECKED = (
        "a large page that L1 is not offered is a misconfiguration "
        "(mmu/mmu.c __reset_rsvds_bits_mask_ept(), 5.17, 84ea5c09a66d and cc022ae144c1)"
    )
    DUMMY_ROOT = (
        "a root of EPT12 in no memslot is shadowed by an empty table, not a triple fault "
        "(mmu/mmu.c mmu_alloc_shadow_roots(), 6.6, 0e3223d8d00a)"
    )
    MISCONFIG_CLEARED = (
        "a misconfiguration has qualification 0 "
        "(vmx/nested.c nested_ept_inject_page_fault(), 6.10, 0c4765140351)"
    )
    NMI_KEPT = (
        "a full log has the processor's bit 12, NMI unblocking "
        "(vmx/nested.c nested_ept_inject_page_fault(), 6.10, a9466078687f; "
        "walk_addr_generic() used to clear it first)"
    )
    LINEAR_SYNTHESISED = (
        "bits 8:7 of a fault found by the emulator are made for it "
        "(vmx/nested.c nested_ept_inject_page_fault(), from_hardware; 7.2, 6.12.117, fe0b872d7500)"
    )
    ONE_KIND = (
        "bits 2:0 are one of W, X, R, with R for every page walk "
        "(mmu/paging_tmpl.h walk_addr_generic(), 7.2, d220bcf026f0)"
    )
    MBEC = (
        "mode-based execute control is offered to L1 "
        "(vmx/nested.c nested_vmx_setup_secondary_ctls(), 7.2, 606ddbfb4c02)"
    )
    ADVANCED = (
        "bits 11:9 are passed on (vmx/nested.c nested_ept_inject_page_fault(), 7.2, a0efd8cb221f)"
    )


class Habit(Plain):
    """What no KVM up to 7.2 does as the SDM has it."""

    UPPER_BITS_IGNORED = (
        "bits 51:48 of the address are not looked at under a 4-level EPT "
        "(mmu/paging_tmpl.h walk_addr_generic(), PT_INDEX())"
    )
    TABLE_IN_NO_MEMSLOT = (
        "a table that KVM cannot read is an EPT violation, with the rights of the levels above "
        "(mmu/paging_tmpl.h walk_addr_generic(): pte_access is not cleared)"
    )
    DIRTY_ALONE_IS_LOGGED = (
        "a full log counts only where a dirty flag must be set, not for an accessed flag "
        "(mmu/paging_tmpl.h update_accessed_dirty_bits())"
    )
    EMULATED_WALK_WRITES = (
        "the emulator's page walks need W, whatever EPTP12 says of accessed and dirty flags "
        "(mmu/paging_tmpl.h walk_addr_generic(), nested_access)"
    )
    EMULATED_READS_TOO = (
        "every access of the emulator is a read too, until 7.2 "
        "(x86.c translate_nested_gpa() adds PFERR_USER_MASK)"
    )
    EMULATED_RMW_IN_TWO = (
        "the emulator's read-modify-write is a read and then a write: what the read meets is told "
        "as a read (emulate.c x86_emulate_insn(), which reads its destination first)"
    )
    EMULATED_OFFSET_LOST = (
        "the emulator translates page by page: bits 11:0 of its address are 0 "
        "(mmu/paging_tmpl.h walk_addr_generic(), gfn_to_gpa())"
    )
    EMULATED_ADVANCED_LOST = (
        "bits 11:9 of a violation that the emulator meets are 0, though L1 is offered them "
        "(vmx/nested.c nested_ept_inject_page_fault(): walk_addr_generic() sets bits 8:7 alone)"
    )
    EMULATED_LINEAR_STALE = (
        "the guest-linear address of a violation that the emulator meets is that of the exit for "
        "which it runs (vmx/nested.c sync_vmcs02_to_vmcs12() copies the field of vmcs02)"
    )
    EMULATED_PDPTES = (
        "PDPTEs that the emulator cannot load are a #GP in L2, and it needs W to load them "
        "(x86.c load_pdptrs(), which keeps no exception)"
    )


@dataclass(frozen=True)
class Kvm:
    """A KVM: its features, and the processor that it runs on."""

    name: str
    features: frozenset[Feature]
    hardware: Hardware

    def __contains__(self, feature: Feature) -> bool:
        return feature in self.features

    def refuses(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> str:
        """Why VM entry fails, or '': a control that L1 is not offered, or EPTP12.

        vmx/nested.c nested_check_vm_execution_controls(), in its order.
        """
        offered = {MBEC: Feature.MBEC in self, PML: Feature.PML in self}
        refused = [name for name in switched_on(cpu, controls) if not offered.get(name)]
        if refused:
            return f"{', '.join(refused)}: not offered to L1 by this KVM"
        if problem := apic_problem(controls.apic, cpu.maxphyaddr):
            return problem
        if Feature.EPTP_CHECKED not in self:
            return ""
        if Feature.FIVE_LEVELS not in self:
            return eptp.refusal(cpu, KVM_EPTP_BEFORE_5_7)
        return nmi_problem(controls) or eptp.refusal(cpu, KVM_EPTP)

    def offers(self, eptp: Eptp, cpu: Capabilities, controls: Controls) -> Offered:
        """What of it all is in force under this KVM."""
        pml = controls.pml and Feature.PML in self
        if controls.ve or controls.pml is not pml:
            controls = replace(controls, pml=pml, ve=False)
        return Offered(
            _eptp_in_force(eptp, Feature.ACCESSED_DIRTY in self, Feature.FIVE_LEVELS in self),
            _cpu_in_force(cpu, Feature.MBEC in self, Feature.LARGE_PAGES_CHECKED in self),
            controls,
        )


@dataclass(frozen=True)
class Offered:
    """What is in force once a KVM has left out what it does not know."""

    eptp: Eptp
    cpu: Capabilities
    controls: Controls


FOUR = 4
#: It takes no bit 7 either, and L1 is never offered UC (nested_vmx_setup_secondary_ctls(), once
#: nested_vmx_setup_ctls_msrs()).
KVM_EPTP = EptpRule(
    reserved_from=7,
    withheld=EptVpidCap.memory_type_uc.mask,
    source="vmx/nested.c nested_vmx_check_eptp()",
)
#: valid_ept_address(): 4 levels, whatever is offered.
KVM_EPTP_BEFORE_5_7 = replace(
    KVM_EPTP,
    withheld=KVM_EPTP.withheld | EptVpidCap.walk_length_5.mask,
    unasked=EptVpidCap.walk_length_4.mask,
    source="vmx/nested.c valid_ept_address()",
)


def _eptp_in_force(eptp: Eptp, accessed_dirty: bool, five_levels: bool) -> Eptp:
    """No KVM knows supervisor shadow-stack pages, and an older one walks 4 levels whatever the
    EPTP says (mmu.c kvm_init_shadow_ept_mmu(): PT64_ROOT_4LEVEL)."""
    ignored = Eptp.shadow_stack.mask | (0 if accessed_dirty else Eptp.accessed_dirty.mask)
    value = eptp.value & ~ignored
    if not five_levels:
        value = value & ~Eptp.walk_length.mask | (FOUR - 1) << Eptp.walk_length.low
    return eptp if value == eptp.value else Eptp(value)


@lru_cache(maxsize=64)
def _cpu_in_force(cpu: Capabilities, mbec: bool, large_pages_checked: bool) -> Capabilities:
    cap = cpu.ept_vpid_cap
    if not large_pages_checked:
        cap = EptVpidCap(cap.value | ANY_LARGE_PAGE)
    return Capabilities(cpu.maxphyaddr, cap, cpu.mbec and mbec)


F = Feature
V3_18 = frozenset({F.EMULATED_TOLD})
V4_8 = V3_18 | {F.READ_TRACKED}
V4_9 = V4_8 | {F.LINEAR_COPIED}
V4_12 = V4_9 | {F.RIGHTS_OF_ENTRIES, F.ACCESSED_DIRTY, F.PML}
V4_14 = V4_12 | {F.WALK_AS_MADE, F.EPTP_CHECKED}
V4_17 = V4_14 | {F.KIND_OF_WALK}
V5_7 = V4_17 | {F.FIVE_LEVELS}
V5_13 = V5_7 | {F.TRIPLE_FAULT_TOLD}
V5_17 = V5_13 | {F.LARGE_PAGES_CHECKED}
V6_6 = V5_17 | {F.DUMMY_ROOT}
V6_10 = V6_6 | {F.MISCONFIG_CLEARED, F.NMI_KEPT}
V6_12_117 = V6_10 | {F.LINEAR_SYNTHESISED}
V7_2 = frozenset(Feature)

#: Each is that of its release and of those after it, up to the next here.
KERNELS = {
    "kvm-3.12": frozenset[Feature](),
    "kvm-3.18": V3_18,
    "kvm-4.8": V4_8,
    "kvm-4.9": V4_9,
    "kvm-4.12": V4_12,
    "kvm-4.14": V4_14,
    "kvm-4.17": V4_17,
    "kvm-5.7": V5_7,
    "kvm-5.10": V5_7,
    "kvm-5.13": V5_13,
    "kvm-5.17": V5_17,
    "kvm-6.1": V5_17,
    "kvm-6.6": V6_6,
    "kvm-6.10": V6_10,
    "kvm-6.12.117": V6_12_117,
    "kvm-7.2": V7_2,
}

RELEASE = re.compile(r"kvm-(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?")
BACKPORT = (6, 12, 117)  # a stable release: 6.13 and later do not follow from it


def features_of(name: str) -> frozenset[Feature] | None:
    """Those of 'kvm-6.8', a mainline release: of the last that KERNELS has up to it.  None for one
    that is older or younger than all of them, and for no release."""
    given = RELEASE.fullmatch(name)
    if name in KERNELS or given is None:
        return KERNELS.get(name)
    major, minor, patch = (int(part or 0) for part in given.groups())
    known = {_numbers(each): features for each, features in KERNELS.items()}
    if not min(known) <= (major, minor, patch) or (major, minor) > max(known)[:2]:
        return None
    stable = (major, minor) == BACKPORT[:2]
    return known[max(at for at in known if at <= (major, minor, patch) and (stable or len(at) < 3))]


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.partition("-")[2].split(".")))
