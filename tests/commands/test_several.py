# SPDX-License-Identifier: GPL-2.0-or-later
"""Several questions of one kind in one call."""

from __future__ import annotations

import argparse
import json

import pytest

from gdb_nept.commands.arguments import argument
from gdb_nept.commands.command import command
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.output import Sink
from gdb_nept.errors import NoGuest
from gdb_nept.render.page import Page, Pages, Status, page_for_each

HERE = DumpContext(None, ())


def test_one_of_several_that_cannot_be_answered_costs_no_other() -> None:
    def one(number: int) -> Page:
        if number == 2:
            raise NoGuest("nothing there", "Look elsewhere.")
        return Page((f"found {number}",), {"number": number})

    def several(context: object, args: argparse.Namespace) -> Page | Pages:
        """Nothing.

        Usage: x
        """
        return page_for_each("all", args.numbers, one, listed=args.json_lines)

    found = command(
        "x", argument("--json-lines", action="store_true"), argument("numbers", type=int, nargs="+")
    )(several)
    told: list[str] = []
    assert found.write_answer(HERE, ["1", "2", "3"], Sink(told.append)) is Status.NOT_FOUND
    assert "".join(told) == "found 1\n\nerror: nothing there\nLook elsewhere.\n\nfound 3"
    whole = {"schema": "x/1", "incomplete": None}
    refused = {**whole, "error": "nothing there", "advice": "Look elsewhere."}
    numbers = [{**whole, "number": 1}, refused, {**whole, "number": 3}]
    assert json.loads(found.answer(HERE, ["1", "2", "3", "--json"], False)) == {
        **whole,
        "all": numbers,
    }
    lines = found.answer(HERE, ["1", "2", "3", "--json-lines"], False).splitlines()
    assert [json.loads(line) for line in lines] == numbers
    with pytest.raises(NoGuest):
        found.answer(HERE, ["2"], False)
