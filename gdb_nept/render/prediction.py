# SPDX-License-Identifier: GPL-2.0-or-later
"""A prediction: what nept-predict answers.

JSON: model, access [gpa, op, user, stage, gla, emulated], outcome, exit_reason (number or null),
exit_qualification, qualification_mask, guest_physical_address, guest_linear_address (null where
undefined), l1_physical (null unless translated), entry_failure (null, or why VM entry refuses the
EPTP, so that no access happens at all), bits [bit, name, value, defined, meaning], steps
[level, address, index, entry], why, change, rules, doubts [text].  Of a linear address besides:
linear, size, before [accesses that went through], page_fault (null, or error_code, cr2, why),
not_canonical (null, or why the processor refuses the address), registers [name, value, origin,
doubt].
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
from gdb_nept.walk.result import Step

KINDS = {Op.READ: "read", Op.WRITE: "write", Op.FETCH: "fetch", Op.RMW: "read-modify-write"}
PLACES = {
    Stage.FINAL: "of",
    Stage.WALK: "of a guest paging-structure entry at",
    Stage.PDPTE: "by a load of the PDPTE registers at",
}
WITH_BITS = (Outcome.VIOLATION, Outcome.VE)


def access_in_words(access: Access) -> str:
    """'write of L2 physical 0x2004108, user mode'."""
    parts = [f"{KINDS[access.op]} {PLACES[access.stage]} L2 physical {access.gpa:#x}"]
    parts += ["user mode"] if access.user else []
    parts += ["by L0's emulator"] if access.emulated else []
    return ", ".join(parts)


def prediction_page(access: Access, found: Prediction[L1Phys], by: Oracle) -> Page:
    head = f"{access_in_words(access)}; model {by.model.name}"
    data = prediction_data(access, found, by.model.name)
    data["entry_failure"] = by.refusal or None
    data["doubts"] = list[Data](by.doubts)
    blocks = (head, *refused_in_words(by.refusal), *_blocks(found), *_notes(by.doubts))
    return Page(blocks, data, lambda: _status(found.outcome))


def _status(outcome: Outcome) -> Status:
    return Status.UNREAD if outcome is Outcome.UNKNOWN else Status.DONE


def _notes(doubts: tuple[str, ...]) -> list[str]:
    return [f"note: {doubt}" for doubt in doubts]


def linear_page(
    asked: LinearAccess, found: LinearPrediction, registers: GuestRegisters, by: Oracle
) -> Page:
    """The access at a linear address, the accesses before the one that decides, the registers."""
    model = by.model.name
    lost = (f"not known: {each}" for each in registers.lost)
    doubts = (*by.doubts, *lost, *found.doubts)
    user = ", CPL 3" if asked.user else ""
    bytes_ = "1 byte" if asked.size == 1 else f"{asked.size} bytes"
    head = f"{KINDS[asked.op]} of {bytes_} at linear {asked.linear:#x}{user}; model {model}"
    blocks: list[str | Table] = [head, *refused_in_words(by.refusal), _registers(registers)]
    if found.before:
        blocks += ["Went through before:", "\n".join(_listed(found))]
    data: dict[str, Data] = {"model": model, "outcome": found.outcome.value}
    if found.refused:
        blocks.append(f"outcome: L2's own fault: {found.refused}")
    elif found.fault is not None:
        fault = found.fault
        blocks.append(
            f"outcome: L2's own page fault, error code {fault.code.value:#x}, CR2 "
            f"{found.linear:#x}: {fault.why}"
        )
    elif found.access is not None and found.prediction is not None:
        blocks += [f"Decides: {access_in_words(found.access)}", *_blocks(found.prediction)]
        data = prediction_data(found.access, found.prediction, model)
    data = {**data, **_linear_data(asked, found, registers), "doubts": list[Data](doubts)}
    data["entry_failure"] = by.refusal or None
    return Page((*blocks, *_notes(doubts)), data, lambda: _status(found.outcome))


def _listed(found: LinearPrediction) -> list[str]:
    return [f"  {access_in_words(access)}" for access in found.before]


def _registers(registers: GuestRegisters) -> Table:
    rows = tuple(
        (one.name, f"{one.number:#x}", one.origin + (f": {one.doubt}" if one.doubt else ""))
        for one in registers.registers
    )
    return Table(("L2's", "value", "from"), rows, right=(1,))


def _blocks(found: Prediction[L1Phys]) -> list[str | Table]:
    blocks: list[str | Table] = [outcome_in_words(found)]
    if found.outcome in WITH_BITS:
        blocks.append(bits_table(found.qualification, found.mask))
    blocks += [_steps(found.walk.steps), f"why: {found.why}"]
    if found.change:
        blocks.append(f"what would let it through: {found.change}")
    if found.rules:
        blocks.append(f"rules of this model that differ from the SDM: {', '.join(found.rules)}")
    return blocks


def outcome_in_words(found: Prediction[L1Phys]) -> str:
    """The outcome, and every field of the exit."""
    if found.reason is None:
        leads = f": L1 physical {found.hpa:#x}" if found.hpa is not None else ""
        return f"outcome: {found.outcome.value}{leads}"
    lines = [
        f"outcome: {EXIT_REASONS[found.reason]} (exit reason {found.reason})",
        f"exit qualification {found.qualification:#x}, defined bits {found.mask:#x}",
        f"guest-physical address {_field(found.gpa)}, guest-linear address {_field(found.gla)}",
    ]
    return "\n".join(lines)


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


def _steps(steps: tuple[Step[L1Phys], ...]) -> Table:
    rows = tuple(
        (
            LEVEL_NAMES[step.level],
            f"{text.address(step.table)}[{step.index:3}]",
            text.word(step.entry.value),
            text.in_words(step.entry, step.leaf),
        )
        for step in steps
    )
    return Table(("EPT12", "L1 physical", "entry", "says"), rows)


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
