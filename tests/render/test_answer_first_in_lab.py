# SPDX-License-Identifier: GPL-2.0-or-later
"""The answer comes first, and a prediction is short, whatever was asked of whatever tables."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

import pytest

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.judge.oracle import Oracle, oracle
from gdb_nept.nested.agreement import Agreement
from gdb_nept.nested.guest_registers import GuestRegisters, guest_registers
from gdb_nept.nested.verdict import verdict
from gdb_nept.nested.virtual import virtual_walk
from gdb_nept.predict.access import Access, Op, Stage
from gdb_nept.predict.linear import LinearAccess
from gdb_nept.predict.model import NAMES, PROCESSORS
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.render.journey import journey_page
from gdb_nept.render.page import WIDTH, Page
from gdb_nept.render.prediction import (
    LINES,
    brief,
    linear_page,
    outcome_in_words,
    prediction_page,
)
from gdb_nept.render.text import draw
from gdb_nept.render.virtual import virtual_page
from tests.overlay import opened

pytestmark = pytest.mark.bochs

MODELS = ("kvm", "kvm@bochs-2.7", *NAMES)
FAR = (0x2000000, 0x7FFFFFFF000, (1 << 52) - 1, 0xFEE00300, 1 << 45)


@lru_cache
def asked_of(snapshot: Path) -> tuple[L2Phys, ...]:
    """One address of each case that the guests went through, and some where nothing is."""
    said = json.loads((snapshot / "facts.json").read_text())
    gpas = {int(line["gpa"], 16) for line in said if "exit" in line and "gpa" in line}
    return tuple(map(L2Phys, (*sorted(gpas), *FAR)))


@lru_cache
def at_hand(snapshot: Path, model: str) -> tuple[Oracle, GuestRegisters]:
    session, chosen = opened(snapshot)
    return oracle(session, chosen, model), guest_registers(session, chosen)


def is_short(page: Page) -> str:
    """The page, its first lines put together."""
    lines = draw(page).splitlines()
    assert len(lines) <= LINES, draw(page)
    assert max(map(len, lines)) <= WIDTH
    assert all(lines[:1])
    return " ".join(" ".join(lines[:3]).split())


@pytest.mark.parametrize("op", Op)
@pytest.mark.parametrize("model", MODELS)
def test_a_prediction_is_short_and_begins_with_the_outcome(
    plain_snapshot: Path, model: str, op: Op
) -> None:
    by, _ = at_hand(plain_snapshot, model)
    outcomes = set()
    for gpa in asked_of(plain_snapshot)[::5]:
        for stage in Stage:
            for user in (False, True):
                for emulated in {False, model not in PROCESSORS}:
                    access = Access(gpa, op, user, stage, emulated=emulated)
                    found = by.physical(access)
                    outcomes.add(found.outcome)
                    first = is_short(prediction_page(access, found, by))
                    assert f"{gpa:#x}" in first
                    assert outcome_in_words(found) in first
                    decides_is_shown(prediction_page(access, found, by), found)
    assert len(outcomes) > 1


def decides_is_shown(page: Page, found: Prediction[L1Phys]) -> None:
    """Of the entries at least the one that decides, if there is one."""
    marked = [step for step in found.walk.steps if f" at {step.address:#x}" in found.why]
    shown = draw(page)
    assert shown.count("  <-") == len(marked)
    assert all(f"{step.entry.value:#018x}" in shown for step in marked)


@pytest.mark.parametrize("op", Op)
@pytest.mark.parametrize("model", MODELS)
def test_so_is_one_of_a_linear_address(plain_snapshot: Path, model: str, op: Op) -> None:
    by, registers = at_hand(plain_snapshot, model)
    outcomes = set()
    beyond = (L2Virt(0x5000_0200_4108), L2Virt(0xFFFF_8000_0000_0000), L2Virt(1 << 60))
    for linear in (*map(L2Virt, asked_of(plain_snapshot)[::9]), *beyond):
        for user in (False, True):
            access = LinearAccess(linear, 8, op, user, model not in PROCESSORS and user)
            page = linear_page(access, registers, by)
            outcomes.add(page.data["outcome"])
            assert f"at linear {linear:#x}" in is_short(page)
    assert len(outcomes) > 2


def test_notes_that_have_no_room_are_counted_and_entries_go_first() -> None:
    head, fields = ["answer", "because: it is so"], ["fields", "model kvm"]
    entries = [(f"  entry {number}", number == 1) for number in range(5)]
    assert len(brief(head, fields, [], entries)[2].splitlines()) == 6
    shown = "\n\n".join(brief(head, fields, ["note: a", "note: b"], entries))
    assert shown.endswith("note: a\nnote: b")
    assert "  entry 1" in shown, "the one that decides"
    assert "(--all: 5 of them)" in shown
    many = "\n\n".join(brief(head, fields, [f"note: {n}" for n in range(9)], entries))
    assert many.endswith("note: 9 notes with --all")
    for page in (shown, many):
        assert len(page.replace(":\n\n", ":\n").splitlines()) <= LINES


def test_doubts_make_it_no_longer(plain_snapshot: Path) -> None:
    by, _ = at_hand(plain_snapshot, "kvm")
    access = Access(L2Phys(0x2000000), Op.WRITE)
    found = by.physical(access)
    assert found.outcome is Outcome.TRANSLATED
    doubtful = Oracle(by.base, by.model, tuple(f"a doubt of {n} words " * 9 for n in range(4)))
    assert is_short(prediction_page(access, found, doubtful))


def test_a_walk_begins_with_its_answer(plain_snapshot: Path) -> None:
    """From where to where, and how far the ways agree."""
    session, chosen = opened(plain_snapshot)
    said = set()
    for gpa in asked_of(plain_snapshot):
        if gpa >> 52:
            continue
        journey = session.journey(chosen, gpa)
        first = draw(journey_page(journey)).splitlines()[0]
        assert first.startswith(f"L2 {gpa:#x} -> ")
        agreement = verdict(journey).agreement
        assert re.search(rf"   {agreement.value}$", first), first
        said.add(agreement)
    assert {Agreement.AGREE, Agreement.NOT_MAPPED, Agreement.MISCONFIGURED} <= said


@pytest.mark.parametrize(
    "linear", [0x2000000, 0x7FD2346108, 0x4C0000000, 0xFFFF888000000000, 1 << 47]
)
def test_a_walk_of_a_linear_address_has_its_answer_in_one_line(
    plain_snapshot: Path, linear: int
) -> None:
    """However long its addresses are."""
    session, chosen = opened(plain_snapshot)
    found = virtual_walk(session, chosen, L2Virt(linear))
    lines = draw(virtual_page(found)).splitlines()
    assert re.match(rf"linear {linear:#x} -> .*\S   \S", lines[0]), lines[0]
    assert len(lines[0]) < WIDTH
    assert not lines[1].startswith("  ")
    if found.journey is not None:
        assert lines[0].endswith(f"   {verdict(found.journey).agreement.value}")
