# SPDX-License-Identifier: GPL-2.0-or-later
"""The journey of an L2 physical address to the host's memory, by three ways.

    EPT12 (L1's tables)  -> memslot -> host virtual -> host page tables -> host physical
    EPT02 (KVM's shadow of EPT12)                                       -> host physical
    EPT12, then EPT01 (KVM's own EPT for L1)                            -> host physical

What the three mean together is in nested/verdict.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Optional, Union

from gdb_nept.address import HostPhys, HostVirt, L1Phys, L2Phys
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import EptEntry, Eptp
from gdb_nept.errors import UnreadKind
from gdb_nept.kvm.memslots import Slot
from gdb_nept.kvm.shadow_page import NotShadowPage, ShadowPage
from gdb_nept.kvm.spte import Spte, SpteKind
from gdb_nept.kvm.tracking import Tracking
from gdb_nept.kvm.visible import NoRoot
from gdb_nept.target.pagetable import Translation
from gdb_nept.walk.result import Cause, Walk

Page = Union[ShadowPage, NotShadowPage]


@dataclass(frozen=True)
class ShadowWalk:
    """A walk of one of KVM's own EPTs, each of its entries as KVM means it, and what KVM keeps of
    each table."""

    walk: Union[Walk[L2Phys, HostPhys], Walk[L1Phys, HostPhys]]
    sptes: tuple[Spte, ...]  # one a step
    pages: tuple[Page, ...]  # one a step: the kvm_mmu_page of its table

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

    @property
    def unsync(self) -> bool:
        """Whether KVM knows that the last table may differ from L1's."""
        page = self.pages[-1] if self.pages else None
        return isinstance(page, ShadowPage) and page.unsync


@dataclass(frozen=True)
class DerivedTable:
    """Where L1's table of a level lies, by what KVM keeps of its shadow."""

    level: int
    table: L1Phys
    index: int


@dataclass(frozen=True)
class Derived:
    """What KVM's shadow tells of the way through EPT12, which cannot be read: L1's tables, the L1
    physical address (None if KVM notes none), the size of EPT12's page and rights that L1 grants at
    least; `doubt` is why that may be old.  From there on all was read."""

    tables: tuple[DerivedTable, ...]
    address: L1Phys | None
    size: int
    rights: EptEntry
    doubt: str = ""
    slot: Slot | None = None
    host_virtual: HostVirt | None = None
    host: Translation | None = None

    @property
    def host_physical(self) -> HostPhys | None:
        return self.host.physical if self.host else None


class Hop(Enum):
    """How a hop of the journey is known."""

    READ = "read"
    DERIVED = "derived"  # from what KVM keeps of its shadow
    MISSING = "missing"  # the target does not let us see it
    NONE = "none"  # there is none, or the way does not lead so far


class Along(NamedTuple):
    """The hops between EPT12 and the host's memory."""

    slot: Optional[Slot]
    host_virtual: Optional[HostVirt]
    host: Optional[Translation]


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
    table: ShadowPage | None  # if the page holds a table of L1's that KVM shadows
    shadow: ShadowWalk | None
    shadow_missing: str  # why `shadow` is None
    ept01: ShadowWalk | None
    notes: tuple[str, ...]
    refusal: str = ""  # why VM entry refuses this EPTP
    hidden: str = ""  # why L2 does not see `slot`
    no_root: NoRoot = NoRoot.DUMMY  # what KVM does if the root of EPT12 is in no memslot
    root_freed: bool | None = None  # KVM is asked to drop roots that are not valid any more
    noted: L1Phys | None = None  # which page of L1's the last entry of `shadow` is for, by KVM
    lower: Walk[L2Phys, L1Phys] | None = None  # of the bits that KVM looks at, if `asked` has more
    mmio_current: bool | None = None  # whether KVM believes the MMIO entry at the end of `shadow`
    cpu: Capabilities | None = None  # the processor as L1 sees it, by which EPT12 is read
    mbec: bool = False  # mode-based execute control is in force in EPT12 and EPT02
    derived: Derived | None = None  # what KVM's shadow tells of EPT12, where that cannot be read

    @property
    def along(self) -> Along:
        """The memslot and the host's page table walk on the way, also where that is derived."""
        if self.derived is not None:
            return Along(self.derived.slot, self.derived.host_virtual, self.derived.host)
        return Along(self.slot, self.host_virtual, self.host)

    @property
    def hops(self) -> dict[str, Hop]:
        """Of each hop, by its name, how it is known."""
        slot, host = self.along.slot, self.along.host
        ept12 = _read(self.ept12)
        if ept12 is Hop.MISSING and self.derived is not None and self.derived.address is not None:
            ept12 = Hop.DERIVED
        known = host is None or host.unread in (None, UnreadKind.NOT_MAPPED, UnreadKind.SWAPPED)
        return {
            "EPT12": ept12,
            "memslot": Hop.READ if slot else Hop.NONE,
            "host page tables": (Hop.READ if known else Hop.MISSING) if host else Hop.NONE,
            "EPT02": _read(self.shadow.walk) if self.shadow else Hop.NONE,
            "EPT01": _read(self.ept01.walk) if self.ept01 else Hop.NONE,
        }

    @property
    def host_physical(self) -> HostPhys | None:
        """Where the first way leads."""
        return self.host.physical if self.host else None

    @property
    def shadowed(self) -> HostPhys | None:
        """Where the second way leads."""
        return self.shadow.address if self.shadow else None

    @property
    def through_ept01(self) -> HostPhys | None:
        """Where the third way leads."""
        return self.ept01.address if self.ept01 else None


def _read(walk: Walk[Any, Any]) -> Hop:
    stop = walk.stop
    return Hop.MISSING if stop is not None and stop.cause is Cause.UNREADABLE else Hop.READ
