# SPDX-License-Identifier: GPL-2.0-or-later
"""What an EPT maps, as runs and holes, with KVM's own entries as KVM means them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union

from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp, page_size
from gdb_nept.errors import NoGuest
from gdb_nept.kvm.shadow import mmu
from gdb_nept.kvm.spte import Spte, decode_spte
from gdb_nept.kvm.spte_format import spte_format
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import another
from gdb_nept.nested.session import Session, Which
from gdb_nept.walk.runs import Hole, Run, each, merge, with_holes

TITLES = {
    Which.L1: "EPT12 of VM {}, vCPU {}: L1's tables, L2 physical -> L1 physical",
    Which.SHADOW: "EPT02 of VM {}, vCPU {}: KVM's shadow of EPT12, L2 physical -> host physical",
    Which.HOST: "EPT01 of VM {}, vCPU {}: KVM's tables for L1, L1 physical -> host physical",
}


@dataclass(frozen=True)
class Shown:
    """A run of entries; `spte` is the first of them as KVM means it, None in EPT12."""

    run: Run[Any, Any]
    spte: Spte | None = None


Row = Union[Shown, Hole]


@dataclass(frozen=True)
class Listing:
    """What is shown of one EPT; `title` names the table and the spaces, `rows` are in order."""

    title: str
    which: str
    eptp: Eptp
    cpu: Capabilities
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    refusal: str = ""  # why VM entry refuses EPT12's EPTP


def listing(
    session: Session,
    chosen: Chosen,
    which: Which,
    asked: tuple[int, int] | None = None,
    entries: bool = False,
) -> Listing:
    """The runs and holes of `asked` (low, high), by default of all that the EPT can translate;
    with `entries` every entry is a run.  Raises NoGuest where there is no such EPT."""
    found = session.ept(chosen, which)
    low, high = asked or (0, page_size(found.eptp.levels + 1))
    scan = session.scan(found, low, high)
    runs = tuple(with_holes((each if entries else merge)(scan.mappings()), low, high))
    title = TITLES[which].format(chosen.vm, chosen.place)
    rows = _rows(session, chosen, which, runs)
    refusal = found.eptp.problem(found.cpu) if which is Which.L1 else ""
    notes = (*_of_another(session, chosen, which), *scan.notes)
    return Listing(title, which.value, found.eptp, found.cpu, rows, notes, refusal)


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


def _rows(
    session: Session, chosen: Chosen, which: Which, runs: tuple[Run[Any, Any] | Hole, ...]
) -> tuple[Row, ...]:
    if which is Which.L1:
        return tuple(run if isinstance(run, Hole) else Shown(run) for run in runs)
    form = spte_format(session.kernel, chosen.owner.value)
    return tuple(
        run
        if isinstance(run, Hole)
        else Shown(run, decode_spte(run.first.entry.value, run.first.level, form))
        for run in runs
    )
