# SPDX-License-Identifier: GPL-2.0-or-later
"""What KVM's shadow tells of EPT12 where EPT12 itself cannot be read, as in a filtered dump.

Each table of EPT02 that shadows one of L1's keeps where that is (kvm_mmu_page.gfn), and of each of
its entries which page of L1's it is for (shadowed_translation, gfns up to 5.19; kvm_mmu_page.gfn
and the index where KVM splits a large page of L1's).  With it KVM keeps the rights that it found,
since 6.0: those of all entries on the way together, without "write" where the dirty flag was clear
(FNAME(protect_clean_gpte)()).  L1 grants these at least: they are a bound of its entries' rights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.arch.ept import RIGHTS, EptEntry, page_size
from gdb_nept.errors import MemberMissing, MemoryUnreadable
from gdb_nept.kvm.shadow_page import (
    Shadowed,
    ShadowPage,
    leaf_stands_for,
    shadowed_translation,
)
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.identity import ACC_BITS
from gdb_nept.nested.journey import Derived, DerivedTable, Page, ShadowWalk

if TYPE_CHECKING:
    from gdb_nept.nested.session import Session

OLD = "KVM knows that L1 may have changed it since"


def derive(session: Session, chosen: Chosen, shadow: ShadowWalk, asked: L2Phys) -> Derived | None:
    """Where EPT12 takes `asked`, as KVM noted it; None if it noted nothing."""
    tables = tuple(
        DerivedTable(step.level, page.gfn_address, step.index)
        for step, page in zip(shadow.walk.steps, shadow.pages)
        if isinstance(page, ShadowPage) and not page.direct
    )
    if not tables:
        return None
    found = Derived(tables, None, 0, EptEntry(0), doubt_of(shadow.pages))
    leaf = _leaf(shadow, asked)
    if leaf is None:
        return found
    address, size, rights = leaf
    slot = session.slots(chosen).find(address)
    virtual = slot.host_virtual(address) if slot else None
    host = session.host_walk(chosen.owner, virtual) if virtual is not None else None
    return replace(
        found,
        address=address,
        size=size,
        rights=EptEntry(rights),
        slot=slot,
        host_virtual=virtual,
        host=host,
    )


def _leaf(shadow: ShadowWalk, asked: L2Phys) -> tuple[L1Phys, int, int] | None:
    """EPT12's: where it takes `asked`, its page's size, and rights that it grants at least."""
    granted = shadow.walk.rights.value & RIGHTS if shadow.walk.stop is None else 0
    for above, page in zip(shadow.walk.steps, shadow.pages[1:]):
        if isinstance(page, ShadowPage) and page.direct:  # a part of EPT12's page above
            size = page_size(above.level)
            address = page.gfn_address & -size | asked & (size - 1)
            return L1Phys(address), size, noted_rights(page, None) | granted
    step, page, last = shadow.walk.steps[-1], shadow.pages[-1], shadow.sptes[-1]
    size = page_size(step.level)
    if last.mmio is not None:
        return L1Phys(last.mmio.address | asked & (size - 1)), size, 0
    if shadow.address is None or not isinstance(page, ShadowPage):
        return None
    noted = leads(page, step.index)
    if noted is None:
        return None
    return L1Phys(noted[0] | asked & (size - 1)), size, noted[1] | granted


def leads(page: ShadowPage, index: int) -> tuple[L1Phys, int] | None:
    """The page of L1's that an entry is for, and the rights that KVM found L1 to grant."""
    try:
        address = leaf_stands_for(page, index)
        noted = None if page.direct else shadowed_translation(page, index)
    except (MemoryUnreadable, MemberMissing):
        return None
    return None if address is None else (address, noted_rights(page, noted))


def noted_rights(page: ShadowPage, noted: Shadowed | None) -> int:
    """As bits of an EPT entry: those of an entry of a shadowed table, or of a direct page's; 0
    where the kernel keeps none."""
    access = page.role.number("access") if page.direct else noted.access if noted else None
    flags = ACC_BITS.get(page.role.size("access"), ())
    return sum(field.mask for field, flag in flags if (access or 0) & flag)


def doubt_of(pages: Iterable[Page]) -> str:
    """Why what KVM noted may be old; '' if it should be what L1 has now."""
    kept = [page for page in pages if isinstance(page, ShadowPage)]
    if any(page.unsync for page in kept):
        return f"{OLD} (unsync)"
    return f"{OLD} (an obsolete table)" if any(page.obsolete for page in kept) else ""
