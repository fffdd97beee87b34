# SPDX-License-Identifier: GPL-2.0-or-later
"""Every record of a run with features against the model of what ran, and against the SDM."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from gdb_nept.predict.case import SDM, Deviation, Hardware
from gdb_nept.predict.kvm import Habit
from gdb_nept.predict.linear import LinearPrediction
from gdb_nept.predict.outcome import Outcome
from gdb_nept.predict.qualification import NMI_UNBLOCKING
from tests.features.compare import differences
from tests.features.run import FeatureRecord, FeatureRun
from tests.proof.claims import OnProcessor, UnderKvm
from tests.proof.compare import keeps, request
from tests.proof.log import CaseLine
from tests.proof.proof import SHOWN, UNEXPLAINED, Tally, shared_out, why

#: Rules about what an access leaves behind, which no predicted exit shows.
LEFT_BEHIND = (Deviation.PML_OFFSET_LOGGED, Deviation.EPTP_INDEX_KEPT)
#: mmu/paging_tmpl.h update_accessed_dirty_bits(): machine.py Used.up_to_leaf().
FLAGS_AT_FULL_LOG = "FLAGS_AT_FULL_LOG"
#: vmx/nested.c nested_ept_inject_page_fault(): bit 12 of a violation is never told to L1;
#: handle_ept_violation() blocks NMIs again instead.
NMI_UNBLOCKING_LOST = "NMI_UNBLOCKING_LOST"


def judge(run: FeatureRun, claim: OnProcessor | UnderKvm) -> Tally:
    """All records of `run`."""
    return shared_out(len(run.records), partial(_judge_all, run, claim))


def _judge_all(run: FeatureRun, claim: OnProcessor | UnderKvm, numbers: Iterable[int]) -> Tally:
    """What KVM leaves behind is its own work, not its processor's."""
    tally = Tally()
    hardware = claim.hardware if isinstance(claim, OnProcessor) else SDM
    by_manual = replace(run.machine, usual=replace(run.machine.usual, kvm=False))
    for number in numbers:
        record = run.records[number]
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
        promised = by_manual.predict(case, claim.reference)
        if differences(by_manual, case, record, promised, SDM):
            rule = UNEXPLAINED if wrong else _rule(run, claim, case, record, found, promised)
            tally.count(rule, group)
    return tally


def _rule(
    run: FeatureRun,
    claim: OnProcessor | UnderKvm,
    case: CaseLine,
    record: FeatureRecord,
    found: LinearPrediction,
    promised: LinearPrediction,
) -> str:
    """The name of what explains it; habits, which no model can be without, before several rules."""
    for rule in LEFT_BEHIND if isinstance(claim, OnProcessor) else ():
        alone = Hardware("alone", frozenset({rule}))
        if not differences(run.machine, case, record, promised, alone):
            return rule.name
    if isinstance(claim, UnderKvm) and keeps(promised, found):
        return FLAGS_AT_FULL_LOG if found.outcome is Outcome.PML_FULL else UNEXPLAINED
    name = why(run.machine, claim, case, promised, most=1)
    if name == UNEXPLAINED and isinstance(claim, UnderKvm):
        name = _habit(run, claim, case, found, promised)
    return name if name != UNEXPLAINED else why(run.machine, claim, case, promised)


def _habit(
    run: FeatureRun,
    claim: UnderKvm,
    case: CaseLine,
    found: LinearPrediction,
    promised: LinearPrediction,
) -> str:
    """What the agreeing model does as every KVM does."""
    if promised.outcome is Outcome.PML_FULL and found.outcome is not Outcome.PML_FULL:
        return Habit.DIRTY_ALONE_IS_LOGGED.name  # of this access or of one before it
    other, rules = promised.prediction, found.prediction.rules if found.prediction else ()
    for gone in ((), rules):
        less = run.machine.predict(case, claim.without(frozenset(gone)))
        one = less.prediction
        if one is None or other is None or less.outcome is not promised.outcome:
            continue
        if (one.qualification ^ other.qualification) & one.mask & other.mask == NMI_UNBLOCKING:
            return " + ".join((*gone, NMI_UNBLOCKING_LOST))
    return UNEXPLAINED
