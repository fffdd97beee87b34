# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run shows of each finding, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bochs_lab.emulator import Emulator

from gdb_nept.judge.features import kvm_model
from gdb_nept.predict.case import BOCHSES, SDM, Hardware
from gdb_nept.predict.model import Model, Processor, Reflecting
from gdb_nept.predict.outcome import Outcome
from gdb_nept.render.prediction import SAID
from tests.features.cases import PML
from tests.features.compare import differences
from tests.features.run import FeatureRecord, FeatureRun, run, run_kvm
from tests.findings import bochs, kvm
from tests.findings.finding import Finding, scenario
from tests.proof.compare import seen


@dataclass(frozen=True)
class Shown:
    """`differs` is what was seen otherwise than the SDM has it; `unlike_model` than ours of it."""

    finding: Finding
    got: str
    differs: tuple[str, ...]
    unlike_model: tuple[str, ...]


def of_bochs(version: str) -> list[Finding]:
    return [one for one in bochs.FINDINGS if version in one.versions]


def of_kvm(line: str) -> list[Finding]:
    return [one for one in kvm.FINDINGS if line in one.versions]


def shown(emulator: Emulator, findings: Sequence[Finding]) -> list[Shown]:
    """By L1 on the bare processor; one boot."""
    hardware = BOCHSES[emulator.version]
    taken = run(scenario(findings), emulator=emulator)
    return [_shown(taken, one, Processor(hardware), hardware) for one in findings]


def shown_by_kvm(line: str, emulator: Emulator) -> list[Shown]:
    """Of those that the KVM of the lab's kernel `line` is to have; one boot."""
    findings = of_kvm(line)
    found = run_kvm(scenario(findings), line, emulator=emulator)
    known = kvm_model(found.session, found.chosen, BOCHSES[emulator.version]).model
    model = Reflecting(known.kvm)
    return [_with_warnings(_shown(found.run, one, model, SDM), found.warnings) for one in findings]


def _shown(taken: FeatureRun, finding: Finding, model: Model, hardware: Hardware) -> Shown:
    """`hardware` is whose habits count in what the access leaves behind."""
    places = [n for n, name in enumerate(taken.groups) if name == finding.rule]
    record = next(one for one in taken.records if one.number == max(places))
    case, machine = taken.cases[record.number], taken.machine
    promised = replace(machine, usual=replace(machine.usual, kvm=False))
    return Shown(
        finding,
        _got(record, bool(case.features & PML)),
        differences(promised, case, record, promised.predict(case, Processor(SDM)), SDM),
        differences(machine, case, record, machine.predict(case, model), hardware),
    )


def _with_warnings(one: Shown, warnings: tuple[str, ...]) -> Shown:
    """Those of the function that the finding names, if it names one."""
    warns = one.finding.warns
    own = tuple(line for line in warnings if f" {warns}+" in line) if warns else ()
    if not own:
        return one
    return replace(one, got=f"{one.got}, and in L0's log: {own[0]}", differs=(*one.differs, *own))


def _got(record: FeatureRecord, flags: bool) -> str:
    outcome, usual = seen(record.usual), record.usual
    if outcome is Outcome.VE:
        return f"{SAID[outcome]}, EPTP index {record.ve[4] & 0xFFFF}"
    if outcome in SAID:
        got = SAID[outcome]
    else:
        got = (
            f"exit {usual.reason}, qualification {usual.qualification:#x}, "
            f"GPA {usual.gpa:#x}, GLA {usual.gla:#x}"
        )
    path = " ".join(f"{entry:#x}" for entry in record.path)
    return f"{got}; EPT12 then: {path}" if flags else got
