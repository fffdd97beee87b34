# SPDX-License-Identifier: GPL-2.0-or-later
"""What the three ways of a journey mean together, in words.

A disagreement has a likely meaning, by what KVM does (arch/x86/kvm/mmu/mmu.c): it fills its shadow
at the first access; it lets L1 write the tables of level 1 and looks at them again at INVEPT
(`unsync`), and intercepts every write to those above; an MMU notifier tells it when the host takes
a page away.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gdb_nept.address import HostPhys
from gdb_nept.arch.ept import LEVEL_NAMES, EptEntry
from gdb_nept.kvm.spte import SpteKind
from gdb_nept.nested.journey import Journey, ShadowWalk
from gdb_nept.walk.result import Cause, Stop


class Agreement(Enum):
    """The value is the short form in output and JSON."""

    AGREE = "agree"
    WRITE_TRACKED = "write-tracked"
    NOT_SHADOWED = "not yet shadowed"
    STALE = "stale"
    BROKEN = "broken"
    NOT_MAPPED = "not mapped by L1"
    MISCONFIGURED = "misconfigured by L1"
    NO_SLOT = "no memslot"
    NOT_BACKED = "not backed by the host"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Verdict:
    agreement: Agreement
    sentence: str


def verdict(journey: Journey) -> Verdict:
    """Look at the ways in their order; the first thing that does not fit is the verdict."""
    if journey.ept12.stop is not None:
        return _stopped(journey, journey.ept12.stop)
    if journey.slot is None:
        return _outside(journey)
    if journey.host_physical is None:
        return _not_backed(journey)
    found = _shadow(journey, journey.host_physical)
    through = journey.through_ept01
    if found.agreement is not Agreement.STALE and through not in (None, journey.host_physical):
        return Verdict(
            Agreement.STALE,
            f"the host's page is {journey.host_physical:#x}, but EPT01, KVM's table for L1, leads "
            f"to {through:#x}: the host moved the page and KVM missed it",
        )
    return found


# -- where EPT12 and the memslots lead nowhere --------------------------------------------------


def _stopped(journey: Journey, stop: Stop) -> Verdict:
    if stop.cause is Cause.UNREADABLE:
        return Verdict(Agreement.UNREADABLE, f"EPT12 cannot be followed: {stop.why}")
    if journey.shadowed is not None:
        return Verdict(
            Agreement.STALE,
            f"EPT12 does not translate it ({stop.why}), but KVM's shadow still leads to host "
            f"physical {journey.shadowed:#x}: {_how_stale(journey)}",
        )
    if stop.cause is Cause.MISCONFIGURED:
        return Verdict(
            Agreement.MISCONFIGURED,
            f"{stop.why}; any access is an EPT misconfiguration that L1 must see",
        )
    return Verdict(
        Agreement.NOT_MAPPED, f"{stop.why}; any access is an EPT violation that L1 must see"
    )


def _outside(journey: Journey) -> Verdict:
    where = f"L1 physical {journey.ept12.address:#x} lies in no memslot"
    if journey.shadowed is not None:
        return Verdict(
            Agreement.STALE,
            f"{where}, but KVM's shadow still leads to host physical {journey.shadowed:#x}: "
            f"{_how_stale(journey)}, or a memslot was removed",
        )
    return Verdict(
        Agreement.NO_SLOT, f"{where}: L0 takes the access as MMIO, and emulates it for the VMM"
    )


def _not_backed(journey: Journey) -> Verdict:
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
        return Verdict(
            Agreement.STALE,
            f"{where}, but {' and '.join(kept)}: the host took the page away and KVM missed it",
        )
    return Verdict(
        Agreement.NOT_BACKED,
        f"{where}: the next access makes the host bring it in, and L1 sees nothing of that",
    )


# -- where they lead to a page of the host ------------------------------------------------------


def _shadow(journey: Journey, host: HostPhys) -> Verdict:
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
        return Verdict(
            Agreement.STALE,
            f"KVM's shadow leads to host physical {answer:#x}, L1's tables to {host:#x}: "
            f"{_how_stale(journey)}, or the host moved the page and KVM missed it",
        )
    if shadow.walk.stop is not None:
        return Verdict(
            Agreement.AGREE,
            f"{_ways(journey, host)}; KVM has put the rights in its shadow aside to notice the "
            "next access",
        )
    return _rights(journey, host, shadow)


def _absent(journey: Journey, shadow: ShadowWalk) -> Verdict:
    """L1 maps the page and KVM's shadow does not lead to one."""
    stop, last = shadow.walk.stop, shadow.last
    if stop is not None and stop.cause is Cause.UNREADABLE:
        return Verdict(Agreement.UNREADABLE, f"KVM's shadow cannot be followed: {stop.why}")
    kind = last.kind if last else SpteKind.EMPTY
    if kind is SpteKind.MMIO:
        return Verdict(
            Agreement.STALE,
            "KVM's shadow holds an MMIO entry, but a memslot holds the page now: KVM notices at "
            "the next access, by the memslots' generation",
        )
    if kind is SpteKind.FROZEN:
        return Verdict(Agreement.NOT_SHADOWED, "another thread is just changing KVM's entry")
    if kind is not SpteKind.EMPTY:
        why = stop.why if stop else "no page"
        entry = last.value if last else 0
        return Verdict(
            Agreement.BROKEN,
            f"L1 maps it, and KVM's own entry {entry:#x} is neither empty nor of any kind that "
            f"KVM writes ({why})",
        )
    level = LEVEL_NAMES[stop.level] if stop and stop.level else "table"
    may = _allowed(journey)
    return Verdict(
        Agreement.NOT_SHADOWED,
        f"L1 maps it, and KVM's shadow does not yet (no {level}): the next {may} makes L0 fill it "
        f"in, and L1 sees nothing of that{_l1_withholds(journey)}",
    )


def _rights(journey: Journey, host: HostPhys, shadow: ShadowWalk) -> Verdict:
    """The same page: with which rights?"""
    granted, allowed = _bits(shadow.walk.rights), _bits(journey.ept12.rights)
    beyond = granted - allowed
    if beyond:
        return Verdict(
            Agreement.STALE,
            f"{_ways(journey, host)}, but KVM's shadow allows {_or(beyond)}, which EPT12 does "
            f"not: {_how_stale(journey)}",
        )
    withheld = allowed - granted
    tail = _l1_withholds(journey)
    if not withheld:
        return Verdict(Agreement.AGREE, _ways(journey, host) + tail)
    agreement, why = _why_withheld(journey, shadow, withheld)
    return Verdict(
        agreement,
        f"{_ways(journey, host)}; L1 allows {_or(withheld)} and KVM's shadow does not: {why}{tail}",
    )


def _why_withheld(
    journey: Journey, shadow: ShadowWalk, withheld: set[str]
) -> tuple[Agreement, str]:
    if withheld == {"fetch"}:
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


# -- words --------------------------------------------------------------------------------------


def _how_stale(journey: Journey) -> str:
    """Why KVM's shadow may differ from EPT12, by the level at which EPT12 ends."""
    steps = journey.ept12.steps
    if journey.shadow is not None and journey.shadow.unsync:
        return (
            "L1 changed EPT12 and has not executed INVEPT since (KVM knows that the table is out "
            "of sync)"
        )
    if steps and steps[-1].level == 1:
        return "L1 changed EPT12 and has not executed INVEPT since, or KVM missed it"
    return (
        "L1 changed a table whose writes KVM intercepts, so KVM missed it, or the write came by a "
        "way that KVM does not see"
    )


def _ways(journey: Journey, host: HostPhys) -> str:
    if journey.through_ept01 is None:
        why = "is not there" if journey.ept01 is None else "does not map it yet"
        return f"EPT12 and KVM's shadow lead to host physical {host:#x}; EPT01 {why}"
    return f"all ways lead to host physical {host:#x}"


def _bits(rights: EptEntry) -> set[str]:
    given = {"read": rights.read, "write": rights.write, "fetch": rights.execute}
    return {name for name, allowed in given.items() if allowed}


def _or(names: set[str]) -> str:
    return " or ".join(name for name in ("read", "write", "fetch") if name in names)


def _allowed(journey: Journey) -> str:
    return _or(_bits(journey.ept12.rights))


def _l1_withholds(journey: Journey) -> str:
    lacking = {"read", "write", "fetch"} - _bits(journey.ept12.rights)
    if not lacking:
        return ""
    return f"; a {_or(lacking)} is an EPT violation that L1 must see"
