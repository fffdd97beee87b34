# SPDX-License-Identifier: GPL-2.0-or-later
"""Following an L2 physical address by three ways: what is read for a Journey."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gdb_nept.address import HostPhys, L1Phys, L2Phys
from gdb_nept.arch.cpu import HOST
from gdb_nept.errors import MemberMissing, MemoryUnreadable, NoGuest
from gdb_nept.kvm.memslots import MemSlots, Slot
from gdb_nept.kvm.shadow_page import (
    ShadowPage,
    leaf_stands_for,
    shadow_mmu_pages,
    shadow_page,
)
from gdb_nept.kvm.spte import Mmio, decode_spte
from gdb_nept.kvm.spte_format import SpteFormatUnknown, spte_format
from gdb_nept.kvm.tracking import Tracking, tracking
from gdb_nept.kvm.vcpu import frees_roots
from gdb_nept.kvm.visible import hidden_from_l2, no_root
from gdb_nept.memory.reader import PAGE_MASK
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.derived import derive
from gdb_nept.nested.epts import Ept, ShadowRoot, Which, ept02_cpu, shadow_root
from gdb_nept.nested.journey import Journey, ShadowWalk
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.result import Cause, Walk

if TYPE_CHECKING:
    from gdb_nept.nested.session import Session


def follow(session: Session, chosen: Chosen, asked: L2Phys) -> Journey:
    """Raises NoGuest where L1 has no EPT12."""
    ept12 = session.ept(chosen, Which.L1)
    walk = walk_ept(session.l1_memory(chosen), ept12.eptp, asked, ept12.cpu)
    slots = session.slots(chosen)
    slot = slots.find(walk.address) if walk.address is not None else None
    virtual = slot.host_virtual(walk.address) if slot and walk.address is not None else None
    root, shadow = _shadow(session, chosen, ept12, asked)
    unread = walk.stop is not None and walk.stop.cause is Cause.UNREADABLE
    derived = derive(session, chosen, shadow, asked) if unread and shadow else None
    return Journey(
        asked=asked,
        vm=chosen.vm,
        vcpu=chosen.place,
        eptp=ept12.eptp,
        ept12=walk,
        slot=slot,
        host_virtual=virtual,
        host=session.host_walk(chosen.owner, virtual) if virtual is not None else None,
        tracking=_tracking(slot, walk.address),
        table=_table_in(chosen, walk, shadow),
        shadow=shadow,
        shadow_missing=root.missing,
        ept01=_ept01(session, chosen, walk.address if derived is None else derived.address),
        notes=(*_notes(root.note, asked, ept12), *slots.lost, *_of_format(session, chosen)),
        refusal=ept12.refusal,
        hidden=hidden_from_l2(chosen.owner.value, slot) if slot else "",
        no_root=no_root(session.kernel),
        root_freed=frees_roots(chosen.vcpu),
        noted=_noted(shadow),
        lower=_lower(session, chosen, ept12, asked),
        mmio_current=_mmio_current(session, chosen, slots, shadow),
        cpu=ept12.cpu,
        mbec=_mbec(session, chosen, ept12),
        derived=derived,
    )


def _lower(
    session: Session, chosen: Chosen, ept12: Ept, asked: L2Phys
) -> Walk[L2Phys, L1Phys] | None:
    """FNAME(walk_addr_generic)() takes bits 47:39 for the index of the top table, whatever is
    above."""
    reach = ept12.eptp.reach
    if asked < reach:
        return None
    return walk_ept(session.l1_memory(chosen), ept12.eptp, L2Phys(asked % reach), ept12.cpu)


def _shadow(
    session: Session, chosen: Chosen, ept12: Ept, asked: L2Phys
) -> tuple[ShadowRoot, ShadowWalk | None]:
    """EPT02 and the walk through it; that this kernel keeps it in a way that we do not know costs
    no more than the shadow."""
    try:
        root = shadow_root(session.kernel, chosen, ept12.eptp)
        if root.eptp is None:
            return root, None
        cpu = ept02_cpu(ept12.cpu, spte_format(session.kernel, chosen.owner.value))
        own = walk_ept(session.kernel.physical, root.eptp, asked, cpu)
        return root, with_sptes(session, chosen, own)
    except (MemberMissing, SpteFormatUnknown) as error:
        return ShadowRoot(None, f"KVM's shadow is not known: {error.message}"), None


def _mbec(session: Session, chosen: Chosen, ept12: Ept) -> bool:
    try:
        return ept02_cpu(ept12.cpu, spte_format(session.kernel, chosen.owner.value)).mbec
    except (MemberMissing, SpteFormatUnknown):
        return False


def _of_format(session: Session, chosen: Chosen) -> tuple[str, ...]:
    """What is not sure about how KVM writes its entries."""
    try:
        return spte_format(session.kernel, chosen.owner.value).notes
    except (MemberMissing, SpteFormatUnknown):
        return ()  # told where there is no shadow


def _notes(of_root: str, asked: L2Phys, ept12: Ept) -> tuple[str, ...]:
    notes = [*ept12.caveats, *([of_root] if of_root else [])]
    if asked >> ept12.cpu.maxphyaddr:
        notes.append(
            f"L2 cannot form this address: MAXPHYADDR is {ept12.cpu.maxphyaddr}, and an entry "
            "of its own page tables that names it is a page fault in L2"
        )
    return tuple(notes)


def with_sptes(
    session: Session, chosen: Chosen, walk: Walk[L2Phys, HostPhys] | Walk[L1Phys, HostPhys]
) -> ShadowWalk:
    """A walk of KVM's own, with what KVM means by each entry and keeps of each table."""
    vm = chosen.owner.value
    form = spte_format(session.kernel, vm)
    sptes = (decode_spte(step.entry.value, step.level, form) for step in walk.steps)
    pages = (shadow_page(session.kernel, vm, step.table) for step in walk.steps)
    return ShadowWalk(walk, tuple(sptes), tuple(pages))


def _ept01(session: Session, chosen: Chosen, address: L1Phys | None) -> ShadowWalk | None:
    if address is None:
        return None
    try:
        ept01 = session.ept(chosen, Which.HOST)
        walk = walk_ept(session.kernel.physical, ept01.eptp, address, HOST)
        return with_sptes(session, chosen, walk)
    except (NoGuest, MemberMissing, SpteFormatUnknown):
        return None


def _table_in(
    chosen: Chosen, ept12: Walk[L2Phys, L1Phys], shadow: ShadowWalk | None
) -> ShadowPage | None:
    """The table of L1's that the page holds, if KVM shadows it; looked for only where KVM
    withholds a write, since it means a walk over all shadow pages."""
    if ept12.address is None or shadow is None or shadow.walk.stop is not None:
        return None
    if not ept12.rights.write or shadow.walk.rights.write:
        return None
    page = ept12.address & ~PAGE_MASK
    for found in shadow_mmu_pages(chosen.owner.value).pages:
        if not found.direct and found.gfn_address == page:
            return found
    return None


def _tracking(slot: Slot | None, address: L1Phys | None) -> Tracking | None:
    if slot is None or address is None:
        return None
    try:
        return tracking(slot, address)
    except (MemoryUnreadable, MemberMissing):
        return None  # the verdict then says less, and nothing wrong


def _noted(shadow: ShadowWalk | None) -> L1Phys | None:
    """The L1 physical page that KVM noted for the page where its shadow leads."""
    if shadow is None or shadow.address is None:
        return None
    page = shadow.pages[-1]
    if not isinstance(page, ShadowPage):
        return None
    try:
        return leaf_stands_for(page, shadow.walk.steps[-1].index)
    except (MemoryUnreadable, MemberMissing):
        return None


def _mmio_current(
    session: Session, chosen: Chosen, slots: MemSlots, shadow: ShadowWalk | None
) -> bool | None:
    """check_mmio_spte(): whether KVM still believes the MMIO entry at the end of its shadow; None
    if none is there."""
    last = shadow.last if shadow else None
    found: Mmio | None = last.mmio if last else None
    if found is None:
        return None
    mask = spte_format(session.kernel, chosen.owner.value).generation_mask
    if slots.generation is None:
        return None
    return not slots.update_in_progress and found.generation == slots.generation & mask
