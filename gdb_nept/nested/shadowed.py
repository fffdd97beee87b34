# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts where L1's tables lead to a page of the host: does KVM's shadow lead there, and with
which rights?"""

from __future__ import annotations

from gdb_nept.address import HostPhys
from gdb_nept.arch.ept import LEVEL_NAMES
from gdb_nept.kvm.spte import Mmio, SpteKind
from gdb_nept.memory.reader import PAGE_MASK
from gdb_nept.nested.agreement import Agreement, Blame, Fault, Verdict, blamed
from gdb_nept.nested.blame import MISSED_ABOVE, leads_elsewhere, stale_at, stale_where_ept12_ends
from gdb_nept.nested.identity import narrowed
from gdb_nept.nested.journey import Journey, ShadowWalk
from gdb_nept.nested.wording import FETCHES, allowed_by, either, l1_withholds, ways
from gdb_nept.walk.result import Cause

BELIEVED = Blame(
    Fault.KVM,
    "KVM believes it for good (check_mmio_spte(): its generation is the memslots'), and emulates "
    "each access",
    "kvm_arch_memslots_updated() and kvm_vm_ioctl_set_memory_region() give the memslots another "
    "generation with each change, so that check_mmio_spte() finds an older entry",
)


def compared(journey: Journey, host: HostPhys) -> Verdict:
    """KVM's shadow against `host`, where L1's tables and the host's lead."""
    shadow = journey.shadow
    if shadow is None:
        return Verdict(
            Agreement.NOT_SHADOWED,
            f"L1 maps it, and there is no shadow EPT to compare with: {journey.shadow_missing}",
        )
    answer = shadow.address
    if answer is None:
        return _absent(journey, shadow)
    if answer != host:
        where = f"KVM's shadow leads to host physical {answer:#x}, L1's tables to {host:#x}"
        return blamed(Agreement.STALE, where, leads_elsewhere(journey))
    return _rights(journey, host, shadow)


def _absent(journey: Journey, shadow: ShadowWalk) -> Verdict:
    """L1 maps the page and KVM's shadow does not lead to one."""
    stop, last = shadow.walk.stop, shadow.last
    if stop is not None and stop.cause is Cause.UNREADABLE:
        why = f"KVM's shadow cannot be followed: {stop.why}"
        return Verdict(Agreement.UNREADABLE, why, Fault.UNKNOWN)
    kind = last.kind if last else SpteKind.EMPTY
    if last is not None and last.mmio is not None:
        return _mmio(journey, last.mmio)
    if kind is SpteKind.FROZEN:
        return Verdict(Agreement.NOT_SHADOWED, "another thread is just changing KVM's entry")
    if kind is not SpteKind.EMPTY:
        entry = last.value if last else 0
        return Verdict(
            Agreement.BROKEN,
            f"L1 maps it, and KVM's own entry {entry:#x} is neither empty nor of any kind that "
            f"KVM writes ({stop.why if stop else 'no page'})",
            Fault.KVM,
            "make_spte() and make_mmio_spte() write no such entry: its memory was overwritten",
        )
    level = LEVEL_NAMES[stop.level] if stop and stop.level else "table"
    may = either(allowed_by(journey.ept12.rights, journey.mbec))
    return Verdict(
        Agreement.NOT_SHADOWED,
        f"L1 maps it, and KVM's shadow does not yet (no {level}): the next {may} makes L0 fill it "
        f"in, and L1 sees nothing of that{l1_withholds(journey)}",
    )


def _mmio(journey: Journey, mmio: Mmio) -> Verdict:
    """An MMIO entry where a memslot holds the page."""
    where = "KVM's shadow holds an MMIO entry, but a memslot holds the page"
    if not journey.mmio_current:
        return Verdict(
            Agreement.STALE,
            f"{where} now: KVM notices at the next access, by the memslots' generation "
            "(check_mmio_spte())",
        )
    address = journey.ept12.address or 0
    if mmio.address != address & ~PAGE_MASK:
        blame = stale_where_ept12_ends(journey)
        return blamed(
            Agreement.STALE,
            f"KVM's shadow holds an MMIO entry for L1 physical {mmio.address:#x}, and EPT12 leads "
            f"to {address:#x}, which a memslot holds",
            blame,
        )
    return blamed(Agreement.BROKEN, where, BELIEVED)


def _rights(journey: Journey, host: HostPhys, shadow: ShadowWalk) -> Verdict:
    """The same page: with which rights?"""
    tracked = shadow.walk.stop is not None
    granted = allowed_by(shadow.walk.rights, journey.mbec)
    allowed = allowed_by(journey.ept12.rights, journey.mbec)
    beyond = granted - allowed
    if beyond:
        where = (
            f"{ways(journey, host)}, but KVM's shadow allows {either(beyond)}, which EPT12 does not"
        )
        return blamed(Agreement.STALE, where, stale_at(journey, _refusing(journey, beyond)))
    larger = _larger(journey, host, shadow)
    if larger is not None:
        return larger
    unflagged = _unflagged(journey, host, granted)
    if unflagged is not None:
        return unflagged
    other = narrowed(journey)
    if other is not None:
        return blamed(Agreement.BROKEN, ways(journey, host), other)
    if tracked:
        return Verdict(
            Agreement.AGREE,
            f"{ways(journey, host)}; KVM has put the rights in its shadow aside to notice the "
            "next access",
        )
    withheld = allowed - granted
    tail = l1_withholds(journey)
    if not withheld:
        return Verdict(Agreement.AGREE, ways(journey, host) + tail)
    agreement, why = _why_withheld(journey, shadow, withheld)
    return Verdict(
        agreement,
        f"{ways(journey, host)}; L1 allows {either(withheld)} and KVM's shadow does not: "
        f"{why}{tail}",
    )


def _larger(journey: Journey, host: HostPhys, shadow: ShadowWalk) -> Verdict | None:
    """KVM maps by no larger page than L1 (FNAME(page_fault)(): fault->max_level is walker.level,
    `level` before 5.14): what L1 does to one of the small ones later, KVM would not see."""
    own, leaf = shadow.walk.steps[-1], journey.ept12.leaf
    if leaf is None or own.level <= leaf.level:
        return None
    where = (
        f"{ways(journey, host)}, but by a {LEVEL_NAMES[own.level]} of KVM's shadow, where EPT12 "
        f"has smaller pages ({LEVEL_NAMES[leaf.level]}s)"
    )
    return blamed(Agreement.STALE, where, MISSED_ABOVE)


def _refusing(journey: Journey, beyond: set[str]) -> int:
    """The level of the highest entry of EPT12 that refuses one of these rights."""
    steps = journey.ept12.steps
    return next((step.level for step in steps if beyond - allowed_by(step.entry, journey.mbec)), 1)


def _unflagged(journey: Journey, host: HostPhys, granted: set[str]) -> Verdict | None:
    """An accessed or dirty flag of EPT12 is clear, and KVM's shadow would not set it again: KVM
    shadows accessed entries alone, and lets L2 write where the dirty flag is set
    (FNAME(prefetch_invalid_gpte)(), FNAME(protect_clean_gpte)())."""
    if not journey.eptp.accessed_dirty:
        return None
    steps = journey.ept12.steps
    leaf = journey.ept12.leaf
    for step in steps:
        if not step.entry.accessed:
            flag, does, lost = "accessed", "has the page", "accesses are"
            break
    else:
        if leaf is None or leaf.entry.dirty or "write" not in granted:
            return None
        step, flag, does, lost = leaf, "dirty", "lets L2 write", "writes are"
    where = (
        f"{ways(journey, host)}, but the {flag} flag of EPT12's {LEVEL_NAMES[step.level]} is "
        f"clear, and KVM's shadow {does}, so that {lost} lost for what L1 does with the flag"
    )
    return blamed(Agreement.STALE, where, stale_at(journey, step.level))


def _why_withheld(
    journey: Journey, shadow: ShadowWalk, withheld: set[str]
) -> tuple[Agreement, str]:
    if withheld <= FETCHES:
        return Agreement.AGREE, (
            "the mitigation against faults on large executable pages (nx_huge_pages), if the page "
            "is large; L0 splits it at the next fetch"
        )
    if "write" not in withheld:
        return Agreement.AGREE, "KVM deals with it at the next access, and L1 sees nothing of that"
    if journey.slot is not None and journey.slot.flags.read_only:
        return Agreement.AGREE, "its memslot is read-only, so that a write goes to the VMM as MMIO"
    if journey.tracking is not None and journey.tracking.write_tracked:
        return Agreement.WRITE_TRACKED, (
            "the page holds a table that KVM shadows, so a write goes through L0, which emulates "
            "it or drops the shadow; L1 sees nothing of that"
        )
    if journey.table is not None:
        return Agreement.WRITE_TRACKED, (
            f"the page holds a level-{journey.table.level} table of L1's that KVM shadows; the "
            "next write makes KVM mark it out of sync; L1 sees nothing of that"
        )
    leaf = journey.ept12.leaf
    if journey.eptp.accessed_dirty and leaf is not None and not leaf.entry.dirty:
        return Agreement.AGREE, "the dirty flag in EPT12 is clear, and KVM waits for a write"
    last = shadow.last
    return Agreement.AGREE, (last.protection if last else "") or "an entry above the leaf"
