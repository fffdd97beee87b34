# SPDX-License-Identifier: GPL-2.0-or-later
"""The last EPT exit that KVM reflected to L1, against what the tables as they stand predict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial

from gdb_nept.arch.exits import EPT_MISCONFIGURATION, EPT_VIOLATION, PML_FULL, ExitReason
from gdb_nept.judge.candidates import (
    UNLINKED,
    Link,
    Place,
    Seen,
    link_of,
    place_of,
)
from gdb_nept.judge.comparison import Case, Comparison, Told
from gdb_nept.judge.features import KvmModel, kvm_model
from gdb_nept.judge.foresight import Foresight, foresee
from gdb_nept.judge.ground import Ground, ground
from gdb_nept.judge.suspects import Suspect, models_for, suspects_for
from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.guest_registers import GuestRegisters, guest_registers
from gdb_nept.nested.session import Session
from gdb_nept.predict.model import Model

EPT_EXITS = (EPT_VIOLATION, EPT_MISCONFIGURATION, PML_FULL)


class Finding(Enum):
    """What came of a comparison; the value is the name in output and JSON."""

    AGREE = "agree"
    DIFFER = "differ"
    NOT_EPT = "not an EPT exit"
    NO_EXIT = "no exit by the tables as they stand"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class Check:
    """`agreeing` are the accesses whose exit is the one that was told; `nearest` the closest of
    them all.  `explanations` name what would have made the difference; `processor` compares the
    same access with the SDM's processor, and `departures` name rules that KVM has not and by which
    it would have told what that processor tells, where it told another thing.  `unknown` is why the
    model cannot say what an access leads to, where it cannot."""

    model: str
    place: Place
    link: Link
    told: Told
    finding: Finding
    agreeing: tuple[Comparison, ...]
    nearest: Comparison | None
    explanations: tuple[str, ...]
    processor: Comparison | None
    departures: tuple[str, ...]
    kvm: KvmModel
    notes: tuple[str, ...]
    unknown: str = ""


@dataclass(frozen=True)
class Foretold:
    """What was predicted for the accesses to a place, before what KVM wrote was read.  `suspects`
    are put to the test only where they are asked for, over the tables that stood then.

    `elsewhere` makes what L0's emulator would lead to, where that is not in question: the
    processor's access was seen, and must exit by itself (kvm_mmu_page_fault() walks EPT12 for that
    first, and emulates nothing then)."""

    base: Ground
    kvm: KvmModel
    asked: Model
    suspects: tuple[Suspect, ...]
    foresight: Foresight
    elsewhere: Callable[[], Foresight] | None = None


def check(session: Session, chosen: Chosen, model: Model | None = None) -> Check:
    """Compare; `model` is the attached KVM if not given.

    The order is the point: all is foretold before the reason and the qualification are read from
    the target.  Raises NoGuest where L1 runs no L2 with EPT.
    """
    base = ground(session, chosen)
    place = place_of(session.vmcs12(chosen))
    registers = guest_registers(session, chosen)
    link = link_of(base, place, registers.paging, registers.translation_doubt)
    foretold = foretell(session, chosen, base, place, link, model)
    return compare(foretold, session.vmcs12(chosen), place, link, registers)


def foretell(
    session: Session,
    chosen: Chosen,
    base: Ground,
    place: Place,
    link: Link = UNLINKED,
    model: Model | None = None,
    seen: Seen | None = None,
) -> Foretold:
    """By the model asked.  What the SDM's processor makes of the access that was made, and what is
    known to go wrong, is asked later of the tables as they stand now."""
    kvm = kvm_model(session, chosen)
    asked = model or kvm.model
    by = partial(foresee, base.standing(place.gpa), place, link, models_for(asked), seen)
    foresight, elsewhere = by((False,)) if seen else by(), None
    if seen and any(each.prediction.reason is not None for each in foresight[asked.name]):
        elsewhere = partial(by, (True,))
    elif seen:
        foresight = by()
    foresight.predict(asked.name)
    return Foretold(base, kvm, asked, suspects_for(asked), foresight, elsewhere)


def compare(
    foretold: Foretold, vmcs12: Vmcs12, place: Place, link: Link, registers: GuestRegisters
) -> Check:
    """What KVM told L1, in `vmcs12`, of an access to `place`, against what was foretold."""
    case = Case(
        place=place,
        link=link,
        foresight=foretold.foresight.told(place.gla),
        told=told_by(vmcs12),
        suspects=foretold.suspects,
        asked=foretold.asked.name,
        elsewhere=foretold.elsewhere,
    )
    notes = (
        *foretold.base.caveats,
        *foretold.kvm.doubts,
        *_notes(vmcs12, registers.doubts),
    )
    return _judge(case, foretold.asked.name, foretold.kvm, notes)


def told_by(vmcs12: Vmcs12) -> Told:
    reason = ExitReason(vmcs12.number("vm_exit_reason"))
    return Told(reason, vmcs12.number("exit_qualification"))


def _judge(case: Case, name: str, kvm: KvmModel, notes: tuple[str, ...]) -> Check:
    ept = case.told.reason.basic in EPT_EXITS
    ours = case.comparisons(name) if ept else ()
    agreeing = tuple(sorted((each for each in ours if each.agrees), key=case.as_the_sdm))
    nearest = min(ours, key=lambda each: each.distance, default=None)
    processor = case.by_processor(agreeing[0] if agreeing else nearest) if nearest else None
    departs = agreeing and not (processor and processor.agrees)
    unknown = "" if ours or not ept else case.unknown(name)
    return Check(
        model=name,
        place=case.place,
        link=case.link,
        told=case.told,
        finding=_finding(case.told, ours, agreeing, unknown),
        agreeing=agreeing,
        nearest=nearest,
        explanations=() if agreeing or not ept else tuple(case.explanations()),
        processor=processor,
        departures=tuple(case.departures(agreeing[0])) if departs else (),
        kvm=kvm,
        notes=notes,
        unknown=unknown,
    )


def _finding(
    told: Told, ours: tuple[Comparison, ...], agreeing: tuple[Comparison, ...], unknown: str
) -> Finding:
    if told.reason.basic not in EPT_EXITS:
        return Finding.NOT_EPT
    if not ours:
        return Finding.UNKNOWN if unknown else Finding.NO_EXIT
    return Finding.AGREE if agreeing else Finding.DIFFER


def _notes(vmcs12: Vmcs12, doubts: tuple[str, ...]) -> Iterator[str]:
    yield from vmcs12.problems
    if vmcs12.situation.l2_active:
        yield "L2 runs again: L1 has handled that exit, and may have changed EPT12 for it"
    for doubt in doubts:
        yield f"L2's {doubt}"
