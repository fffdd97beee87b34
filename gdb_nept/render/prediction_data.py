# SPDX-License-Identifier: GPL-2.0-or-later
"""A prediction as data: what nept-predict --json answers.

JSON: model, access [gpa, op, user, stage, gla, emulated], outcome, exit_reason (number or null),
exit_qualification, qualification_mask, guest_physical_address, guest_linear_address (null where
undefined), l1_physical (null unless translated), entry_failure (null, or why VM entry fails, so
that no access happens at all), bits [bit, name, value, defined, meaning], steps [level,
address, index, entry], why, change, rules, never_run [rules that decide, from the manual alone],
doubts [text]. Of a linear address besides: linear, size, before [accesses that went through],
page_fault (null, or error_code, cr2, why), not_canonical (null, or why the processor refuses the
address), registers [name, value, origin, doubt].
"""

from __future__ import annotations

from gdb_nept.address import L1Phys
from gdb_nept.arch.exits import EptViolation
from gdb_nept.nested.guest_registers import GuestRegisters
from gdb_nept.predict.access import Access
from gdb_nept.predict.linear import LinearAccess, LinearPrediction
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data

WITH_BITS = (Outcome.VIOLATION, Outcome.VE)


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


def linear_data(
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
