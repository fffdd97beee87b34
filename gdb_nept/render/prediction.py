# SPDX-License-Identifier: GPL-2.0-or-later
"""A prediction: what nept-predict answers.

At most LINES lines tell it, unless all is asked for: of the entries those that decide, and the
registers and notes for which there is no room are only counted.
"""

from __future__ import annotations

from collections.abc import Iterable

from gdb_nept.address import L1Phys
from gdb_nept.arch.ept import LEVEL_NAMES
from gdb_nept.arch.exits import EXIT_REASONS, EptViolation
from gdb_nept.judge.oracle import Oracle
from gdb_nept.nested.guest_registers import GuestRegisters
from gdb_nept.predict.access import Access, Op, Stage
from gdb_nept.predict.linear import LinearAccess, LinearPrediction
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.render import text
from gdb_nept.render.ept import refused_in_words
from gdb_nept.render.journey import ept12_lines
from gdb_nept.render.page import Block, Data, Page, Status, Table
from gdb_nept.render.prediction_data import WITH_BITS, linear_data, prediction_data
from gdb_nept.walk.result import Step

KINDS = {Op.READ: "read", Op.WRITE: "write", Op.FETCH: "fetch", Op.RMW: "read-modify-write"}
PLACES = {
    Stage.FINAL: "of",
    Stage.WALK: "of a guest paging-structure entry at",
    Stage.PDPTE: "by a load of the PDPTE registers at",
}
LINES = 14  # of a prediction, unless everything is asked for
ENTRY_ROOM = 3  # lines that one entry takes, with what parts it from the rest
MARK = "  <-"
FROM_THE_MANUAL = "from the manual, never run"
#: Of outcomes that are no exit for L1.
SAID = {
    Outcome.TRANSLATED: "goes through",
    Outcome.VE: "#VE in L2, no exit",
    Outcome.L0_INTERNAL: "a failure in L0 that L1 is not told of",
    Outcome.PAGE_FAULT: "a page fault in L2, no exit",
    Outcome.GENERAL_PROTECTION: "#GP in L2, no exit",
    Outcome.SHUTDOWN: "L0 ends L1's VM",
    Outcome.UNKNOWN: "not known",
}


def access_in_words(access: Access, space: str = "L2 physical") -> str:
    """'write of L2 physical 0x2004108, user mode'."""
    parts = [f"{KINDS[access.op]} {PLACES[access.stage]} {space} {access.gpa:#x}"]
    parts += ["user mode"] if access.user else []
    parts += ["by L0's emulator"] if access.emulated else []
    return ", ".join(parts)


def prediction_page(
    access: Access, found: Prediction[L1Phys], by: Oracle, everything: bool = False
) -> Page:
    """The outcome, why, and what would change it; then the exit's fields, and the entries.  With
    `everything` also the bits of the qualification that are 0, and what each means."""
    data = prediction_data(access, found, by.model.name)
    data["entry_failure"] = by.refusal or None
    data["doubts"] = list[Data](by.doubts)
    head = [*refused_in_words(by.refusal, "this"), *_head(access_in_words(access, "L2"), found)]
    fields = _fields(found, by.model.name, everything)
    blocks: tuple[Block, ...]
    if everything:
        blocks = (
            _lines(*head),
            _lines(*fields, *_unproven(found.never_run)),
            *_bits(found),
            _steps(found, by),
            *_notes(by.doubts),
        )
    else:
        notes = [*_unproven(found.never_run), *_notes(by.doubts)]
        blocks = brief(head, fields, notes, _entries(found, by))
    return Page(blocks, data, lambda: _status(found.outcome))


def _head(asked: str, found: Prediction[L1Phys]) -> list[str]:
    lines = [f"{asked}: {outcome_in_words(found)}", f"because: {found.why}"]
    return [*lines, f"remedy:  {found.change}"] if found.change else lines


def outcome_in_words(found: Prediction[L1Phys]) -> str:
    """EPT violation (exit 48), qualification 0x1aa"""
    if found.reason is None:
        leads = f", to L1 {found.hpa:#x}" if found.hpa is not None else ""
        return SAID[found.outcome] + leads
    name = f"{EXIT_REASONS[found.reason]} (exit {found.reason})"
    return f"{name}, qualification {found.qualification:#x}" if found.mask else name


def _status(outcome: Outcome) -> Status:
    return Status.UNREAD if outcome is Outcome.UNKNOWN else Status.DONE


def _notes(doubts: Iterable[str]) -> list[str]:
    return [f"note: {doubt}" for doubt in doubts]


def _unproven(never_run: tuple[str, ...]) -> list[str]:
    return [f"{FROM_THE_MANUAL}: {each}" for each in never_run]


def linear_page(
    asked: LinearAccess, registers: GuestRegisters, by: Oracle, everything: bool = False
) -> Page:
    """The same of an access at a linear address; with `everything` also the accesses before the one
    that decides, and the registers."""
    found = by.linear(asked, registers.paging)
    model = by.model.name
    lost = tuple(f"not known: {each}" for each in registers.lost)
    doubts = (*by.doubts, *lost, *found.doubts)
    user = ", CPL 3" if asked.user else ""
    bytes_ = "1 byte" if asked.size == 1 else f"{asked.size} bytes"
    said = f"{KINDS[asked.op]} of {bytes_} at linear {asked.linear:#x}{user}"
    refusal = by.refuses(registers, asked.user)
    head = refused_in_words(refusal, "this")
    data: dict[str, Data] = {"model": model, "outcome": found.outcome.value}
    decided = found.access, found.prediction
    if decided[0] is not None and decided[1] is not None:
        access, prediction = decided[0], decided[1]
        head += _head(said, prediction)
        fields = [_decides(found, access, everything), *_fields(prediction, model, everything)]
        unproven = _unproven(prediction.never_run)
        tables = [*_bits(prediction), _steps(prediction, by)]
        entries = _entries(prediction, by)
        data = prediction_data(access, prediction, model)
    else:
        head += [f"{said}: {_own_fault(found)}"]
        fields = [f"model {model}", *([_before(found)] if everything and found.before else [])]
        unproven = _unproven(found.never_run)
        tables, entries = [], []
        data["never_run"] = list[Data](found.never_run)
    data = {**data, **linear_data(asked, found, registers), "doubts": list[Data](doubts)}
    data["entry_failure"] = refusal or None
    blocks: tuple[Block, ...]
    if everything:
        texts = (_lines(*head), _lines(*fields, *unproven))
        blocks = (*texts, *tables, _registers(registers), *_notes(doubts))
    else:
        notes = _notes(dict.fromkeys((*registers.doubts, *by.doubts, *found.doubts)))
        blocks = brief(head, fields, [*unproven, *notes], entries)
    return Page(blocks, data, lambda: _status(found.outcome))


def brief(
    head: list[str], fields: list[str], notes: list[str], entries: list[tuple[str, bool]]
) -> tuple[str, ...]:
    """All within LINES lines of WIDTH columns: of the entries (with whether it decides) as many as
    there is room for, the last ones and those that decide first; the notes if there is room for all
    of them beside one entry, else their number."""
    room = LINES - _height([text.opening(_lines(*head))]) - 1 - _height(fields)
    left = room - len(entries[:1]) * ENTRY_ROOM
    if notes and _height(notes) + 1 > left:
        notes = [f"note: {text.count(len(notes), 'note')} with --all"]
    room -= _height(notes) + 1 if notes else 0
    most = max(0, room - 2)
    order = sorted(range(len(entries)), key=lambda place: (not entries[place][1], -place))
    kept = sorted(order[:most])
    rows = [entries[place][0] for place in kept]
    without = f" (--all: {len(entries)} of them)" if len(rows) < len(entries) else ""
    heading = f"EPT12, in L1 physical memory{without}:"
    shown = _lines(heading, *rows) if rows else ""
    return tuple(filter(None, (_lines(*head), _lines(*fields), shown, _lines(*notes))))


def _lines(*lines: str) -> str:
    return "\n".join(lines)


def _height(lines: list[str]) -> int:
    return len(text.paragraph(_lines(*lines)).splitlines())


def _own_fault(found: LinearPrediction) -> str:
    if found.fault is None:
        return f"L2's own fault\nbecause: {found.refused}"
    code, why = found.fault.code.value, found.fault.why
    return f"L2's own page fault, error code {code:#x}, CR2 {found.linear:#x}\nbecause: {why}"


def _decides(found: LinearPrediction, access: Access, everything: bool) -> str:
    said = f"decided by the {access_in_words(access)}"
    if not found.before:
        return said
    count = len(found.before)
    goes = "goes" if count == 1 else "go"
    return (
        f"{said}; {_before(found)}" if everything else f"{said}; {count} before it {goes} through"
    )


def _before(found: LinearPrediction) -> str:
    if not found.before:
        return ""
    places: dict[str, list[str]] = {}
    for access in found.before:
        said, _, place = access_in_words(access).partition(" L2 physical ")
        places.setdefault(said, []).append(place)
    listed = "; ".join(f"{said} L2 physical {', '.join(each)}" for said, each in places.items())
    return f"went through before: {listed}"


def _registers(registers: GuestRegisters) -> Table:
    rows = tuple(
        (one.name, f"{one.number:#x}", one.origin + (f": {one.doubt}" if one.doubt else ""))
        for one in registers.registers
    )
    return Table(("L2's", "value", "from"), rows, right=(1,))


def _fields(found: Prediction[L1Phys], model: str, everything: bool) -> list[str]:
    """What L1 finds in its VMCS, and by whose rules."""
    lines = []
    if found.reason is not None:
        lines.append(
            f"guest-physical address {_field(found.gpa)}; guest-linear address {_field(found.gla)}"
        )
    if found.outcome in WITH_BITS and not everything:
        lines.append(_bits_in_words(found))
    rules = f", by its own rules {', '.join(found.rules)}" if found.rules else ""
    return [*lines, f"model {model}{rules}"]


def _bits(found: Prediction[L1Phys]) -> list[Table]:
    if found.outcome not in WITH_BITS:
        return []
    return [bits_table(found.qualification, found.mask)]


def _bits_in_words(found: Prediction[L1Phys]) -> str:
    """qualification 1 write, 3 readable, 5 executable, 7 linear_valid, 8 translated"""
    fields = EptViolation.fields()
    named = [f"{one.place} {one.name}" for one in fields if found.qualification & one.mask]
    unknown = [one.place for one in fields if ~found.mask & one.mask]
    told = f"bits set: {', '.join(named) or 'none'}"
    return told + (f"; not defined: {', '.join(unknown)}" if unknown else "")


def _field(number: int | None) -> str:
    return "undefined or not known" if number is None else f"{number:#x}"


def bits_table(value: int, mask: int) -> Table:
    """Every bit of an EPT violation's qualification; one outside `mask` is shown as '-'."""
    rows = tuple(
        (
            field.place,
            field.name,
            str(int(bool(value & field.mask))) if mask & field.mask else "-",
            field.meaning if mask & field.mask else f"not defined here: {field.meaning}",
        )
        for field in EptViolation.fields()
    )
    return Table(("bit", "name", "value", "meaning"), rows, right=(0, 2))


def _decides_at(found: Prediction[L1Phys], step: Step[L1Phys]) -> bool:
    return f" at {step.address:#x}" in found.why


def _entries(found: Prediction[L1Phys], by: Oracle) -> list[tuple[str, bool]]:
    """The entries of EPT12 as nept-walk has them, marked if they decide."""
    lines = ept12_lines(found.walk, by.base.cpu, by.base.eptp)
    marks = [_decides_at(found, step) for step in found.walk.steps]
    return [(line + (MARK if mark else ""), mark) for line, mark in zip(lines, marks)]


def _steps(found: Prediction[L1Phys], by: Oracle) -> Table:
    """The same as a table."""
    cpu, eptp = by.base.cpu, by.base.eptp
    rows = tuple(
        (
            LEVEL_NAMES[step.level],
            f"{text.address(step.table)}[{step.index:3}]",
            text.word(step.entry.value),
            text.marks(step.entry, step.leaf, cpu, eptp)
            + (MARK if _decides_at(found, step) else ""),
        )
        for step in found.walk.steps
    )
    return Table(("EPT12", "L1 physical", "entry", "RWX  AD  type"), rows)
