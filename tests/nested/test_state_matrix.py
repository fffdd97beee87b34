# SPDX-License-Identifier: GPL-2.0-or-later
"""Every kind of state (kinds_of_state.py) is put to walk, predict, check and ept: each answers as
right_answers.py has it, and no two contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import pytest

from gdb_nept.address import L1Phys
from gdb_nept.judge.check import Finding
from gdb_nept.judge.check import check as run_check
from gdb_nept.judge.oracle import oracle
from gdb_nept.kvm.visible import hidden_from_l2
from gdb_nept.nested.agreement import Agreement, Fault, Verdict
from gdb_nept.nested.derived_rows import DerivedRun
from gdb_nept.nested.epts import Which
from gdb_nept.nested.listing import Row as Listed
from gdb_nept.nested.listing import listing
from gdb_nept.nested.verdict import verdict
from gdb_nept.nested.wording import allowed_by
from gdb_nept.predict.access import Access, Op
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.render.check import check_page
from gdb_nept.render.ept import ept_page
from gdb_nept.render.journey import journey_page
from gdb_nept.render.prediction import prediction_page
from gdb_nept.walk.runs import Hole, Unread
from tests.nested.kinds_of_state import EPT12, State, states, to_other_slot, waits
from tests.nested.right_answers import EXITS, VERDICTS, expected
from tests.nested.states import ADDRESS, HOLE_OF_L1, Machine, Word

pytestmark = pytest.mark.bochs

OPS = (Op.READ, Op.WRITE, Op.FETCH)


@dataclass(frozen=True)
class Answers:
    verdict: Verdict
    predictions: dict[Op, Prediction[L1Phys]]
    rows: tuple[Listed, ...]  # of nept-ept
    refused: tuple[object, ...]  # entry_failure in the JSON of each command


def ask(machine: Machine) -> Answers:
    session, chosen = machine.session, machine.chosen
    journey = machine.journey()
    asked = oracle(session, chosen, "kvm")
    predictions = {op: asked.physical(Access(machine.asked, op)) for op in OPS}
    page = (machine.asked, machine.asked + 0x1000)
    shown = listing(session, chosen, Which.L1, page)
    rows = tuple(listing(session, chosen, Which.L1, page).rows)
    refusal = session.ept(chosen, Which.L1).refusal
    read = Access(machine.asked, Op.READ)
    pages = (
        journey_page(journey),
        prediction_page(read, predictions[Op.READ], asked),
        ept_page(shown),
        *([check_page(run_check(session, chosen), refusal)] if journey.refusal else []),
    )
    refused = tuple(page.data["entry_failure"] for page in pages)
    return Answers(verdict(journey), predictions, rows, refused)


@lru_cache
def machine_of(snapshot: Path) -> Machine:
    return Machine(snapshot)


@lru_cache
def answered(machine: Machine) -> tuple[tuple[State, Answers], ...]:
    """All states, each asked once."""
    found = []
    for state in states():
        state.make(machine)
        found.append((state, ask(machine)))
    return tuple(found)


@pytest.fixture
def machine(plain_snapshot: Path) -> Iterator[Machine]:
    found = machine_of(plain_snapshot)
    found.reset()
    yield found
    found.reset()


def test_each_verdict_is_that_of_the_table(machine: Machine) -> None:
    wrong = []
    used = set()
    for state, answers in answered(machine):
        found, row = answers.verdict, expected(state)
        used.add(VERDICTS.index(row))
        right = (found.agreement, found.fault) == (row.agreement, row.fault)
        if not right or any(word not in found.sentence + found.why for word in row.says):
            wrong.append(f"{state}: {found} and not {row}")
    assert not wrong, "\n".join([f"{len(wrong)} states", *wrong[:20]])
    assert used == set(range(len(VERDICTS))), "rows that no state needs"


def test_each_exit_is_that_of_the_table(machine: Machine) -> None:
    for entries, (read, other, source) in EXITS.items():
        state = State(entries)
        state.make(machine)
        predictions = ask(machine).predictions
        found = [predictions[op].outcome for op in OPS]
        assert found == [read, other, other], f"{state}: {source}"


def test_no_answer_contradicts_another(machine: Machine) -> None:
    wrong = []
    for state, found in answered(machine):
        wrong += [f"{state}: {said}" for said in contradictions(found)]
    assert not wrong, "\n".join([f"{len(wrong)} contradictions", *wrong[:20]])


def contradictions(found: Answers) -> Iterator[str]:
    agreement, sentence = found.verdict.agreement, found.verdict.sentence
    outcomes = {op: each.outcome for op, each in found.predictions.items()}
    if len({bool(each) for each in found.refused}) != 1:
        yield f"an EPTP that some refuse and some take: {found.refused}"
    if (agreement is Agreement.REFUSED) is not bool(found.refused[0]):
        yield f"{found.verdict} and {found.refused}"
    if agreement is Agreement.NOT_MAPPED and set(outcomes.values()) != {Outcome.VIOLATION}:
        yield f"{found.verdict} and {outcomes}"
    if agreement is Agreement.MISCONFIGURED and set(outcomes.values()) != {Outcome.MISCONFIG}:
        yield f"{found.verdict} and {outcomes}"
    if agreement is Agreement.UNREADABLE and set(outcomes.values()) != {Outcome.UNKNOWN}:
        yield f"{found.verdict} and {outcomes}"
    if agreement in THROUGH:
        for op, outcome in outcomes.items():
            withheld = any(
                f"a {names} is an EPT violation" in sentence
                for names in WITHHELD
                if op.value in names
            )
            if withheld is (outcome is Outcome.TRANSLATED):
                yield f"{found.verdict} and {op.value}: {outcome}"
    yield from _listed(found, outcomes)


THROUGH = (
    Agreement.AGREE,
    Agreement.WRITE_TRACKED,
    Agreement.NO_SLOT,
    Agreement.HIDDEN_SLOT,
    Agreement.BEING_CHANGED,
    Agreement.NOT_BACKED,
)
WITHHELD = ("read", "write", "fetch", "read or write", "read or fetch", "write or fetch",
            "read or write or fetch")  # fmt: skip


def _listed(found: Answers, outcomes: dict[Op, Outcome]) -> Iterator[str]:
    """nept-ept's row for the page, against the exits."""
    kinds = set(outcomes.values())
    (row,) = found.rows
    if isinstance(row, (Unread, DerivedRun)):
        missing = "memslot" in row.why
        if kinds != {Outcome.VIOLATION if missing else Outcome.UNKNOWN}:
            yield f"unread ({row.why}), and {outcomes}"
    elif isinstance(row, Hole):
        if kinds != {Outcome.VIOLATION}:
            yield f"a hole, and {outcomes}"
    elif row.stop is not None:
        if kinds != {Outcome.MISCONFIG}:
            yield f"{row.stop.why}, and {outcomes}"
    else:
        allowed = {op.value for op, each in outcomes.items() if each is Outcome.TRANSLATED}
        if allowed != allowed_by(row.rights):
            yield f"rights {allowed_by(row.rights)} and {outcomes}"


def test_a_check_agrees_with_what_is_predicted(machine: Machine) -> None:
    """With the predicted exit written into vmcs12, nept-check agrees; where none is due, it says
    that there is none, and where that is not known, just that."""
    for entries, op in product(EPT12, OPS):
        State(entries).make(machine)
        due = ask(machine).predictions[op]
        reason = due.reason if due.reason is not None else 48
        for name, number in (
            ("vm_exit_reason", reason),
            ("exit_qualification", due.qualification),
            ("guest_physical_address", machine.asked),
            ("guest_linear_address", machine.asked),  # L2 maps its memory one to one
        ):
            machine.vmcs12(name, number)
        found = run_check(machine.session, machine.chosen)
        others = {each.outcome for each in ask(machine).predictions.values()}
        if due.reason is not None:
            assert found.finding is Finding.AGREE, f"{entries}, {op.value}: {found}"
        elif others <= {Outcome.TRANSLATED, Outcome.UNKNOWN}:
            known = Finding.UNKNOWN if Outcome.UNKNOWN in others else Finding.NO_EXIT
            assert found.finding is known, f"{entries}, {op.value}: {found}"


def test_the_words_say_which_table_and_which_memslot(machine: Machine) -> None:
    machine.reset()
    slot = machine.other_slot()
    to_other_slot(machine, "id", machine.apic_access_id)
    machine.put(machine.ept02[1], machine.mmio(slot.start, machine.generation()))
    found = machine.journey()
    assert found.slot is not None
    assert hidden_from_l2(machine.chosen.owner.value, found.slot) in verdict(found).sentence
    assert "the APIC-access page" in verdict(found).sentence


def test_a_root_that_waits_is_walked(machine: Machine) -> None:
    waits(machine)
    found = machine.journey()
    assert found.shadow is not None
    assert found.shadow.walk.root == machine.pages[4].table
    assert any("prev_roots" in note for note in found.notes)


def test_the_root_of_ept12_in_no_memslot(machine: Machine) -> None:
    """mmu_check_root() up to 6.5, mmu_alloc_shadow_roots() and its dummy root since."""
    machine.vmcs12("ept_pointer", machine.eptp & ~ADDRESS | HOLE_OF_L1)
    found = ask(machine)
    outcomes = {each.outcome for each in found.predictions.values()}
    (outcome,) = outcomes
    wanted = {
        Outcome.TRIPLE_FAULT: (Agreement.NO_ROOT, "triple fault"),
        Outcome.SHUTDOWN: (Agreement.NO_ROOT, "KVM_EXIT_SHUTDOWN"),
        Outcome.VIOLATION: (Agreement.NOT_MAPPED, "dummy root"),
    }[outcome]
    assert found.verdict.agreement is wanted[0]
    assert wanted[1] in found.verdict.sentence
    assert found.verdict.fault is Fault.L1
    assert all(isinstance(row, Unread) and "no memslot" in row.why for row in found.rows)


def test_words_that_are_not_of_the_snapshot(machine: Machine) -> None:
    """The overlay itself: what is put is read, and a reset takes it back."""
    word = machine.ept12[1]
    machine.put(Word(word.place, word.value), 0)
    assert machine.journey().ept12.stop is not None
    machine.reset()
    assert verdict(machine.journey()).agreement is Agreement.AGREE
