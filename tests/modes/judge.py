# SPDX-License-Identifier: GPL-2.0-or-later
"""Every record of the paging modes against the model of what ran, and against the SDM."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial

from tests.modes.compare import differences
from tests.modes.run import ModesRecord, ModesRun
from tests.modes.scenario import Case
from tests.proof.claims import Claim
from tests.proof.compare import seen
from tests.proof.proof import SHOWN, UNEXPLAINED, Tally, shared_out, why


def judge(run: ModesRun, claim: Claim, processes: int | None = None) -> Tally:
    """All records."""
    total = shared_out(len(run.records), partial(_judge_all, run, claim), processes)
    total.skipped += run.skipped
    return total


def _judge_all(run: ModesRun, claim: Claim, numbers: Iterable[int]) -> Tally:
    tally = Tally()
    for number in numbers:
        _judge(run, claim, run.records[number], tally)
    return tally


def _judge(run: ModesRun, claim: Claim, record: ModesRecord, tally: Tally) -> None:
    case = run.machine.scenario.chosen[record.number]
    group = f"{case.group}, {case.mode.paging}"
    tally.cases[group] += 1
    wrong = differences(run.machine, case, record, run.machine.steps(case, claim.model))
    if wrong:
        tally.wrong[group] += 1
        if len(tally.requests) < SHOWN:
            tally.requests.append(json.dumps(_told(run, claim, case, record, wrong)))
    promised = run.machine.steps(case, claim.reference)
    if differences(run.machine, case, record, promised):
        rule = UNEXPLAINED if wrong else why(run.machine, claim, case, promised[-1].found)
        tally.count(rule, group)


def _told(
    run: ModesRun, claim: Claim, case: Case, record: ModesRecord, wrong: tuple[str, ...]
) -> dict[str, object]:
    """The case, what the model says of it and what was seen."""
    mode, usual = case.mode, record.usual
    found = run.machine.predict(case, claim.model)
    prediction = found.prediction
    return {
        "group": case.group,
        "target": case.target,
        "op": case.op,
        "linear": hex(run.machine.scenario.linear_of(case)),
        "guest": {
            "cr0": hex(mode.cr0),
            "cr4": hex(mode.cr4),
            "efer": hex(mode.efer),
            "rflags": hex(mode.rflags),
            "pkru": hex(mode.pkru),
            "pkrs": hex(mode.pkrs),
            "cpl": mode.cpl,
        },
        "changed": {hex(at): hex(value) for at, value, _ in case.patches},
        "ad": case.ad,
        "predicted": {
            "outcome": found.outcome.value,
            "linear": hex(found.linear),
            "error_code": hex(found.fault.code.value) if found.fault else None,
            "qualification": hex(prediction.qualification) if prediction else None,
            "gpa": hex(prediction.gpa) if prediction and prediction.gpa is not None else None,
        },
        "seen": {
            "outcome": seen(usual).value,
            "reason": usual.reason,
            "qualification": hex(usual.qualification),
            "gpa": hex(usual.gpa),
            "gla": hex(usual.gla),
            "value": hex(usual.value),
            "written": hex(record.written),
            "entries": [hex(one) for one in record.entries],
        },
        "differs": wrong,
    }
