# SPDX-License-Identifier: GPL-2.0-or-later
"""What an EPT maps, as runs and holes, with KVM's own entries as KVM means them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Callable, Union

from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import EptEntry, Eptp
from gdb_nept.errors import NoGuest
from gdb_nept.kvm.shadow import mmu
from gdb_nept.kvm.spte import Spte, SpteKind, decode_spte
from gdb_nept.kvm.spte_format import SpteFormat, spte_format
from gdb_nept.memory.budget import Budget, shared
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.derived_rows import DerivedRun, with_derived
from gdb_nept.nested.epts import Which, another
from gdb_nept.nested.session import Session
from gdb_nept.walk.runs import Hole, Run, Unread, with_holes

TITLES = {
    Which.L1: "EPT12 of VM {}, vCPU {}: L1's tables, L2 physical -> L1 physical",
    Which.SHADOW: "EPT02 of VM {}, vCPU {}: KVM's shadow of EPT12, L2 physical -> host physical",
    Which.HOST: "EPT01 of VM {}, vCPU {}: KVM's tables for L1, L1 physical -> host physical",
}
KINDS = 4096  # of entries, that differ in more than their address

Row = Union[Run[Any, Any], Hole, Unread, DerivedRun]


@dataclass(frozen=True)
class Listing:
    """What is shown of one EPT; `title` names the table and the spaces.

    `rows` are in order, up to `high`, and come once, as the tables are read; of EPT12 they have
    what KVM's shadow tells where it cannot be read.  `spte` tells what KVM means by an entry of its
    own; it is None for EPT12."""

    title: str
    which: str
    eptp: Eptp
    cpu: Capabilities
    rows: Iterable[Row]
    high: int
    notes: tuple[str, ...] = ()
    spte: Callable[[int, int], Spte] | None = field(default=None)
    refusal: str = ""  # why VM entry refuses EPT12's EPTP


def listing(
    session: Session,
    chosen: Chosen,
    which: Which,
    asked: tuple[int, int] | None = None,
    entries: bool = False,
    budget: Budget | None = None,
) -> Listing:
    """The runs and holes of `asked` (low, high), by default of all that the EPT can translate;
    with `entries` every entry is a run.  Raises NoGuest where there is no such EPT."""
    found = session.ept(chosen, which)
    low, high = asked or (0, found.eptp.reach)
    scan = session.scan(found, low, high)
    scan.budget = budget or shared()
    rows = with_holes(scan.entries() if entries else scan.found(), low, high)
    listed = Listing(
        title=TITLES[which].format(chosen.vm, chosen.place),
        which=which.value,
        eptp=found.eptp,
        cpu=found.cpu,
        rows=rows,
        high=high,
    )
    if which is Which.L1:
        told = with_derived(session, chosen, found.eptp, rows, scan.budget, not entries)
        return replace(listed, rows=told, notes=found.caveats, refusal=found.refusal)
    form = spte_format(session.kernel, chosen.owner.value)
    notes = (*_of_another(session, chosen, which), *form.notes)
    return replace(listed, notes=notes, spte=sptes(form))


def _of_another(session: Session, chosen: Chosen, which: Which) -> tuple[str, ...]:
    """That the EPT02 in use is not of the EPTP that L1 has in vmcs12 now."""
    if which is not Which.SHADOW:
        return ()
    try:
        eptp = session.ept(chosen, Which.L1).eptp
    except NoGuest:
        return ()
    said = another(mmu(chosen.vcpu.value, "guest_mmu"), eptp)
    return (f"of the EPT02 shown: {said}",) if said else ()


def sptes(form: SpteFormat) -> Callable[[int, int], Spte]:
    """decode_spte() for entries that come in thousands, and of which few kinds differ in more than
    their address.  That of a mapping is then another's of its kind; that of an MMIO entry, which
    has an address in other bits too, its own."""
    of_kind = lru_cache(KINDS)(lambda kind, level: decode_spte(kind, level, form))

    def decoded(value: int, level: int) -> Spte:
        found = of_kind(value & ~EptEntry.address.mask, level)
        return found if found.kind is SpteKind.LEAF else decode_spte(value, level, form)

    return decoded
