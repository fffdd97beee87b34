# SPDX-License-Identifier: GPL-2.0-or-later
"""What is right in each state: the exit, by EPT12 alone, and the verdict.

Each row names the function of arch/x86/kvm that makes it so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gdb_nept.nested.agreement import Agreement, Fault
from gdb_nept.predict.outcome import Outcome
from tests.nested.kinds_of_state import ROOTS, State

EXITS: dict[str, tuple[Outcome, Outcome, str]] = {
    # by EPT12: read, write or fetch
    "rwx": (Outcome.TRANSLATED, Outcome.TRANSLATED, "permission_fault()"),
    "read only": (Outcome.TRANSLATED, Outcome.VIOLATION, "permission_fault()"),
    "not dirty": (Outcome.TRANSLATED, Outcome.TRANSLATED, "update_accessed_dirty_bits()"),
    "not accessed": (Outcome.TRANSLATED, Outcome.TRANSLATED, "update_accessed_dirty_bits()"),
    "hole": (Outcome.VIOLATION, Outcome.VIOLATION, "FNAME(is_present_gpte)()"),
    "misconfigured": (Outcome.MISCONFIG, Outcome.MISCONFIG, "FNAME(is_rsvd_bits_set)()"),
    "table in no memslot": (Outcome.VIOLATION, Outcome.VIOLATION, "gfn_to_hva_memslot_prot()"),
    "table in a memslot being deleted": (
        Outcome.VIOLATION, Outcome.VIOLATION, "__gfn_to_hva_many(): KVM_MEMSLOT_INVALID",
    ),
    "table not in the process": (
        Outcome.UNKNOWN, Outcome.UNKNOWN, "get_user() brings the page in, and we cannot",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """The verdict of the states whose kinds are all among those of `when`."""

    when: dict[str, tuple[str, ...]]
    agreement: Agreement
    fault: Fault
    source: str
    says: tuple[str, ...] = field(default=())

    def fits(self, state: State) -> bool:
        return all(getattr(state, name) in kinds for name, kinds in self.when.items())


MAPPING = ("the page", "the page, read only", "another page of the host", "another page of L1")


OUT = ("out of sync",)


NO_EPT02 = ("none", "of other A/D flags", "of another memory type")


SHADOWED_PAGES = ("of another table", "direct")


WRONG = ("of another level", "invalid", "of an old generation", "not for L2")


UNREAD = ("table not in the process",)


NOW, OLDER = "MMIO of this generation", "MMIO of an older generation"


L1, KVM, VMM, NOBODY = Fault.L1, Fault.KVM, Fault.VMM, Fault.NOBODY


NOT_KNOWN = Fault.UNKNOWN


K = Agreement


VERDICTS = (
    # the root
    Row({"root": tuple(root for root in ROOTS if root.startswith("refused"))}, K.REFUSED, L1,
        "nested_vmx_check_eptp()"),
    Row({"root": ("obsolete",)}, K.BROKEN, KVM, "kvm_mmu_free_obsolete_roots()", ("invalid",)),
    # the tables of the shadow, as far as EPT12 says what they must be
    Row({"pages": WRONG}, K.BROKEN, KVM, "kvm_mmu_get_child_sp(), is_obsolete_sp()"),
    Row({"pages": SHADOWED_PAGES}, K.BROKEN, KVM, "kvm_mmu_get_child_sp()"),
    # EPT12 ends
    Row({"ept12": UNREAD}, K.UNREADABLE, NOT_KNOWN, "get_user()"),
    Row({"ept12": ("table in a memslot being deleted",)}, K.NOT_MAPPED, VMM,
        "__gfn_to_hva_many(): KVM_MEMSLOT_INVALID", ("do not explain",)),
    Row({"ept12": ("table in no memslot",), "shadow": (*MAPPING, NOW),
         "root": ("of this EPTP", "waiting")}, K.STALE, KVM, "kvm_arch_flush_shadow_memslot()"),
    Row({"ept12": ("table in no memslot",)}, K.NOT_MAPPED, L1, "gfn_to_hva_memslot_prot()"),
    Row({"ept12": ("hole", "misconfigured"), "shadow": (*MAPPING, NOW), "sync": OUT,
         "root": ("of this EPTP", "waiting")},
        K.STALE, L1, "mmu_try_to_unsync_pages(); FNAME(sync_spte)() at INVEPT", ("INVEPT",)),
    Row({"ept12": ("hole", "misconfigured"), "shadow": (*MAPPING, NOW),
         "root": ("of this EPTP", "waiting")},
        K.STALE, KVM, "a table in sync is write-protected: mmu_try_to_unsync_pages()"),
    Row({"ept12": ("hole",)}, K.NOT_MAPPED, NOBODY, "FNAME(is_present_gpte)()"),
    Row({"ept12": ("misconfigured",)}, K.MISCONFIGURED, L1, "FNAME(is_rsvd_bits_set)()"),
    Row({"root": ("obsolete, being dropped",)}, K.NOT_SHADOWED, NOBODY,
        "KVM_REQ_MMU_FREE_OBSOLETE_ROOTS; KVM_REQ_MMU_RELOAD"),
    # the memslot
    Row({"slot": ("being deleted",)}, K.BEING_CHANGED, NOBODY, "kvm_faultin_pfn(): RET_PF_RETRY"),
    Row({"slot": ("KVM's own",), "shadow": MAPPING}, K.BROKEN, KVM,
        "kvm_faultin_pfn(): is_guest_mode()"),
    Row({"slot": ("KVM's own",)}, K.HIDDEN_SLOT, NOBODY, "kvm_faultin_pfn(): is_guest_mode()"),
    Row({"slot": ("none",), "shadow": ("another page of L1",), "sync": OUT}, K.STALE, L1,
        "FNAME(sync_spte)() at INVEPT"),
    Row({"slot": ("none",), "shadow": ("another page of L1",)}, K.STALE, KVM,
        "mmu_try_to_unsync_pages()"),
    Row({"slot": ("none",), "shadow": MAPPING}, K.STALE, KVM, "kvm_arch_flush_shadow_memslot()"),
    Row({"slot": ("none",)}, K.NO_SLOT, NOBODY, "kvm_handle_noslot_fault()"),
    # the host
    Row({"slot": ("not in the process",), "shadow": MAPPING}, K.STALE, KVM,
        "kvm_mmu_notifier_invalidate_range_start()"),
    Row({"slot": ("not in the process",)}, K.NOT_BACKED, NOBODY, "hva_to_pfn()"),
    # what KVM shadows of it
    Row({"root": NO_EPT02}, K.NOT_SHADOWED, NOBODY, "is_root_usable(), kvm_mmu_new_pgd()"),
    Row({"shadow": ("empty",)}, K.NOT_SHADOWED, NOBODY, "FNAME(page_fault)()"),
    Row({"shadow": (NOW,)}, K.BROKEN, KVM, "check_mmio_spte()", ("check_mmio_spte()",)),
    Row({"shadow": (OLDER,)}, K.STALE, NOBODY, "check_mmio_spte()", ("notices",)),
    Row({"shadow": ("another page of the host",)}, K.STALE, KVM,
        "kvm_mmu_notifier_invalidate_range_start()", ("no INVEPT is missing",)),
    Row({"shadow": ("another page of L1",), "sync": OUT}, K.STALE, L1,
        "FNAME(sync_spte)(): kvm_mmu_page_get_gfn()"),
    Row({"shadow": ("another page of L1",)}, K.STALE, KVM, "mmu_try_to_unsync_pages()"),
    # the same page: rights and flags
    Row({"ept12": ("read only",), "sync": OUT}, K.STALE, L1,
        "FNAME(sync_spte)(): kvm_mmu_page_get_access()"),
    Row({"ept12": ("read only",)}, K.STALE, KVM, "mmu_try_to_unsync_pages()"),
    Row({"ept12": ("not dirty",), "shadow": ("the page",), "sync": OUT}, K.STALE, L1,
        "FNAME(protect_clean_gpte)()", ("dirty",)),
    Row({"ept12": ("not dirty",), "shadow": ("the page",)}, K.STALE, KVM,
        "FNAME(protect_clean_gpte)()", ("dirty",)),
    Row({"ept12": ("not accessed",), "sync": OUT}, K.STALE, L1,
        "FNAME(prefetch_invalid_gpte)()", ("accessed",)),
    Row({"ept12": ("not accessed",)}, K.STALE, KVM, "FNAME(prefetch_invalid_gpte)()"),
    Row({"pages": ("of fewer rights",)}, K.BROKEN, KVM, "kvm_mmu_child_role()", ("access",)),
    Row({}, K.AGREE, NOBODY, ""),
)  # fmt: skip


def expected(state: State) -> Row:
    return next(row for row in VERDICTS if row.fits(state))
