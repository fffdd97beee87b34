# SPDX-License-Identifier: GPL-2.0-or-later
"""Every record of a run against the model of what ran, and against the SDM.

The first must agree in every case.  Where the second does not, the difference is counted under the
named rule that makes it: the one without which the model would say what the SDM says, or the fewest
that do so together.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from os import cpu_count
from typing import TypeVar

from gdb_nept.predict.linear import LinearPrediction
from gdb_nept.predict.outcome import Outcome
from tests.proof.claims import Claim
from tests.proof.compare import Predicting, differences, elsewhere, keeps, request
from tests.proof.lab import Run
from tests.proof.log import CaseLine, Record

AnyCase = TypeVar("AnyCase")

SHOWN = 20  # unexplained differences that are kept as requests, of each process
MOST_RULES = 3  # that are looked for together
UNEXPLAINED = "no named rule"
NO_MEMORY = "TABLE_OUTSIDE_MEMORY"  # where the SDM's processor reads what the bus answers


@dataclass
class Tally:
    cases: Counter[str] = field(default_factory=Counter)  # by group
    wrong: Counter[str] = field(default_factory=Counter)  # by group: the model is not what ran
    requests: list[str] = field(default_factory=list)
    deviations: dict[str, Counter[str]] = field(default_factory=dict)  # by rule, by group
    skipped: int = 0  # cases that ask for what this processor does not offer

    def add(self, other: Tally) -> None:
        self.cases.update(other.cases)
        self.wrong.update(other.wrong)
        self.requests += other.requests
        self.skipped += other.skipped
        for rule, groups in other.deviations.items():
            self.deviations.setdefault(rule, Counter()).update(groups)

    def count(self, rule: str, group: str) -> None:
        self.deviations.setdefault(rule, Counter())[group] += 1

    @property
    def table(self) -> dict[str, object]:
        """As it is checked in."""
        rules: dict[str, dict[str, int]] = {
            rule: dict(sorted(self.deviations[rule].items())) for rule in sorted(self.deviations)
        }
        return {
            "cases": sum(self.cases.values()),
            "deviating": sum(sum(groups.values()) for groups in rules.values()),
            "rules": rules,
        }


def prove(run: Run, claim: Claim, processes: int | None = None) -> Tally:
    """All records of `run`."""
    return shared_out(len(run.records), partial(_judge_all, run, claim), processes)


def shared_out(
    records: int, judge: Callable[[Iterable[int]], Tally], processes: int | None = None
) -> Tally:
    """What `judge` finds of the records of these numbers, on all processors."""
    count = processes or cpu_count() or 1
    shares = [range(first, records, count) for first in range(count)]
    total = Tally()
    with ProcessPoolExecutor(count, get_context("fork")) as pool:
        for tally in pool.map(judge, shares):
            total.add(tally)
    return total


def _judge_all(run: Run, claim: Claim, numbers: Iterable[int]) -> Tally:
    tally = Tally()
    for number in numbers:
        record = run.records[number]
        _judge(run, claim, record, run.cases[record.number], tally)
    return tally


def _judge(run: Run, claim: Claim, record: Record, case: CaseLine, tally: Tally) -> None:
    group = run.groups[record.number]
    tally.cases[group] += 1
    found = run.machine.predict(case, claim.model)
    wrong = differences(record, found) or elsewhere(run.machine, case, record, found)
    if wrong:
        tally.wrong[group] += 1
        if len(tally.requests) < SHOWN:
            name = f"{group}/{record.number}"
            tally.requests.append(json.dumps(request(run.machine, case, record, claim.model, name)))
    promised = run.machine.predict(case, claim.reference)
    if differences(record, promised):
        tally.count(UNEXPLAINED if wrong else why(run.machine, claim, case, promised), group)


def why(
    machine: Predicting[AnyCase],
    claim: Claim,
    case: AnyCase,
    promised: LinearPrediction,
    most: int = MOST_RULES,
) -> str:
    """The fewest rules, `most` at most, without which the model keeps what the SDM promises."""
    if promised.outcome is Outcome.UNKNOWN:
        return NO_MEMORY
    for count in range(1, most + 1):
        for names in combinations(claim.rules, count):
            found = machine.predict(case, claim.without(frozenset(names)))
            if keeps(promised, found):
                return " + ".join(names)
    return UNEXPLAINED


def changes(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """How a table differs from the one that is checked in, a line for each count."""
    lines = []
    for key in sorted(set(_flat(before)) | set(_flat(now))):
        old, new = _flat(before).get(key, 0), _flat(now).get(key, 0)
        if old != new:
            lines.append(f"{key}: {old} in the table, {new} now")
    return lines


def _flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{key} / "))
        else:
            found[prefix + key] = value
    return found
