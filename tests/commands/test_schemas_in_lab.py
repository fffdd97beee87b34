# SPDX-License-Identifier: GPL-2.0-or-later
"""What each command answers with --json over the lab's memories, held against its schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdb_nept.address import L2Phys
from gdb_nept.arch.ept import EptEntry
from gdb_nept.commands.catalogue import command_named
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.errors import NoGuest
from gdb_nept.judge.check import check
from gdb_nept.judge.features import ATTACHED, named_model
from gdb_nept.render.check import check_page
from gdb_nept.render.journey import journey_page
from tests.overlay import opened
from tests.questions import QUESTIONS
from tests.schemas import hold, hold_page

pytestmark = pytest.mark.bochs


def answered(context: DumpContext, words: tuple[str, ...]) -> str:
    command = command_named(words[0])
    assert command is not None
    return command.answer(context, words[1:], coloured=False)


def hold_all(memory: Path) -> int:
    """How many answers there were; what is not in the memory at all is none."""
    context, count = DumpContext(memory, ()), 0
    for words in QUESTIONS:
        try:
            answer = answered(context, (*words, "--json"))
        except NoGuest:
            continue
        hold(words[0], json.loads(answer))
        count += 1
    return count


def test_answers_in_every_machine(snapshot: Path) -> None:
    assert hold_all(snapshot / "memory.raw") == len(QUESTIONS)


def test_answers_behind_an_exit(exit_snapshot: Path) -> None:
    assert hold_all(exit_snapshot / "memory.raw") == len(QUESTIONS)


def test_answers_in_states_of_hypervisors(states: dict[str, Path]) -> None:
    for name in ("composing", "pae-exit", "eptp-written", "slot-absent", "apic-virtual"):
        assert hold_all(states[name] / "memory.raw") > len(QUESTIONS) / 2


def test_lines(plain_snapshot: Path) -> None:
    context = DumpContext(plain_snapshot / "memory.raw", ())
    *runs, rest = answered(context, ("ept", "--json-lines")).splitlines()
    for line in runs:
        hold("ept", json.loads(line), "line")
    hold("ept", json.loads(rest), "rest")
    lines = answered(context, ("walk", "--json-lines", "0x2000000", "0x2806000")).splitlines()
    assert len(lines) == 2
    for line in lines:
        hold("walk", json.loads(line), "line")


BEYOND = 0x1_0000_0007  # beyond all memslots
ENTRIES = (0, 0x2, 0x107, EptEntry.address.mask | 7, BEYOND, 0x80)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("entry", ENTRIES, ids=hex)
def test_answers_where_a_table_is_damaged(exit_snapshot: Path, level: int, entry: int) -> None:
    session, chosen = opened(exit_snapshot, entries={level: entry})
    found = check(session, chosen, named_model(session, chosen, ATTACHED))
    hold_page("nept-check", check_page(found))
    hold_page("nept-walk", journey_page(session.journey(chosen, L2Phys(found.place.gpa)), True))
