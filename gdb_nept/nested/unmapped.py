# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts where EPT12, the memslots or the host lead nowhere."""

from __future__ import annotations

from gdb_nept.address import L1Phys
from gdb_nept.errors import UnreadKind
from gdb_nept.kvm.memslots import Slot
from gdb_nept.kvm.spte import SpteKind
from gdb_nept.kvm.visible import NoRoot
from gdb_nept.nested.agreement import Agreement, Blame, Fault, Verdict, blamed
from gdb_nept.nested.blame import (
    SLOT_REMOVED,
    TOOK_AWAY,
    stale_at,
    stale_where_ept12_ends,
)
from gdb_nept.nested.journey import Journey
from gdb_nept.nested.wording import l1_withholds
from gdb_nept.walk.result import Cause, Stop

EXPOSED = Blame(
    Fault.KVM,
    "KVM mapped it for L2 all the same",
    "kvm_faultin_pfn() (try_async_pf() before 5.15) should have taken it for MMIO, by "
    "is_guest_mode()",
)


def stopped(journey: Journey, stop: Stop) -> Verdict:
    """EPT12 does not translate the address."""
    if stop.cause in (Cause.UNREADABLE, Cause.NO_WALK):
        why = f"EPT12 cannot be followed: {stop.why}{_derived(journey)}"
        return Verdict(Agreement.UNREADABLE, why, Fault.UNKNOWN)
    if stop.cause is Cause.NO_MEMORY:
        return _no_table(journey, stop)
    if stop.cause is Cause.BEYOND_WIDTH:
        return _beyond_width(journey, stop)
    still = _still(journey)
    if still:
        where = f"EPT12 does not translate it ({stop.why}), but {still}"
        return blamed(Agreement.STALE, where, stale_at(journey, stop.level))
    if stop.cause is Cause.MISCONFIGURED:
        return Verdict(
            Agreement.MISCONFIGURED,
            f"{stop.why}; any access is an EPT misconfiguration that L1 must see",
            Fault.L1,
            "it wrote the entry so, by mistake or (as KVM does for MMIO) on purpose",
        )
    return Verdict(
        Agreement.NOT_MAPPED, f"{stop.why}; any access is an EPT violation that L1 must see"
    )


def _derived(journey: Journey) -> str:
    """What KVM's shadow tells all the same."""
    derived = journey.derived
    if derived is None or derived.address is None:
        return ""
    said = f"; KVM made its shadow for L1 physical {derived.address:#x}"
    if derived.host_physical is None:
        return said
    if derived.host_physical == journey.shadowed:
        return f"{said}, and both lead to host physical {derived.host_physical:#x}"
    said = f"{said}, which leads to host physical {derived.host_physical:#x}"
    if journey.shadowed is None:
        return f"{said}; the shadow leads to no page there yet"
    return f"{said}, and the shadow to {journey.shadowed:#x}"


def _still(journey: Journey) -> str:
    """What KVM's shadow lets L2 do all the same; '' for nothing."""
    if journey.shadowed is not None:
        return f"KVM's shadow still leads to host physical {journey.shadowed:#x}"
    return "KVM's shadow still has it as MMIO" if journey.mmio_current else ""


def _no_table(journey: Journey, stop: Stop) -> Verdict:
    """A table of EPT12 is where KVM finds no memory of L1's."""
    invalid = "KVM_MEMSLOT_INVALID" in stop.why
    blame = Blame(
        Fault.VMM if invalid else Fault.L1,
        "the VMM deletes or moves a memslot with a table in it" if invalid else "L1 named it so",
        "it deletes or moves a memslot that holds a table of EPT12, while L2 uses that"
        if invalid
        else "EPT12 names memory that L1 does not have",
    )
    if not journey.ept12.steps and journey.no_root is not NoRoot.DUMMY:
        return Verdict(
            Agreement.NO_ROOT,
            f"the root of EPT12: {stop.why}; {journey.no_root.value}",
            blame.fault,
            blame.why,
        )
    still = _still(journey)
    if still and not invalid:
        return blamed(Agreement.STALE, f"{stop.why}; but {still}", SLOT_REMOVED)
    if not journey.ept12.steps:
        sentence = f"the root of EPT12: {stop.why}; {journey.no_root.value}"
    else:
        sentence = (
            f"{stop.why}; any access is an EPT violation for L1, which its own tables do not "
            "explain (FNAME(walk_addr_generic)())"
        )
    return Verdict(Agreement.NOT_MAPPED, sentence, blame.fault, blame.why)


def _beyond_width(journey: Journey, stop: Stop) -> Verdict:
    """The processor refuses the address, and KVM's own walk of EPT12 ignores the upper bits."""
    taken = f"{stop.why}; the processor takes any access as an EPT violation"
    lower = journey.lower
    if lower is None or lower.address is None:
        return Verdict(Agreement.NOT_MAPPED, f"{taken} that L1 must see")
    return Verdict(
        Agreement.NOT_MAPPED,
        f"{taken}, and KVM, which looks at the lower bits alone, finds L1 physical "
        f"{lower.address:#x} and lets L2 repeat the access for good",
        Fault.KVM,
        "FNAME(walk_addr_generic)() should refuse bits beyond its index of the top table",
    )


def outside(journey: Journey, address: L1Phys) -> Verdict:
    """EPT12 leads to no memory of L1's."""
    where = f"L1 physical {address:#x} lies in no memslot"
    mmio = "L0 takes the access as MMIO, and emulates it for the VMM"
    if journey.shadowed is not None:
        where += f", but KVM's shadow still leads to host physical {journey.shadowed:#x}"
        return blamed(Agreement.STALE, where, _kept(journey, address))
    found = _mmio_elsewhere(journey, address)
    return found or Verdict(Agreement.NO_SLOT, f"{where}: {mmio}{l1_withholds(journey)}")


def hidden(journey: Journey, address: L1Phys) -> Verdict:
    """EPT12 leads to a page of KVM's own."""
    where = f"L1 physical {address:#x}: {journey.hidden}"
    if journey.shadowed is not None:
        where += f", but KVM's shadow leads to host physical {journey.shadowed:#x}"
        return blamed(Agreement.BROKEN, where, EXPOSED)
    found = _mmio_elsewhere(journey, address)
    return found or Verdict(
        Agreement.HIDDEN_SLOT,
        f"{where}: L0 takes the access as MMIO, and emulates it, for good{l1_withholds(journey)}",
    )


def _kept(journey: Journey, address: L1Phys) -> Blame:
    """Why the shadow leads to a page where no memslot is: the slot went, or EPT12 changed."""
    if journey.noted is None or journey.shadow is None:
        return Blame(
            Fault.UNKNOWN,
            f"{stale_where_ept12_ends(journey).how}, or a memslot was removed",
            "KVM's note of the page that it stands for cannot be read",
        )
    same = journey.noted == address & ~(journey.shadow.walk.size - 1)
    return SLOT_REMOVED if same else stale_where_ept12_ends(journey)


def _mmio_elsewhere(journey: Journey, address: L1Phys) -> Verdict | None:
    """KVM's MMIO entry is for another page than EPT12's, and KVM still believes it."""
    last = journey.shadow.last if journey.shadow else None
    mmio = last.mmio if last and last.kind is SpteKind.MMIO else None
    if mmio is None or not journey.mmio_current or mmio.address == address & ~0xFFF:
        return None
    where = (
        f"KVM's shadow holds an MMIO entry for L1 physical {mmio.address:#x}, and EPT12 leads to "
        f"{address:#x}"
    )
    return blamed(Agreement.STALE, where, stale_where_ept12_ends(journey))


def being_changed(journey: Journey, slot: Slot) -> Verdict:
    """KVM_MEMSLOT_INVALID."""
    return Verdict(
        Agreement.BEING_CHANGED,
        f"memslot {slot.id} is being deleted or moved by the VMM (KVM_MEMSLOT_INVALID): KVM drops "
        "what it maps of it, and lets L2 repeat each access until that is done "
        f"(kvm_faultin_pfn(), RET_PF_RETRY){l1_withholds(journey)}",
    )


def not_backed(journey: Journey) -> Verdict:
    """The process that runs L1 has no page there, or a table of its cannot be read."""
    host = journey.host
    if host is not None and host.unread not in (None, UnreadKind.NOT_MAPPED, UnreadKind.SWAPPED):
        why = f"the page tables of the process that runs L1 cannot be followed: {host.why}"
        return Verdict(Agreement.UNREADABLE, why, Fault.UNKNOWN)
    why = journey.host.why if journey.host else "its host virtual address is not known"
    kept = [
        f"{name} still leads to host physical {address:#x}"
        for name, address in (
            ("KVM's shadow", journey.shadowed),
            ("EPT01", journey.through_ept01),
        )
        if address is not None
    ]
    where = f"the process that runs L1 has no page there ({why})"
    if kept:
        return blamed(Agreement.STALE, f"{where}, but {' and '.join(kept)}", TOOK_AWAY)
    return Verdict(
        Agreement.NOT_BACKED,
        f"{where}: the next access makes the host bring it in, and L1 sees nothing of that"
        f"{l1_withholds(journey)}",
    )
