# SPDX-License-Identifier: GPL-2.0-or-later
"""The journey of an L2 physical address to the host's memory, by three ways.

    EPT12 (L1's tables)  -> memslot -> host virtual -> host page tables -> host physical
    EPT02 (KVM's shadow of EPT12)                                       -> host physical
    EPT12, then EPT01 (KVM's own EPT for L1)                            -> host physical

Where KVM is up to date they agree; where they do not, the difference has a likely meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Union

from gdb_nept.address import HostPhys, HostVirt, L1Phys, L2Phys
from gdb_nept.arch.ept import LEVEL_NAMES, Eptp
from gdb_nept.kvm.memslots import Slot, Tracking
from gdb_nept.kvm.spte import Spte, SpteKind
from gdb_nept.target.pagetable import Translation
from gdb_nept.walk.result import Cause, Walk


class Agreement(Enum):
    """What the three answers together mean; the value is the short form in output and JSON."""

    AGREE = "agree"
    WRITE_TRACKED = "write-tracked"
    NOT_SHADOWED = "not yet shadowed"
    STALE = "stale"
    NOT_MAPPED = "not mapped by L1"
    MISCONFIGURED = "misconfigured by L1"
    NO_SLOT = "no memslot"
    NOT_BACKED = "not backed by the host"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class ShadowWalk:
    """A walk of one of KVM's own EPTs, and each of its entries as KVM means it."""

    walk: Union[Walk[L2Phys, HostPhys], Walk[L1Phys, HostPhys]]
    sptes: tuple[Spte, ...]  # one a step

    @property
    def address(self) -> HostPhys | None:
        """Where KVM's entry leads; an access-tracked one too, which hardware takes as absent."""
        if self.walk.address is not None:
            return self.walk.address
        last = self.last
        if last is None or last.kind is not SpteKind.ACCESS_TRACKED or last.address is None:
            return None
        return HostPhys(last.address | (self.walk.asked & (self.walk.size - 1)))

    @property
    def last(self) -> Spte | None:
        return self.sptes[-1] if self.sptes else None


@dataclass(frozen=True)
class Journey:
    """All that was found on the way of `asked`; what was not reached is None."""

    asked: L2Phys
    vm: int
    vcpu: int
    eptp: Eptp
    ept12: Walk[L2Phys, L1Phys]
    slot: Slot | None
    host_virtual: HostVirt | None
    host: Translation | None
    tracking: Tracking | None
    shadow: ShadowWalk | None
    shadow_missing: str  # why `shadow` is None
    ept01: ShadowWalk | None
    notes: tuple[str, ...]

    @property
    def host_physical(self) -> HostPhys | None:
        """Where the first way leads."""
        return self.host.physical if self.host else None

    @property
    def agreement(self) -> Agreement:
        return self._judged[0]

    @property
    def verdict(self) -> str:
        """One sentence, and where EPT12 withholds a right, what that means."""
        return self._judged[1] + self._withheld

    @property
    def _withheld(self) -> str:
        if self.ept12.stop is not None:
            return ""
        rights = self.ept12.rights
        granted = {"read": rights.read, "write": rights.write, "fetch": rights.execute}
        lacking = [name for name, given in granted.items() if not given]
        if not lacking:
            return ""
        return f"; L1 allows no {' or '.join(lacking)}: that is an EPT violation that L1 must see"

    @property
    def _judged(self) -> tuple[Agreement, str]:
        if self.ept12.stop is not None:
            return _stopped(self, self.ept12.stop.cause)
        if self.slot is None:
            return Agreement.NO_SLOT, (
                f"L1 physical {self.ept12.address:#x} lies in no memslot: L0 treats the access as "
                "MMIO and emulates it"
            )
        if self.host_physical is None:
            why = self.host.why if self.host else "its host virtual address is not known"
            return Agreement.NOT_BACKED, f"the process that runs L1 has no page there: {why}"
        if self.shadow is None or self.shadow.address is None:
            return _not_shadowed(self)
        return _compared(self, self.host_physical, self.shadow, self.shadow.address)


def _stopped(journey: Journey, cause: Cause) -> tuple[Agreement, str]:
    """EPT12 does not translate the address."""
    stop = journey.ept12.stop
    assert stop is not None
    if cause is Cause.UNREADABLE:
        return Agreement.UNREADABLE, f"EPT12 cannot be followed: {stop.why}"
    shadow = journey.shadow.address if journey.shadow else None
    if shadow is not None:
        return Agreement.STALE, (
            f"EPT12 does not translate it ({stop.why}), but KVM's shadow still leads to host "
            f"physical {shadow:#x}: L1 changed EPT12 and has not executed INVEPT since, or KVM "
            "missed it"
        )
    if cause is Cause.MISCONFIGURED:
        return Agreement.MISCONFIGURED, (
            f"{stop.why}; any access is an EPT misconfiguration that L1 must see"
        )
    return Agreement.NOT_MAPPED, f"{stop.why}; any access is an EPT violation that L1 must see"


def _not_shadowed(journey: Journey) -> tuple[Agreement, str]:
    """L1 maps the page and KVM's shadow does not."""
    shadow = journey.shadow
    if shadow is None:
        return Agreement.NOT_SHADOWED, (
            f"L1 maps it, and KVM has no shadow EPT to compare with: {journey.shadow_missing}"
        )
    stop, last = shadow.walk.stop, shadow.last
    if stop is not None and stop.cause is Cause.UNREADABLE:
        return Agreement.UNREADABLE, f"KVM's shadow cannot be followed: {stop.why}"
    if last is not None and last.kind is SpteKind.MMIO:
        return Agreement.STALE, (
            "KVM's shadow holds an MMIO entry, but a memslot holds the page now: KVM notices "
            "at the next access, by the memslots' generation"
        )
    level = LEVEL_NAMES[stop.level] if stop and stop.level else "table"
    return Agreement.NOT_SHADOWED, (
        f"L1 maps it, and KVM's shadow does not yet (no {level}): the next access makes L0 fill "
        "it in, and L1 sees nothing of that"
    )


def _compared(
    journey: Journey, host: HostPhys, shadow: ShadowWalk, answer: HostPhys
) -> tuple[Agreement, str]:
    """Both lead somewhere: to the same place, and with which rights?"""
    if answer != host:
        return Agreement.STALE, (
            f"KVM's shadow leads to host physical {answer:#x}, L1's tables to {host:#x}: L1 "
            "changed EPT12 and has not executed INVEPT since, or the host moved the page and KVM "
            "missed it"
        )
    granted, allowed = shadow.walk.rights, journey.ept12.rights
    beyond = granted.value & ~allowed.value & 7 if shadow.walk.stop is None else 0
    if beyond:
        letters = "".join(letter for place, letter in enumerate("RWX") if beyond >> place & 1)
        return Agreement.STALE, (
            f"all ways lead to host physical {host:#x}, but KVM's shadow grants {letters}, which "
            "EPT12 does not: L1 took it away and has not executed INVEPT since, or KVM missed it"
        )
    if allowed.write and not granted.write:
        return _write_withheld(journey, host, shadow)
    return Agreement.AGREE, f"all ways lead to host physical {host:#x}"


def _write_withheld(journey: Journey, host: HostPhys, shadow: ShadowWalk) -> tuple[Agreement, str]:
    """EPT12 allows writes and KVM's shadow does not: whose reason is it?"""
    found = f"all ways lead to host physical {host:#x}; L1 allows writes and KVM's shadow does not"
    users = journey.tracking.write_tracked if journey.tracking else None
    if users:
        return Agreement.WRITE_TRACKED, (
            f"{found}: the page holds a table that KVM shadows, so a write goes through L0, "
            "which emulates it or drops the shadow; L1 sees nothing of that"
        )
    leaf = journey.ept12.leaf
    if journey.eptp.accessed_dirty and leaf is not None and not leaf.entry.dirty:
        return Agreement.AGREE, (
            f"{found}: the dirty flag in EPT12 is clear, and KVM waits for a write to set it"
        )
    last = shadow.last
    why = last.protection if last and last.protection else "an entry above the leaf withholds it"
    return Agreement.AGREE, f"{found}: {why}"
