# SPDX-License-Identifier: GPL-2.0-or-later
"""What no physical address can be is a wrong argument of every command that takes one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdb_nept.__main__ import main
from gdb_nept.arch.ept import WIDEST
from gdb_nept.commands.catalogue import all_commands
from gdb_nept.render.page import Status

pytestmark = pytest.mark.bochs

PLACES = {"ADDRESS", "RANGE"}
#: Of each command that takes an address or a range: how it is asked for a physical one.
ASKED = {
    "walk": (["walk"],),
    "predict": (["predict"], ["predict", "--stage", "walk"]),
    "who": (["who"], ["who", "--l1", "--vm", "0"]),
    "x": (["x", "--host"], ["x", "--l1"], ["x", "--l2-physical"]),
    "ept": (["ept"], ["ept", "--shadow"], ["ept", "--l1"]),
    "compare": (["compare"],),
    "map": (["map"],),
    "scan": (["scan"],),
    "watch": (["watch", "--gpa"],),
}


def test_all_that_take_an_address_are_asked() -> None:
    taking = {
        one.name.partition("-")[2]
        for one in all_commands()
        if PLACES & {each.options.get("metavar") for each in one.arguments}
    }
    assert taking == set(ASKED)


@pytest.mark.parametrize("number", [1 << WIDEST, (1 << 64) - 1, 1 << 64, -1], ids=hex)
@pytest.mark.parametrize("words", [each for ways in ASKED.values() for each in ways], ids=" ".join)
def test_beyond_the_widest_address_is_a_wrong_argument(
    words: list[str], number: int, plain_snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = str(plain_snapshot / "memory.raw")
    end = [] if words[-1] == "--gpa" else ["--"]
    assert main(["--dump", dump, *words, *end, hex(number)]) == Status.USAGE.value
    said = capsys.readouterr()
    assert said.err.startswith("gdb_nept: ")
    assert said.out == ""


@pytest.mark.parametrize("words", [["walk"], ["predict"]], ids=" ".join)
def test_one_of_several_costs_no_other_its_answer(
    words: list[str], plain_snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*words, "0x2000000", hex(1 << WIDEST), "0x2806000", "--json"]
    assert main(["--dump", str(plain_snapshot / "memory.raw"), *asked]) == Status.USAGE.value
    data = json.loads(capsys.readouterr().out)
    answers = next(found for found in data.values() if isinstance(found, list))
    assert ["error" in one for one in answers] == [False, True, False]
    assert "no physical address" in answers[1]["error"]
