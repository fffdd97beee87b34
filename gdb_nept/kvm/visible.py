# SPDX-License-Identifier: GPL-2.0-or-later
"""Which memslots a nested guest gets to see, and where KVM finds a table of L1's.

KVM keeps slots of its own among those of the VMM.  What L2 may see of them has changed with the
years; each rule is probed by a member that came in the same release.
"""

from __future__ import annotations

from enum import Enum

from gdb_nept.errors import TypeMissing
from gdb_nept.kvm.memslots import PRIVATE, Slot
from gdb_nept.target.ports import Kernel, Value

APIC_ACCESS = PRIVATE[1]


class NoRoot(Enum):
    """What KVM does where the root of EPT12 lies in no memslot."""

    SHUTDOWN = (
        "KVM shuts L1 down at the next VM entry: KVM_RUN returns KVM_EXIT_SHUTDOWN to the VMM "
        "(mmu_check_root(), KVM_REQ_TRIPLE_FAULT)"
    )
    TRIPLE_FAULT = (
        "the next VM entry ends in a VM exit for L1 with reason 2, triple fault (mmu_check_root(), "
        "KVM_REQ_TRIPLE_FAULT, nested_vmx_triple_fault())"
    )
    DUMMY = (
        "KVM runs L2 on a dummy root, which maps nothing, and any access is an EPT violation for "
        "L1 (mmu_alloc_shadow_roots(), kvm_mmu_get_dummy_root())"
    )


def no_root(kernel: Kernel) -> NoRoot:
    """The dummy root and the check of the slots that hold tables came with one series in 6.6, whose
    struct kvm_arch_memory_slot has `gfn_write_track`; L1 sees a triple fault of L2's since
    kvm_x86_nested_ops has triple_fault() (5.13, cb6a32c2b877)."""
    if _checks_tables(kernel):
        return NoRoot.DUMMY
    try:
        seen = kernel.types.struct("kvm_x86_nested_ops", "kvm").has("triple_fault")
    except TypeMissing:
        return NoRoot.SHUTDOWN
    return NoRoot.TRIPLE_FAULT if seen else NoRoot.SHUTDOWN


def hidden_from_l2(vm: Value, slot: Slot) -> str:
    """Why an access of L2's to `slot` is MMIO, or ''.

    Up to 6.9 kvm_faultin_pfn() (try_async_pf() before 5.15) hides every slot of KVM's own while
    is_guest_mode(); since 6.10 the APIC-access page alone.  struct kvm_arch has `shadow_mmio_value`
    since that release."""
    if not slot.private:
        return ""
    if vm.member("arch").has("shadow_mmio_value") and slot.private != APIC_ACCESS:
        return ""
    return f"memslot {slot.id} is KVM's own, for {slot.private}, and hidden from L2"


def no_table_in(kernel: Kernel, slot: Slot) -> str:
    """Why KVM finds no table of L1's in `slot`, or '' (FNAME(walk_addr_generic)()).

    gfn_to_hva_memslot_prot() refuses a slot that is being deleted or moved, and since 6.6 the
    walk itself refuses KVM's own."""
    if slot.flags.invalid:
        return (
            f"memslot {slot.id}, which holds it, is being deleted or moved by the VMM "
            "(KVM_MEMSLOT_INVALID)"
        )
    if slot.private and _checks_tables(kernel):
        return f"memslot {slot.id}, which holds it, is KVM's own, for {slot.private}"
    return ""


def _checks_tables(kernel: Kernel) -> bool:
    arch = kernel.types.struct("kvm_memory_slot", "kvm").member("arch").type
    return arch.has("gfn_write_track")
