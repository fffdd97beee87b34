# SPDX-License-Identifier: GPL-2.0-or-later
"""A record of features.c against a prediction: the exit, and what the access left behind."""

from __future__ import annotations

from gdb_nept.arch.exits import EPT_VIOLATION
from gdb_nept.predict.case import Deviation, Hardware
from gdb_nept.predict.linear import LinearPrediction
from gdb_nept.predict.outcome import Outcome
from tests.features import cases
from tests.features.machine import PML_FULL, PML_LAST, FeatureMachine, pml_index
from tests.features.run import FeatureRecord
from tests.guests.scenarios import FETCH, INS, OUTS, PAGE, READ, WRITE
from tests.proof.compare import differences as exit_differences
from tests.proof.log import CaseLine
from tests.proof.machine import SIGNATURE

NOWHERE = (1 << 64) - 1
ADDRESS = (1 << 64) - PAGE
BUSY = 0xFFFF_FFFF


def differences(
    machine: FeatureMachine,
    case: CaseLine,
    record: FeatureRecord,
    found: LinearPrediction,
    hardware: Hardware,
) -> tuple[str, ...]:
    """What the record says otherwise; the exit alone decides if it is another one."""
    names = exit_differences(record.usual, found, entries=False)
    if names:
        return names
    used = machine.used(case, found)
    names = _went_through(case, record, found) if found.outcome is Outcome.TRANSLATED else ()
    path = machine.path(case, used.memory)
    if path != list(record.path[: len(path)]):
        names += ("flags of EPT12",)
    if case.features & cases.PML:
        names += _log(case, record, used.logged, hardware)
    if found.outcome is Outcome.VE:
        names += _area(machine, case, record, found, hardware)
    return names


def _went_through(
    case: CaseLine, record: FeatureRecord, found: LinearPrediction
) -> tuple[str, ...]:
    """Where it went: the signature of the page, or the page that has what was written."""
    prediction = found.prediction
    assert prediction is not None
    assert prediction.hpa is not None
    page = prediction.hpa & ADDRESS
    if (case.features & cases.SHADOW_STACK and case.op == READ) or case.op in (OUTS, INS):
        return ()
    if case.op == WRITE:
        return () if record.written == page else ("page that was written",)
    wanted = page // PAGE if case.op == FETCH else SIGNATURE | page // PAGE
    return () if record.usual.value == wanted else ("signature of the page",)


def _log(
    case: CaseLine, record: FeatureRecord, logged: tuple[int, ...], hardware: Hardware
) -> tuple[str, ...]:
    if case.features & cases.PML_FULL:
        return () if record.pml_index == PML_FULL else ("PML index",)
    if Deviation.PML_OFFSET_LOGGED not in hardware:
        logged = tuple(address & ADDRESS for address in logged)
    first = pml_index(case.features)
    shown = logged[: len(record.pml)] if first == PML_LAST else ()
    names: tuple[str, ...] = ()
    if record.pml_index != (first - len(logged)) & PML_FULL:
        names += ("PML index",)
    if record.pml[: len(shown)] != shown or any(record.pml[len(shown) :]):
        names += ("PML entries",)
    return names


def _area(
    machine: FeatureMachine,
    case: CaseLine,
    record: FeatureRecord,
    found: LinearPrediction,
    hardware: Hardware,
) -> tuple[str, ...]:
    """The virtualization-exception information area (SDM 28.5.8.2)."""
    prediction = found.prediction
    assert prediction is not None
    switched = bool(case.features & cases.SWITCH)
    if Deviation.EPTP_INDEX_KEPT in hardware:
        switched = record.number >= machine.first_switch
    start, qualification, linear, physical, number = record.ve
    names = []
    if start != BUSY << 32 | EPT_VIOLATION:
        names.append("start of the #VE area")
    if (qualification ^ prediction.qualification) & prediction.mask:
        names.append("qualification in the #VE area")
    if prediction.gla is not None and linear != prediction.gla:
        names.append("guest-linear address in the #VE area")
    if physical != prediction.gpa:
        names.append("guest-physical address in the #VE area")
    if number & 0xFFFF != int(switched):
        names.append("EPTP index in the #VE area")
    return tuple(names)
