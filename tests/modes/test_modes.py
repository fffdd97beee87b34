# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof of L2's paging modes, in a size for every run of the tests; in full, scripts/prove."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from bochs_lab.emulator import Emulator

from gdb_nept.predict.case import BOCHS, Deviation, Hardware
from gdb_nept.predict.outcome import Outcome
from tests.guests.generate import spread
from tests.modes import cases, large
from tests.modes.compare import differences
from tests.modes.judge import judge
from tests.modes.landscape import FIVE, FOUR, PAE, PAGED_32, PS, UNPAGED
from tests.modes.maker import Maker
from tests.modes.run import ModesRecord, ModesRun, run
from tests.modes.scenario import READ, WRITE, Scenario
from tests.proof.claims import OnProcessor
from tests.proof.cli import LA57_CPU, SETS, TALLIES, failures, named

COUNT = SETS["ci"]["modes"]


@pytest.fixture(scope="module")
def everything() -> Scenario:
    return cases.build()


def test_enough_and_all_different(everything: Scenario) -> None:
    assert len(everything.chosen) >= 200_000
    assert len({case.key for case in everything.chosen}) == len(everything.chosen)
    by_mode = Counter(case.mode.paging for case in everything.chosen)
    assert set(by_mode) == {UNPAGED, PAGED_32, PAE, FOUR}
    assert by_mode[PAE] >= 50_000
    assert by_mode[PAGED_32] >= 20_000


def test_a_part_has_every_group_and_mode(everything: Scenario) -> None:
    part = Scenario(everything.land, spread(everything.chosen, COUNT))
    assert {case.group for case in part.chosen} == {case.group for case in everything.chosen}
    assert {case.mode.paging for case in part.chosen} == {UNPAGED, PAGED_32, PAE, FOUR}
    assert {case.op for case in part.chosen} == set(range(5))


def test_parts_are_the_whole(everything: Scenario) -> None:
    parts = list(everything.parts(100_000))
    assert [case for part in parts for case in part.chosen] == everything.chosen
    assert max(len(part.chosen) for part in parts) == 100_000


@pytest.mark.parametrize("paging", [PAGED_32, PAE, FOUR, FIVE])
def test_large_leaves_of_both_sizes_are_under_every_table_and_page(paging: str) -> None:
    maker = Maker((paging,))
    large.leaf_rights(maker)
    leaves: dict[int, tuple[int, int]] = {}
    for target in maker.targets(paging, large=True):
        for gpa, level in product(large.pages(target), large.SIZES):
            leaves[maker.land.ept_path(gpa)[4 - level]] = (gpa >> 30, level)
    found = {
        leaves[at]
        for case in maker.scenario.chosen
        for at, value, _ in case.patches
        if at in leaves and value & PS
    }
    assert found == set(leaves.values())


@pytest.mark.bochs
def test_every_exit_with_five_levels_is_as_predicted() -> None:
    """The other modes are among tests/proof/test_proof.py's oracles."""
    emulator = Emulator("3.0", LA57_CPU)
    tally = TALLIES["modes"](COUNT, emulator=emulator)
    wrong = failures(tally, named("modes", emulator), "ci")
    assert not wrong, "\n".join(wrong)


@pytest.mark.bochs
def test_every_exit_under_kvm_is_as_predicted() -> None:
    tally = TALLIES["modes-kvm"](SETS["ci"]["modes-kvm"])
    wrong = failures(tally, "modes-kvm", "ci")
    assert not wrong, "\n".join(wrong)
    assert sum(count for group, count in tally.cases.items() if group.endswith(PAE)) > 1_000


# -- that the proof would notice ----------------------------------------------------------------


@pytest.fixture(scope="module")
def bare() -> ModesRun:
    return run(cases.build(COUNT))


@pytest.mark.bochs
def test_pae_walked_from_memory_is_not_what_the_processor_does(bare: ModesRun) -> None:
    """Its PDPTE registers are: where CR3 points lie entries that lead elsewhere."""
    machine = replace(bare.machine, registers=False, pagings={}, fetches={})
    tally = judge(replace(bare, machine=machine, records=bare.records[::3]), OnProcessor())
    assert {group.rpartition(", ")[2] for group in tally.wrong if tally.wrong[group]} == {PAE}
    pae = sum(count for group, count in tally.cases.items() if group.endswith(PAE))
    assert sum(tally.wrong.values()) > pae // 2


SHOWING = ("rights", "flags", "large-bits")  # groups


@pytest.mark.bochs
@pytest.mark.parametrize(
    "deviation", ["IMPLICIT_LIFTED_BY_AC", "WALK_WRITE_ONLY", "LARGE_BIT_12_IGNORED"]
)
def test_each_deviation_is_seen(bare: ModesRun, deviation: str) -> None:
    model = Hardware("less", BOCHS.deviations - {Deviation[deviation]})
    records = [one for one in bare.records if group_of(bare, one) in SHOWING]
    tally = judge(replace(bare, records=records), OnProcessor(model))
    assert tally.wrong
    assert tally.requests


def group_of(bare: ModesRun, record: ModesRecord) -> str:
    return bare.machine.scenario.chosen[record.number].group


def some(bare: ModesRun, outcome: Outcome, op: int, paging: str) -> ModesRecord:
    for record in bare.records:
        case = bare.machine.scenario.chosen[record.number]
        if (case.op, case.mode.paging) != (op, paging) or told(bare, record):
            continue
        if bare.machine.predict(case, OnProcessor().model).outcome is outcome:
            return record
    raise AssertionError(f"no such case: {outcome}, {op}, {paging}")


def told(bare: ModesRun, record: ModesRecord) -> tuple[str, ...]:
    case = bare.machine.scenario.chosen[record.number]
    steps = bare.machine.steps(case, OnProcessor().model)
    return differences(bare.machine, case, record, steps)


@pytest.mark.bochs
@pytest.mark.parametrize("paging", [PAGED_32, PAE, FOUR])
def test_another_page_or_flag_is_noticed(bare: ModesRun, paging: str) -> None:
    record = some(bare, Outcome.TRANSLATED, WRITE, paging)
    assert told(bare, replace(record, written=record.written ^ 0x1000))
    assert told(bare, replace(record, entries=(record.entries[0] ^ 0x20, *record.entries[1:])))
    record = some(bare, Outcome.TRANSLATED, READ, paging)
    assert told(bare, replace(record, usual=replace(record.usual, value=record.usual.value ^ 1)))


@pytest.mark.bochs
@pytest.mark.parametrize("paging", [PAGED_32, PAE, FOUR])
def test_another_error_code_or_address_is_noticed(bare: ModesRun, paging: str) -> None:
    record = some(bare, Outcome.PAGE_FAULT, WRITE, paging)
    usual = record.usual
    assert told(bare, replace(record, usual=replace(usual, value=usual.value ^ 1 << 34)))
    address = usual.qualification ^ 1
    assert told(bare, replace(record, usual=replace(usual, qualification=address)))


def test_five_levels_are_apart() -> None:
    assert {case.mode.paging for case in cases.build(COUNT, five=True).chosen} == {FIVE}
