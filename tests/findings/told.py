# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run shows of each finding, in words."""

from __future__ import annotations

from dataclasses import dataclass

from bochs_lab.emulator import Emulator

from gdb_nept.predict.case import BOCHSES, SDM
from gdb_nept.predict.linear import LinearPrediction
from gdb_nept.predict.model import Processor
from gdb_nept.predict.outcome import Outcome
from gdb_nept.render.prediction import SAID, outcome_in_words
from tests.features.cases import SWITCH
from tests.features.compare import differences
from tests.features.run import FeatureRecord, FeatureRun, run
from tests.findings.bochs import FINDINGS, Finding, scenario
from tests.proof.compare import seen


@dataclass(frozen=True)
class Shown:
    """`differs` is what the record says otherwise than the SDM; `unlike_model` than ours of it."""

    finding: Finding
    manual: str
    got: str
    differs: tuple[str, ...]
    unlike_model: tuple[str, ...]


def shown(emulator: Emulator) -> list[Shown]:
    """Of those findings that this version of Bochs is to have; one boot."""
    findings = [one for one in FINDINGS if emulator.version in one.versions]
    taken = run(scenario(findings), emulator=emulator)
    return [_shown(taken, finding, emulator) for finding in findings]


def _shown(taken: FeatureRun, finding: Finding, emulator: Emulator) -> Shown:
    hardware = BOCHSES[emulator.version]
    places = [n for n, name in enumerate(taken.groups) if name == finding.rule]
    record = next(one for one in taken.records if one.number == max(places))
    case = taken.cases[record.number]
    promised = taken.machine.predict(case, Processor(SDM))
    found = taken.machine.predict(case, Processor(hardware))
    return Shown(
        finding,
        _promised(promised, bool(case.features & SWITCH)),
        _got(record),
        differences(taken.machine, case, record, promised, SDM),
        differences(taken.machine, case, record, found, hardware),
    )


def _promised(found: LinearPrediction, switched: bool) -> str:
    assert found.prediction is not None
    if found.outcome is Outcome.VE:
        return f"{SAID[found.outcome]}, EPTP index {int(switched)}"
    return outcome_in_words(found.prediction)


def _got(record: FeatureRecord) -> str:
    outcome, usual = seen(record.usual), record.usual
    if outcome is Outcome.VE:
        return f"{SAID[outcome]}, EPTP index {record.ve[4] & 0xFFFF}"
    if outcome in SAID:
        return SAID[outcome]
    return f"exit {usual.reason}, qualification {usual.qualification:#x}"
