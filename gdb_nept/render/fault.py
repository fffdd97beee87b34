# SPDX-License-Identifier: GPL-2.0-or-later
"""One fault that was watched: a line, what is named as the cause of a difference, and its data.

JSON, also a line of --json-lines: number, vm, vcpu, kind ("reflected", "kept", "unread"), agrees,
verdict (a sentence).  Reflected: guest_physical_address, seen (null, or op and stage as the
processor reported them), told, finding, nearest, agreeing, explanations, processor, departures,
link, model (as in nept-check), rules [deviations of the processor that took part].  Kept:
guest_physical_address, seen, exit_reason (the processor's), cause (as nept-walk's verdict), spte,
before and after (what KVM meant by the last entry of EPT02, and that entry; null if there is none),
to_vmm, foreseen (null, or an outcome).
"""

from __future__ import annotations

import re

from gdb_nept.address import HostPhys
from gdb_nept.arch.exits import (
    EPT_MISCONFIGURATION,
    EPT_VIOLATION,
    EXIT_REASONS,
    PML_FULL,
)
from gdb_nept.judge.candidates import Seen
from gdb_nept.judge.check import Check, Finding
from gdb_nept.judge.comparison import Told
from gdb_nept.kvm.spte import SpteKind
from gdb_nept.live.kept import Kept
from gdb_nept.live.watch import Event, Reflected, Unread
from gdb_nept.nested.agreement import Agreement
from gdb_nept.predict.access import Op, Stage
from gdb_nept.predict.model import RULES
from gdb_nept.render.check import check_data, verdict
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data
from gdb_nept.walk.result import Cause, Step

HEADERS = ("#", "vCPU", "access", "L2 physical", "L2 linear", "exit for L1")
WIDTHS = (4, 4, 12, 14, 18, 15)
LINEAR = 4  # the column that a narrow terminal has no room for
WIDE = 100  # columns in which all have room, with a verdict behind them
OPS = {Op.READ: "read", Op.WRITE: "write", Op.FETCH: "fetch", Op.RMW: "rmw"}
SHORT = {
    EPT_VIOLATION: "violation",
    EPT_MISCONFIGURATION: "misconfig",
    PML_FULL: "PML full",
}
L0_ALONE = "none: L0 alone"
UNNAMED = "no bug known here leads to just that"
_ADDRESS = re.compile(r"0x[0-9a-f]{5,}")  # no qualification has so many digits
EMULATED = (
    "KVM's instruction emulator made the access, and walks EPT12 with other flags than the "
    "processor (mmu/paging_tmpl.h walk_addr_generic() for nested_mmu, mmu.c translate_nested_gpa())"
)
NO_TABLE = (
    "a table of EPT12 lies where L1 has no memory: KVM takes its entry for not present and reports "
    "the rights above it (mmu/paging_tmpl.h walk_addr_generic(): the frame has no memslot)"
)
INDENT = " " * 7


def columns(cells: tuple[str, ...], width: int) -> str:
    """The cells at their places, all but the verdict, in a terminal of `width` columns."""
    first, *others = cells
    padded = [first.rjust(WIDTHS[0]), *(c.ljust(w) for c, w in zip(others, WIDTHS[1:]))]
    if width < WIDE:
        del padded[LINEAR]
    return "  ".join(padded)


def cells_of(number: int, event: Event) -> tuple[str, ...]:
    head = (str(number), "-" if event.vm < 0 else f"{event.vm}.{event.vcpu}")
    if isinstance(event, Unread):
        return (*head, "-", "-", "-", "-")
    if isinstance(event, Kept):
        return (*head, _seen_in_words(event.seen), f"{event.gpa:#x}", "-", L0_ALONE)
    gla = event.check.place.gla
    linear = "-" if gla is None else f"{gla:#x}"
    return (*head, _access(event), f"{event.gpa:#x}", linear, _exit_made(event.check.told))


def _exit_made(told: Told) -> str:
    """'violation 0x182'; a qualification of 0 is told of a violation alone."""
    name = SHORT.get(told.reason.basic, f"reason {told.reason.basic}")
    expected = told.reason.basic == EPT_VIOLATION or told.qualification
    return f"{name} {told.qualification:#x}" if expected else name


def _access(event: Reflected) -> str:
    """That of the processor; "L0: ..." where only L0's emulator can have led to the exit, with the
    kind if the exit tells it."""
    agreeing = [each.foreseen.access for each in event.check.agreeing]
    if agreeing and agreeing[0].emulated:
        kinds = {Op.WRITE if access.op is Op.RMW else access.op for access in agreeing}
        return f"L0: {OPS[kinds.pop()]}" if len(kinds) == 1 else "L0"
    return _seen_in_words(event.seen)


def _seen_in_words(seen: Seen | None) -> str:
    """'write', 'walk: read'; '-' where the processor left L2 for no EPT violation."""
    if seen is None:
        return "-"
    if seen.stage is Stage.PDPTE:
        return "PDPTE load"
    if seen.stage is Stage.FINAL:
        return OPS[seen.op]
    return "walk: read" if seen.op is Op.READ else "walk: update"


def outcome_of(event: Event) -> str:
    if isinstance(event, Unread):
        return "not read"
    if isinstance(event, Kept):
        return L0_ALONE
    return EXIT_REASONS.get(event.check.told.reason.basic, "another")


def short_verdict(event: Event, names: tuple[str, ...]) -> str:
    if isinstance(event, Unread):
        return "not read"
    if not event.agrees:
        return "DIFFER" if event.differs else "not known"
    if isinstance(event, Kept):
        return "kept"
    return "agree, not SDM" if names else "agree"


def why_differs(event: Event) -> str:
    if isinstance(event, Unread):
        return event.why
    if isinstance(event, Kept):
        why = event.foreseen.why if event.foreseen else ""
        if not event.differs:
            return f"the model does not say whether L1 must see it: {why}"
        return f"L1 must see this fault, and KVM has not told it: {why}"
    check = event.check
    if check.finding is Finding.NOT_EPT:
        return f"KVM has told L1 of another exit: {check.told.reason.name}"
    if check.finding is Finding.NO_EXIT:
        return "EPT12 lets the access through as it stands: KVM should have kept this fault"
    return verdict(check)


def causes_of(event: Event) -> tuple[str, ...]:
    """What is named as the cause of a difference from the model, or else from the SDM."""
    if isinstance(event, Unread):
        return (like_others(event),)
    if isinstance(event, Kept):
        return (_kept_because(event),) if event.agrees else (_unnamed(event),)
    check = event.check
    if not event.agrees:
        return check.explanations or (_unnamed(event),)
    if check.processor is None or check.processor.agrees:
        return ()
    return check.departures or _rules(check) or (UNNAMED,)


def like_others(event: Event) -> str:
    """In what it differs, without its own addresses, so that it counts with its like."""
    said = why_differs(event)
    if not isinstance(event, Unread):
        said = said.replace(f"{event.gpa:#x}", "(address)")
    return _ADDRESS.sub("(address)", said)


def _unnamed(event: Event) -> str:
    return f"{UNNAMED}: {like_others(event)}"


def _rules(check: Check) -> tuple[str, ...]:
    """The rules of KVM's emulator, or the deviations of the processor, that took part, in words."""
    first = check.agreeing[0].foreseen
    if first.access.emulated:
        return (EMULATED,)
    stop = first.prediction.walk.stop
    if stop is not None and stop.cause is Cause.NO_MEMORY:
        return (NO_TABLE,)
    return tuple(RULES[rule] for rule in first.prediction.rules)


def _kept_because(event: Kept) -> str:
    """Why L1 never saw it, without this fault's own addresses, so that it counts with its like."""
    if event.meant is SpteKind.ACCESS_TRACKED and event.verdict.agreement is Agreement.AGREE:
        because = TRACKED
    else:
        because = KEPT[event.verdict.agreement]
    return because + ("; KVM_RUN returns to the VMM" if event.to_vmm else "")


TRACKED = (
    "KVM has the shadow entry, prefetched or aged, and withholds its rights to see the next access "
    "(access tracking, without EPT's own accessed flags): it gives them back"
)
KEPT = {
    Agreement.NOT_SHADOWED: "EPT12 allows it and the shadow had no entry yet: KVM makes one",
    Agreement.WRITE_TRACKED: "the page holds a table of L1's that KVM shadows: KVM emulates "
    "the write, or drops the shadow",
    Agreement.NO_SLOT: "no memslot holds the L1 physical address: MMIO, which L0 or the "
    "VMM emulates",
    Agreement.HIDDEN_SLOT: "the page lies in a memslot of KVM's own, which L2 does not see: MMIO",
    Agreement.BEING_CHANGED: "the VMM deletes or moves the memslot: KVM repeats the access",
    Agreement.NO_ROOT: "the root of EPT12 lies in no memslot",
    Agreement.REFUSED: "VM entry refuses the EPTP",
    Agreement.NOT_BACKED: "the host had no page there: it brings one in",
    Agreement.STALE: "the shadow was older than EPT12: KVM takes the new entry",
    Agreement.AGREE: "EPT12 allows more than the shadow did: KVM adds the right, or waits for "
    "the dirty flag",
    Agreement.BROKEN: "the shadow led to another page than EPT12: KVM drops it",
    Agreement.NOT_MAPPED: "EPT12 does not map it",
    Agreement.MISCONFIGURED: "EPT12 is misconfigured there",
    Agreement.UNREADABLE: "EPT12 cannot be followed",
}


def fault_data(number: int, event: Event) -> dict[str, Data]:
    """A JSON line."""
    data: dict[str, Data] = {"number": number, "vm": event.vm, "vcpu": event.vcpu}  # -1: not known
    if isinstance(event, Unread):
        return {**data, "kind": "unread", "agrees": False, "verdict": event.why}
    data["agrees"] = event.agrees
    data["guest_physical_address"] = hexed(event.gpa)
    seen = event.seen
    data["seen"] = None if seen is None else {"op": seen.op.value, "stage": seen.stage.value}
    return {**data, **(_kept_data(event) if isinstance(event, Kept) else _reflected_data(event))}


def _reflected_data(event: Reflected) -> dict[str, Data]:
    found = event.check
    rules = found.agreeing[0].foreseen.prediction.rules if found.agreeing else ()
    return {"kind": "reflected", **check_data(found), "rules": list[Data](rules)}


def _kept_data(event: Kept) -> dict[str, Data]:
    return {
        "kind": "kept",
        "verdict": event.verdict.sentence,
        "cause": event.verdict.agreement.value,
        "spte": None if event.meant is None else event.meant.name.lower(),
        "exit_reason": event.reason.basic,
        "before": _step_data(event.old),
        "after": _step_data(event.new),
        "to_vmm": event.to_vmm,
        "foreseen": None if event.foreseen is None else event.foreseen.outcome.value,
    }


def _step_data(step: Step[HostPhys] | None) -> Data:
    if step is None:
        return None
    return {
        "level": step.level,
        "address": hexed(step.address),
        "entry": hexed(step.entry.value),
    }
