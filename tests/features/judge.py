# SPDX-License-Identifier: GPL-2.0-or-later
"""Every record of a run with features against the model of what ran, and against the SDM."""

from __future__ import annotations

import json

from gdb_nept.predict.case import SDM, Deviation, Hardware
from gdb_nept.predict.linear import LinearPrediction
from tests.features.compare import differences
from tests.features.run import FeatureRecord, FeatureRun
from tests.proof.claims import OnProcessor, UnderKvm
from tests.proof.compare import request
from tests.proof.log import CaseLine
from tests.proof.proof import SHOWN, UNEXPLAINED, Tally, why

#: Rules about what an access leaves behind, which no predicted exit shows.
LEFT_BEHIND = (Deviation.PML_OFFSET_LOGGED, Deviation.EPTP_INDEX_KEPT)


def judge(run: FeatureRun, claim: OnProcessor | UnderKvm) -> Tally:
    """What KVM leaves behind is its own work, not its processor's."""
    tally = Tally()
    hardware = claim.hardware if isinstance(claim, OnProcessor) else SDM
    for record in run.records:
        case, group = run.cases[record.number], run.groups[record.number]
        tally.cases[group] += 1
        found = run.machine.predict(case, claim.model)
        wrong = differences(run.machine, case, record, found, hardware)
        if wrong:
            tally.wrong[group] += 1
            if len(tally.requests) < SHOWN:
                asked = request(
                    run.machine, case, record.usual, claim.model, f"{group}/{record.number}"
                )
                tally.requests.append(json.dumps({**asked, "differs": wrong}))
        promised = run.machine.predict(case, claim.reference)
        if differences(run.machine, case, record, promised, SDM):
            rule = UNEXPLAINED if wrong else _rule(run, claim, case, record, promised)
            tally.count(rule, group)
    return tally


def _rule(
    run: FeatureRun,
    claim: OnProcessor | UnderKvm,
    case: CaseLine,
    record: FeatureRecord,
    promised: LinearPrediction,
) -> str:
    for rule in LEFT_BEHIND if isinstance(claim, OnProcessor) else ():
        alone = Hardware("alone", frozenset({rule}))
        if not differences(run.machine, case, record, promised, alone):
            return rule.name
    return why(run.machine, claim, case, promised)
