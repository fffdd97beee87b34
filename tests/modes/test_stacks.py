# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof of L2's shadow stacks, in a size for every run of the tests; in full, scripts/prove."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bochs_lab.emulator import Emulator

from gdb_nept.predict.case import BOCHS_3
from gdb_nept.predict.outcome import Outcome
from gdb_nept.walk.guest_paging import PageFault
from tests.modes import cases
from tests.modes.compare import differences
from tests.modes.landscape import FIVE, FOUR, PAE, PAGED_32
from tests.modes.run import ModesRecord, ModesRun, run
from tests.modes.scenario import CR0_WP, CR4_CET, STACK_OPS, STACK_READ, STACK_WRITE_USER
from tests.proof.claims import OnProcessor
from tests.proof.cli import LA57_CPU, SETS, TALLIES, failures, named
from tests.proof.compare import seen

COUNT = SETS["ci"]["stacks"]
TIGERLAKE = Emulator("3.0", "tigerlake")
CLAIM = OnProcessor(BOCHS_3)


def test_all_different_with_shadow_stacks_on_in_every_mode() -> None:
    for five, pagings in ((False, {PAGED_32, PAE, FOUR}), (True, {FIVE})):
        chosen = cases.with_stacks(five=five).chosen
        assert len({case.key for case in chosen}) == len(chosen) > 50_000
        assert {case.mode.paging for case in chosen} == pagings
        assert all(case.mode.cr4 & CR4_CET and case.mode.cr0 & CR0_WP for case in chosen)
        assert {case.op for case in chosen if case.mode.cpl == 0} >= set(STACK_OPS)
        assert all(case.mode.cpl == 0 for case in chosen if case.op == STACK_WRITE_USER)


@pytest.mark.bochs
@pytest.mark.parametrize(
    "emulator", [TIGERLAKE, Emulator("3.0", LA57_CPU)], ids=lambda emulator: emulator.cpu
)
def test_every_exit_is_as_predicted(emulator: Emulator) -> None:
    tally = TALLIES["stacks"](COUNT, emulator=emulator)
    wrong = failures(tally, named("stacks", emulator), "ci")
    assert not wrong, "\n".join(wrong)


# -- that the proof would notice ----------------------------------------------------------------


@pytest.fixture(scope="module")
def bare() -> ModesRun:
    return run(cases.with_stacks(COUNT), emulator=TIGERLAKE)


def told(bare: ModesRun, record: ModesRecord) -> tuple[str, ...]:
    case = bare.machine.scenario.chosen[record.number]
    return differences(bare.machine, case, record, bare.machine.steps(case, CLAIM.model))


@pytest.mark.bochs
@pytest.mark.parametrize("op", STACK_OPS)
def test_accesses_to_shadow_stacks_go_through_fault_and_exit(bare: ModesRun, op: int) -> None:
    chosen = bare.machine.scenario.chosen
    records = [one for one in bare.records if chosen[one.number].op == op]
    outcomes = {seen(one.usual) for one in records}
    assert outcomes >= {Outcome.TRANSLATED, Outcome.PAGE_FAULT, Outcome.VIOLATION}
    reached = [one.written for one in records if seen(one.usual) is Outcome.TRANSLATED]
    assert all(bool(page) == (op != STACK_READ) for page in reached)


@pytest.mark.bochs
def test_a_fault_that_does_not_tell_of_the_shadow_stack_is_noticed(bare: ModesRun) -> None:
    chosen, tells = bare.machine.scenario.chosen, 0
    for record in bare.records:
        if seen(record.usual) is not Outcome.PAGE_FAULT:
            continue
        code, value = PageFault(record.usual.value >> 32), record.usual.value
        assert bool(code.shadow_stack) == (chosen[record.number].op in STACK_OPS)
        other = value ^ PageFault.shadow_stack.mask << 32
        assert told(bare, replace(record, usual=replace(record.usual, value=other)))
        tells += bool(code.shadow_stack)
    assert tells > 100
