# SPDX-License-Identifier: GPL-2.0-or-later
"""A record against a prediction, and a case as a request that reproduces it."""

from __future__ import annotations

from typing import Protocol, TypeVar

from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.arch.exits import EPT_MISCONFIGURATION, EPT_VIOLATION, PML_FULL, SPP_EVENT
from gdb_nept.predict.linear import LinearPrediction
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Outcome
from tests.proof.log import TRANSLATED, CaseLine, Record
from tests.proof.machine import SIGNATURE, Machine

EXCEPTION = 0
OVERWRITTEN = SIGNATURE | 0x1122_3344  # cases.c VALUE_WRITTEN
GENERAL_PROTECTION, PAGE_FAULT, VIRTUALIZATION = 13, 14, 20
NOTHING = (1 << 64) - 1  # what a bare machine reads where nothing is
FLAGS = 0x300  # accessed and dirty, which the processor sets behind our back
PATHS = (EPT_VIOLATION, EPT_MISCONFIGURATION)  # that have an address to look at
OUTCOMES = {
    EPT_VIOLATION: Outcome.VIOLATION,
    EPT_MISCONFIGURATION: Outcome.MISCONFIG,
    PML_FULL: Outcome.PML_FULL,
    SPP_EVENT: Outcome.SPP,
}
EXCEPTIONS = {
    PAGE_FAULT: Outcome.PAGE_FAULT,
    GENERAL_PROTECTION: Outcome.GENERAL_PROTECTION,
    VIRTUALIZATION: Outcome.VE,
}


def seen(record: Record) -> Outcome:
    """The outcome of a record."""
    if record.outcome == TRANSLATED:
        return Outcome.TRANSLATED
    if record.reason == EXCEPTION:
        return EXCEPTIONS.get(record.value & 0xFF, Outcome.UNKNOWN)
    return OUTCOMES.get(record.reason, Outcome.UNKNOWN)


def differences(record: Record, found: LinearPrediction, entries: bool = True) -> tuple[str, ...]:
    """What the record says otherwise: names of fields, of the qualification with the bits.

    With `entries`, those that L1 found on the path are compared, too.
    """
    outcome = seen(record)
    if outcome is not found.outcome:
        return (f"outcome {outcome.value} not {found.outcome.value}",)
    if outcome in (Outcome.TRANSLATED, Outcome.VE):  # of #VE there is no exit to compare
        return ()
    if found.fault is not None:
        return tuple(
            name
            for name, one, other in (
                ("error code", record.value >> 32, found.fault.code.value),
                ("CR2", record.qualification, found.linear),
            )
            if one != other
        )
    names = _exit_differences(record, found)
    if entries and not names and record.reason in PATHS and not _same_path(record, found):
        return ("entries of EPT12",)
    return names


def _exit_differences(record: Record, found: LinearPrediction) -> tuple[str, ...]:
    prediction = found.prediction
    assert prediction is not None
    names = []
    bits = (record.qualification ^ prediction.qualification) & prediction.mask
    if bits:
        names.append(f"qualification bits {bits:#x}")
    if prediction.gpa is not None and prediction.gpa != record.gpa:
        names.append("guest-physical address")
    if prediction.gla is not None and prediction.gla != record.gla:
        names.append("guest-linear address")
    return tuple(names)


def elsewhere(
    machine: Machine, case: CaseLine, record: Record, found: LinearPrediction
) -> tuple[str, ...]:
    """Whether an access that went through went to another page than predicted: its signature
    tells, until a write over the end of the page before takes the half that differs."""
    if found.outcome is not Outcome.TRANSLATED:
        return ()
    value = machine.value_read(case, found)
    if value in (None, record.value) or record.value == OVERWRITTEN:
        return ()
    return (f"value read {record.value:#x}, not {value:#x}",)


def keeps(promised: LinearPrediction, found: LinearPrediction) -> bool:
    """Whether `found` says all that `promised` says, with the same bits and addresses."""
    one, other = promised.prediction, found.prediction
    if promised.outcome is not found.outcome:
        return False
    if one is None or other is None or promised.fault is not None:
        return (promised.fault, promised.linear) == (found.fault, found.linear)
    return not (
        one.mask & ~other.mask
        or (one.qualification ^ other.qualification) & one.mask
        or one.gpa not in (None, other.gpa)
        or one.gla not in (None, other.gla)
    )


def _same_path(record: Record, found: LinearPrediction) -> bool:
    """Whether L1 saw the entries that the prediction was made from."""
    assert found.prediction is not None
    used = [step.entry.value for step in found.prediction.walk.steps]
    if used[-1:] == [NOTHING]:
        used.pop()  # read where there is no memory, into which L1 does not look
    return [one & ~FLAGS for one in used] == [one & ~FLAGS for one in record.entries]


AnyCase = TypeVar("AnyCase", contravariant=True)


class Predicting(Protocol[AnyCase]):
    """A Machine, or another that knows what a case of its own kind is made under."""

    @property
    def cpu(self) -> Capabilities: ...

    def eptp_of(self, case: AnyCase) -> Eptp: ...

    def predict(self, case: AnyCase, model: Model) -> LinearPrediction: ...


def request(
    machine: Predicting[CaseLine], case: CaseLine, record: Record, model: Model, name: str
) -> dict[str, object]:
    """A request of predict/request.py for the access that decides, with what was seen instead."""
    found = machine.predict(case, model)
    answer: dict[str, object] = {
        "id": name,
        "eptp": hex(machine.eptp_of(case).value),
        "ept_caps": hex(machine.cpu.ept_vpid_cap.value),
        "maxphyaddr": machine.cpu.maxphyaddr,
        "mbec": machine.cpu.mbec,
        "memory": {},
        "model": model.name,
        "seen": _as_seen(record),
        "differs": list(differences(record, found)),
    }
    access, prediction = found.access, found.prediction
    if access is None or prediction is None:
        answer["linear"] = {"address": hex(case.linear), "flags": case.flags, "op": case.op}
        answer["fault"] = hex(found.fault.code.value) if found.fault else None
        return answer
    answer["memory"] = {hex(one.address): hex(one.entry.value) for one in prediction.walk.steps}
    answer["access"] = {
        "gpa": hex(access.gpa),
        "op": access.op.value,
        "user": access.user,
        "stage": access.stage.value,
        "gla": None if access.gla is None else hex(access.gla),
        "linear_writable": access.linear_writable,
        "linear_execute_disable": access.linear_execute_disable,
        "emulated": access.emulated,
    }
    return answer


def _as_seen(record: Record) -> dict[str, object]:
    return {
        "outcome": seen(record).value,
        "exit_reason": record.reason,
        "exit_qualification": hex(record.qualification),
        "guest_physical_address": hex(record.gpa),
        "guest_linear_address": hex(record.gla),
        "value": hex(record.value),
        "entries": [hex(entry) for entry in record.entries],
    }
