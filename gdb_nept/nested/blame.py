# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is at fault where KVM's shadow differs from what it stands for.

arch/x86/kvm/mmu/mmu.c: KVM lets L1 write a table of level 1 once it has marked the shadow `unsync`,
and looks at it again when L1 executes INVEPT; it intercepts every write to the tables above, and to
one of level 1 that is in sync.  An MMU notifier tells it when the host takes a page away.
"""

from __future__ import annotations

from gdb_nept.kvm.shadow_page import ShadowPage
from gdb_nept.nested.agreement import Blame, Fault
from gdb_nept.nested.journey import Journey

UNSEEN = "or the write came by a way that KVM does not see (the VMM, a device)"

FORGOT_INVEPT = Blame(
    Fault.L1,
    "L1 changed EPT12 and has not executed INVEPT since (KVM knows that the table is out of sync)",
    "it has not executed INVEPT since it changed the table",
)
MISSED_IN_SYNC = Blame(
    Fault.KVM,
    "L1 changed EPT12, and no INVEPT is missing: KVM takes the table for in sync, and so missed "
    f"the write, {UNSEEN}",
    "mmu_try_to_unsync_pages() should have marked the table before L1 could write it "
    "(mmu_need_write_protect() before 5.15)",
)
MISSED_ABOVE = Blame(
    Fault.KVM,
    f"L1 changed a table whose writes KVM intercepts, so KVM missed it, {UNSEEN}",
    "kvm_mmu_track_write() (kvm_mmu_pte_write() before 6.6) should have dropped its entry",
)
NOT_KNOWN = Blame(
    Fault.UNKNOWN,
    "L1 changed EPT12 and has not executed INVEPT since, or KVM missed it",
    "KVM's kvm_mmu_page, which tells whether the table is out of sync, cannot be read",
)
MISSED_NOTIFIER = Blame(
    Fault.KVM,
    "the host moved the page and KVM missed it",
    "kvm_mmu_notifier_invalidate_range_start() should have dropped its entry",
)
TOOK_AWAY = Blame(
    Fault.KVM,
    "the host took the page away and KVM missed it",
    MISSED_NOTIFIER.why,
)
SLOT_REMOVED = Blame(
    Fault.KVM,
    "the VMM removed a memslot, and KVM kept what it had of it",
    "kvm_arch_flush_shadow_memslot() should have dropped its entry",
)


def stale_at(journey: Journey, level: int) -> Blame:
    """Why KVM's shadow is not what EPT12's entry of `level` says now."""
    if level > 1:
        return MISSED_ABOVE
    page = table_of_level_1(journey)
    if page is None:
        return NOT_KNOWN
    return FORGOT_INVEPT if page.unsync else MISSED_IN_SYNC


def stale_where_ept12_ends(journey: Journey) -> Blame:
    """The same of the last entry of EPT12 that was read."""
    steps = journey.ept12.steps
    return stale_at(journey, steps[-1].level) if steps else MISSED_ABOVE


def table_of_level_1(journey: Journey) -> ShadowPage | None:
    """KVM's shadow of L1's table of level 1 on the way, if there is one and it can be read."""
    if journey.shadow is None:
        return None
    for step, page in zip(journey.shadow.walk.steps, journey.shadow.pages):
        if step.level == 1 and isinstance(page, ShadowPage):
            return page
    return None


def leads_elsewhere(journey: Journey) -> Blame:
    """KVM's shadow leads to another page of the host than L1's tables do now: KVM has noted which
    page of L1's it stands for."""
    noted, address = journey.noted, journey.ept12.address
    if noted is None or address is None or journey.shadow is None:
        return Blame(
            Fault.UNKNOWN,
            f"{NOT_KNOWN.how}, or the host moved the page",
            "KVM's note of the page that it stands for cannot be read",
        )
    size = journey.shadow.walk.size
    if noted == address & ~(size - 1):
        return Blame(
            Fault.KVM,
            f"it stands for L1 physical {noted:#x} as EPT12 has it, so that no INVEPT is missing; "
            f"{MISSED_NOTIFIER.how}",
            MISSED_NOTIFIER.why,
        )
    found = stale_where_ept12_ends(journey)
    return Blame(found.fault, f"it still stands for L1 physical {noted:#x}; {found.how}", found.why)
