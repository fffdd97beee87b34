# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof of features, in a size for every run of the tests; in full it is scripts/prove."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bochs_lab.emulator import SKYLAKE, Emulator

from gdb_nept.predict.case import BOCHS, Deviation, Hardware
from gdb_nept.predict.outcome import Outcome
from tests.features import cases
from tests.features.compare import differences
from tests.features.judge import judge
from tests.features.machine import still_blocked
from tests.features.run import FeatureRecord, FeatureRun, run
from tests.guests.scenarios import AD, READ, WRITE
from tests.proof.claims import OnProcessor
from tests.proof.cli import LA57_CPU, SETS, TALLIES, failures, named
from tests.proof.log import CaseLine

COUNT = SETS["ci"]["features"]


def test_the_cases_are_all_different_and_a_part_has_every_group() -> None:
    everything, part = cases.build(), cases.build(COUNT)
    assert len({case.key for case in everything.chosen}) == len(everything.chosen)
    assert {case.group for case in part.chosen} == {case.group for case in everything.chosen}
    assert all(case.features for case in everything.chosen)


@pytest.mark.bochs
@pytest.mark.parametrize(
    "emulator",
    [Emulator(), Emulator("3.0", "tigerlake"), Emulator("3.0", LA57_CPU)],
    ids=lambda emulator: f"{emulator.version}-{emulator.cpu}",
)
def test_every_exit_is_as_predicted(emulator: Emulator) -> None:
    tally = TALLIES["features"](COUNT, emulator=emulator)
    wrong = failures(tally, named("features", emulator), "ci")
    assert not wrong, "\n".join(wrong)


@pytest.mark.bochs
@pytest.mark.parametrize(
    "emulator", [Emulator(), Emulator("3.0", "tigerlake")], ids=lambda emulator: emulator.version
)
def test_every_exit_of_an_iret_is_as_predicted(emulator: Emulator) -> None:
    tally = TALLIES["iret"](None, emulator=emulator)
    wrong = failures(tally, named("iret", emulator), "ci")
    assert not wrong, "\n".join(wrong)


@pytest.mark.bochs
@pytest.mark.parametrize(
    ("line", "cpu"),
    # 6.1 does not get through its boot on the newer processor
    [("6.1", SKYLAKE), ("7.2", "tigerlake")],
    ids=["6.1", "7.2"],
)
def test_every_exit_that_a_kvm_passes_on_is_as_predicted(line: str, cpu: str) -> None:
    """With the features that it offers to L1."""
    oracle, emulator = f"features-{line}", Emulator("3.0", cpu)
    tally = TALLIES[oracle](COUNT, emulator=emulator)
    wrong = failures(tally, named(oracle, emulator), "ci")
    assert not wrong, "\n".join(wrong)


def test_blocked_nmis_stay_until_an_iret_of_their_kind() -> None:
    """Physical ones through a guest with NMI exiting, whose IRETs unblock none; virtual ones
    through every guest without them."""
    iret, blocked, full = cases.IRET, cases.NMI_BLOCKED, cases.PML | cases.PML_FULL
    virtual, exiting = cases.VIRTUAL_NMIS | cases.NMI_EXITING, cases.NMI_EXITING
    ran = [
        (iret, False),
        (blocked, False),  # no IRET
        (iret | exiting, True),  # unblocks nothing
        (iret | virtual, False),
        (iret, True),
        (iret, False),
        (iret | blocked | virtual | full, False),  # its code cannot be fetched
        (iret, False),
        (iret | virtual, True),
        (iret | virtual, False),
    ]
    lines = [CaseLine(n, READ, AD, (), features) for n, (features, _) in enumerate(ran)]
    found = still_blocked(lines)
    assert [line in found for line in lines] == [kept for _, kept in ran]


# -- that the proof would notice ----------------------------------------------------------------


@pytest.fixture(scope="module")
def bare() -> FeatureRun:
    return run(cases.build(COUNT))


def some(bare: FeatureRun, outcome: Outcome, features: int, op: int) -> FeatureRecord:
    for record in bare.records:
        case = bare.cases[record.number]
        if (case.features, case.op) != (features, op):
            continue
        if bare.machine.predict(case, OnProcessor().model).outcome is outcome:
            assert not told(bare, record)
            return record
    raise AssertionError(f"no such case: {outcome}, {features:#x}")


def told(bare: FeatureRun, record: FeatureRecord) -> tuple[str, ...]:
    case = bare.cases[record.number]
    found = bare.machine.predict(case, OnProcessor().model)
    return differences(bare.machine, case, record, found, BOCHS)


def changed(values: tuple[int, ...], place: int, bits: int) -> tuple[int, ...]:
    return (*values[:place], values[place] ^ bits, *values[place + 1 :])


@pytest.mark.bochs
@pytest.mark.parametrize("place", range(5))
def test_another_ve_area_is_noticed(bare: FeatureRun, place: int) -> None:
    record = some(bare, Outcome.VE, cases.VE, READ)
    assert told(bare, replace(record, ve=changed(record.ve, place, 1)))


@pytest.mark.bochs
@pytest.mark.parametrize("bits", [cases.A, cases.D])
def test_another_flag_of_an_ept_entry_is_noticed(bare: FeatureRun, bits: int) -> None:
    record = some(bare, Outcome.TRANSLATED, cases.PML, WRITE)
    assert told(bare, replace(record, path=changed(record.path, -1 % len(record.path), bits)))


@pytest.mark.bochs
def test_another_log_is_noticed(bare: FeatureRun) -> None:
    record = next(one for one in bare.records if any(one.pml) and not told(bare, one))
    assert told(bare, replace(record, pml=changed(record.pml, 0, 1 << 12)))
    assert told(bare, replace(record, pml_index=record.pml_index + 1))


@pytest.mark.bochs
def test_another_page_that_was_written_or_read_is_noticed(bare: FeatureRun) -> None:
    record = some(bare, Outcome.TRANSLATED, cases.PML, WRITE)
    assert told(bare, replace(record, written=record.written ^ 0x1000))
    record = some(bare, Outcome.TRANSLATED, cases.PML, READ)
    usual = replace(record.usual, value=record.usual.value ^ 1)
    assert told(bare, replace(record, usual=usual))


SEEN = (Deviation.PML_CHECKED_ALWAYS, Deviation.PML_OFFSET_LOGGED, Deviation.WALK_WRITE_ONLY)


@pytest.mark.bochs
@pytest.mark.parametrize("deviation", SEEN, ids=lambda each: each.name)
def test_each_deviation_is_seen(bare: FeatureRun, deviation: Deviation) -> None:
    tally = judge(bare, OnProcessor(Hardware("less", BOCHS.deviations - {deviation})))
    assert tally.wrong
    assert tally.requests
