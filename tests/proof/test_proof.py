# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof, in a size for every run of the tests; in full it is scripts/prove."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from bochs_lab.emulator import SKYLAKE, Emulator

from gdb_nept.predict.case import BOCHS, Deviation, Hardware
from gdb_nept.predict.model import model
from gdb_nept.predict.outcome import Outcome
from gdb_nept.predict.request import answer
from tests.guests.generate import build
from tests.guests.scenarios import FETCH, READ
from tests.proof.claims import OnProcessor
from tests.proof.cli import ORACLES, SETS, TALLIES, failures, named
from tests.proof.compare import differences, elsewhere, request, seen
from tests.proof.lab import Run, run_bare
from tests.proof.log import Record
from tests.proof.proof import UNEXPLAINED, prove

pytestmark = pytest.mark.bochs


@pytest.mark.parametrize("oracle", ORACLES)
def test_every_exit_is_as_predicted(oracle: str) -> None:
    tally = TALLIES[oracle](SETS["ci"][oracle])
    wrong = failures(tally, oracle, "ci")
    assert not wrong, "\n".join(wrong)


def test_every_exit_of_another_processor_is_as_predicted() -> None:
    """A processor that tells bits 11:9 of the qualification."""
    emulator = Emulator("3.0", "tigerlake")
    tally = TALLIES["bare"](SETS["ci"]["bare"], emulator=emulator)
    wrong = failures(tally, named("bare", emulator), "ci")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("oracle", "cpu"),
    # 6.1 does not get through its boot on the newer processor
    [("kvm", SKYLAKE), ("kvm-7.2", "tigerlake")],
    ids=["6.1", "7.2"],
)
def test_every_exit_on_a_host_that_tells_more_is_as_predicted(oracle: str, cpu: str) -> None:
    """Its bits 11:9 are stale in what 6.1 injects, and passed on by 7.2."""
    emulator = Emulator("3.0", cpu)
    tally = TALLIES[oracle](SETS["ci"]["kvm"], emulator=emulator)
    wrong = failures(tally, named(oracle, emulator), "ci")
    assert not wrong, "\n".join(wrong)


# -- that the proof would notice ----------------------------------------------------------------


@pytest.fixture(scope="module")
def bare() -> Run:
    return run_bare(build(SETS["ci"]["bare"]))


def some(run: Run, outcome: Outcome) -> Record:
    """A record of this outcome whose linear address is defined."""
    found = next(one for one in run.records if seen(one) is outcome)
    assert not differences(found, run.machine.predict(run.cases[found.number], OnProcessor().model))
    return found


@pytest.mark.parametrize("outcome", [Outcome.VIOLATION, Outcome.MISCONFIG])
@pytest.mark.parametrize("field", ["qualification", "gpa", "gla", "reason", "entries"])
def test_a_record_that_says_something_else_is_noticed(
    bare: Run, outcome: Outcome, field: str
) -> None:
    record = some(bare, outcome)
    if field == "entries":
        other = replace(record, entries=tuple(entry ^ 0x10 for entry in record.entries))
    else:
        other = replace(record, **{field: getattr(record, field) ^ 1})
    found = bare.machine.predict(bare.cases[record.number], OnProcessor().model)
    assert differences(other, found)


@pytest.mark.parametrize("op", [READ, FETCH])
def test_another_page_that_was_reached_is_noticed(bare: Run, op: int) -> None:
    model = OnProcessor().model
    for record in bare.records:
        case = bare.cases[record.number]
        found = bare.machine.predict(case, model)
        if case.op == op and bare.machine.value_read(case, found) == record.value:
            break
    assert not elsewhere(bare.machine, case, record, found)
    assert elsewhere(bare.machine, case, replace(record, value=record.value ^ 1), found)


@pytest.mark.parametrize("field", ["value", "qualification", "outcome"])
def test_a_page_fault_that_says_something_else_is_noticed(bare: Run, field: str) -> None:
    record = some(bare, Outcome.PAGE_FAULT)
    bit = 1 << 32 if field == "value" else 1
    other = replace(record, **{field: getattr(record, field) ^ bit ^ (2 if bit == 1 else 0)})
    found = bare.machine.predict(bare.cases[record.number], OnProcessor().model)
    assert differences(other, found)


# RMW_WRITE_ONLY cannot show: without it bit 0 is implementation-specific, and outside the mask.
SEEN_ON_THE_BARE_MACHINE = (
    Deviation.WALK_WRITE_ONLY,
    Deviation.WALK_UPDATE_UNCHECKED,
    Deviation.LARGE_BIT_12_IGNORED,
)


@pytest.mark.parametrize("deviation", SEEN_ON_THE_BARE_MACHINE, ids=lambda each: each.name)
def test_each_deviation_is_seen(bare: Run, deviation: Deviation) -> None:
    """A model without it no longer agrees: no deviation is named that the run does not show."""
    model = Hardware("less", BOCHS.deviations - {deviation})
    groups = ("reserved", "guest-flags", "walk-defects")
    records = [one for one in bare.records if bare.groups[one.number].startswith(groups)]
    run = replace(bare, records=records)
    tally = prove(run, OnProcessor(model))
    assert tally.wrong
    assert tally.requests


def test_a_difference_that_no_rule_explains_is_told(bare: Run) -> None:
    number = some(bare, Outcome.VIOLATION).number
    records = [replace(bare.records[number], qualification=0xFFF)]
    tally = prove(replace(bare, records=records), OnProcessor(), processes=1)
    assert list(tally.deviations) == [UNEXPLAINED]
    assert failures(tally, "bare", "ci")


def test_a_request_reproduces_its_case(bare: Run) -> None:
    for outcome in (Outcome.VIOLATION, Outcome.MISCONFIG, Outcome.TRANSLATED):
        record = some(bare, outcome)
        case = bare.cases[record.number]
        found = bare.machine.predict(case, OnProcessor().model).prediction
        assert found
        asked = json.loads(
            json.dumps(request(bare.machine, case, record, OnProcessor().model, "name"))
        )
        said = answer(asked, model(BOCHS.name))
        assert said["id"] == "name"
        assert said["outcome"] == found.outcome.value
        assert said["hpa"] == (None if found.hpa is None else hex(found.hpa))
        if found.reason is not None:
            assert said["exit_qualification"] == hex(found.qualification)
