# SPDX-License-Identifier: GPL-2.0-or-later
"""A prediction: what nept-predict answers.

JSON: model, access [gpa, op, user, stage, gla, emulated], outcome, exit_reason (number or null),
exit_qualification, qualification_mask, guest_physical_address, guest_linear_address (null where
undefined), l1_physical (null unless translated), entry_failure (null, or why VM entry refuses the
EPTP, so that no access happens at all), bits [bit, name, value, defined, meaning], steps [level,
address, index, entry], why, change, rules, never_run [rules that decide, from the manual alone],
doubts [text]. Of a linear address besides: linear, size, before [accesses that went through],
page_fault (null, or error_code, cr2, why), not_canonical (null, or why the processor refuses the
address), registers [name, value, origin, doubt].
"""

from __future__ import annotations

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
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Status, Table

KINDS = {Op.READ: "read", Op.WRITE: "write", Op.FETCH: "fetch", Op.RMW: "read-modify-write"}
PLACES = {
    Stage.FINAL: "of",
    Stage.WALK: "of a guest paging-structure entry at",
    Stage.PDPTE: "by a load of the PDPTE registers at",
}
WITH_BITS = (Outcome.VIOLATION, Outcome.VE)
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
    access: Access, found: Prediction[L1Phys], by: Oracle, every_bit: bool = False
) -> Page:
    """The outcome, why, and what would change it; then the exit's fields, and the entries.  With
    `every_bit` also those of the qualification that are 0, and what each means."""
    data = prediction_data(access, found, by.model.name)
    data["entry_failure"] = by.refusal or None
    data["doubts"] = list[Data](by.doubts)
    head = _head(access_in_words(access, "L2"), found)
    blocks = (
        *refused_in_words(by.refusal),
        head,
        *_fields(found, by.model.name, every_bit),
        _steps(found, by),
        *_notes(by.doubts),
    )
    return Page(blocks, data, lambda: _status(found.outcome))


def _head(asked: str, found: Prediction[L1Phys]) -> str:
    lines = [f"{asked}: {outcome_in_words(found)}", f"because: {found.why}"]
    lines += [f"remedy:  {found.change}"] if found.change else []
    return "\n".join(lines)


def outcome_in_words(found: Prediction[L1Phys]) -> str:
    """EPT violation (exit 48), qualification 0x1aa"""
    if found.reason is None:
        leads = f", to L1 {found.hpa:#x}" if found.hpa is not None else ""
        return SAID[found.outcome] + leads
    name = f"{EXIT_REASONS[found.reason]} (exit {found.reason})"
    return f"{name}, qualification {found.qualification:#x}" if found.mask else name


def _status(outcome: Outcome) -> Status:
    return Status.UNREAD if outcome is Outcome.UNKNOWN else Status.DONE


def _notes(doubts: tuple[str, ...]) -> list[str]:
    return [f"note: {doubt}" for doubt in doubts]


def linear_page(
    asked: LinearAccess, registers: GuestRegisters, by: Oracle, every_bit: bool = False
) -> Page:
    """The same of an access at a linear address; behind it the accesses before the one that
    decides, and the registers."""
    found = by.linear(asked, registers.paging)
    model = by.model.name
    lost = (f"not known: {each}" for each in registers.lost)
    doubts = (*by.doubts, *lost, *found.doubts)
    user = ", CPL 3" if asked.user else ""
    bytes_ = "1 byte" if asked.size == 1 else f"{asked.size} bytes"
    head = f"{KINDS[asked.op]} of {bytes_} at linear {asked.linear:#x}{user}"
    blocks: list[str | Table] = [*refused_in_words(by.refusal)]
    data: dict[str, Data] = {"model": model, "outcome": found.outcome.value}
    if found.access is not None and found.prediction is not None:
        blocks.append(_head(head, found.prediction))
        blocks.append(_decides(found, found.access))
        blocks += _fields(found.prediction, model, every_bit)
        blocks.append(_steps(found.prediction, by))
        data = prediction_data(found.access, found.prediction, model)
    else:
        unproven = (f"\n{FROM_THE_MANUAL}: {each}" for each in found.never_run)
        blocks.append(f"{head}: {_own_fault(found)}\nby model {model}{''.join(unproven)}")
        data["never_run"] = list[Data](found.never_run)
        blocks.append(_before(found))
    blocks.append(_registers(registers))
    data = {**data, **_linear_data(asked, found, registers), "doubts": list[Data](doubts)}
    data["entry_failure"] = by.refusal or None
    blocks = [block for block in blocks if block]
    return Page((*blocks, *_notes(doubts)), data, lambda: _status(found.outcome))


def _own_fault(found: LinearPrediction) -> str:
    if found.fault is None:
        return f"L2's own fault\nbecause: {found.refused}"
    code, why = found.fault.code.value, found.fault.why
    return f"L2's own page fault, error code {code:#x}, CR2 {found.linear:#x}\nbecause: {why}"


def _decides(found: LinearPrediction, access: Access) -> str:
    said = f"decided by the {access_in_words(access)}"
    return f"{said}; {_before(found)}" if found.before else said


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


def _fields(found: Prediction[L1Phys], model: str, every_bit: bool) -> list[str | Table]:
    """What L1 finds in its VMCS, and by whose rules."""
    lines = []
    if found.reason is not None:
        lines.append(
            f"guest-physical address {_field(found.gpa)}; guest-linear address {_field(found.gla)}"
        )
    if found.outcome in WITH_BITS and not every_bit:
        lines.append(_bits_in_words(found))
    rules = f", by its own rules {', '.join(found.rules)}" if found.rules else ""
    lines.append(f"model {model}{rules}")
    lines += [f"{FROM_THE_MANUAL}: {each}" for each in found.never_run]
    table = found.outcome in WITH_BITS and every_bit
    return ["\n".join(lines), *([bits_table(found.qualification, found.mask)] if table else [])]


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


def _steps(found: Prediction[L1Phys], by: Oracle) -> Table:
    """The entries of EPT12; one that decides is marked."""
    cpu, eptp = by.base.cpu, by.base.eptp
    rows = tuple(
        (
            LEVEL_NAMES[step.level],
            f"{text.address(step.table)}[{step.index:3}]",
            text.word(step.entry.value),
            text.marks(step.entry, step.leaf, cpu, eptp)
            + ("  <-" if f" at {step.address:#x}" in found.why else ""),
        )
        for step in found.walk.steps
    )
    return Table(("EPT12", "L1 physical", "entry", "RWX  AD  type"), rows)


def prediction_data(access: Access, found: Prediction[L1Phys], model: str) -> dict[str, Data]:
    exits = found.reason is not None
    return {
        "model": model,
        "access": access_data(access),
        "outcome": found.outcome.value,
        "exit_reason": found.reason,
        "exit_qualification": hexed(found.qualification) if exits else None,
        "qualification_mask": hexed(found.mask) if exits else None,
        "guest_physical_address": hexed(found.gpa),
        "guest_linear_address": hexed(found.gla),
        "l1_physical": hexed(found.hpa),
        "bits": _bits_data(found) if found.outcome in WITH_BITS else [],
        "steps": [
            {
                "level": step.level,
                "address": hexed(step.address),
                "index": step.index,
                "entry": hexed(step.entry.value),
            }
            for step in found.walk.steps
        ],
        "why": found.why,
        "change": found.change or None,
        "rules": list[Data](found.rules),
        "never_run": list[Data](found.never_run),
    }


def access_data(access: Access) -> dict[str, Data]:
    return {
        "gpa": hexed(access.gpa),
        "op": access.op.value,
        "user": access.user,
        "stage": access.stage.value,
        "gla": hexed(access.gla),
        "emulated": access.emulated,
    }


def _bits_data(found: Prediction[L1Phys]) -> list[Data]:
    return [
        {
            "bit": field.low,
            "name": field.name,
            "value": found.qualification >> field.low & 1,
            "defined": bool(found.mask & field.mask),
            "meaning": field.meaning,
        }
        for field in EptViolation.fields()
    ]


def _linear_data(
    asked: LinearAccess, found: LinearPrediction, registers: GuestRegisters
) -> dict[str, Data]:
    fault = found.fault
    return {
        "linear": hexed(asked.linear),
        "size": asked.size,
        "before": [access_data(access) for access in found.before],
        "not_canonical": found.refused or None,
        "page_fault": None
        if fault is None
        else {"error_code": hexed(fault.code.value), "cr2": hexed(found.linear), "why": fault.why},
        "registers": [
            {
                "name": one.name,
                "value": hexed(one.number),
                "origin": one.origin,
                "doubt": one.doubt or None,
            }
            for one in registers.registers
        ],
    }
