# SPDX-License-Identifier: GPL-2.0-or-later
"""The declarations themselves, and what all commands share."""

from __future__ import annotations

import argparse
import inspect
import json
import re

import pytest

from gdb_nept.commands.arguments import argument
from gdb_nept.commands.catalogue import NAMES, PREFIX, all_commands, command_named, listing
from gdb_nept.commands.command import COMMON, Command, command
from gdb_nept.commands.numbers import Usage, address_range, physical_width, plain_number
from gdb_nept.commands.shell_only import NAMES as SHELL_ONLY
from gdb_nept.commands.shell_only import shell_command_named
from gdb_nept.commands.spoken import shell_manual
from gdb_nept.errors import NeptError, NoGuest
from gdb_nept.render.manual import fitted
from gdb_nept.render.page import Page
from tests import tools
from tests.context import NoTarget

HERE = NoTarget()


@pytest.mark.parametrize("one", all_commands(), ids=lambda one: one.name)
def test_the_docstring_is_a_manual(one: Command) -> None:
    first, usage, *_ = one.manual.split("\n\n")
    assert first.endswith(".")
    assert "\n" not in first
    assert usage.startswith(f"Usage: {one.name} ")
    assert re.search(r"^Examples?:$", one.manual, re.MULTILINE)
    assert re.search(r"^See also: nept-", one.manual, re.MULTILINE)
    assert all(len(line) <= 100 for line in one.manual.splitlines())


@pytest.mark.parametrize("one", all_commands(), ids=lambda one: one.name)
def test_every_argument_is_in_the_manual_and_none_else(one: Command) -> None:
    usage = one.manual.split("\n\n")[1]
    shown = set(re.findall(r"--[a-z0-9-]+", usage))
    known = {flag for each in (*one.arguments, *COMMON) for flag in each.flags if "--" in flag}
    assert shown == known - {"--help"}
    for each in one.arguments:
        name = str(each.options.get("metavar", each.flags[0]))
        assert one.manual.count(name) >= 2, "once in the usage, once in its paragraph"


@pytest.mark.parametrize("one", all_commands(), ids=lambda one: one.name)
def test_what_the_manual_refers_to_exists(one: Command) -> None:
    names = {each.name for each in all_commands()} | {"nept-reload"}
    assert set(re.findall(r"nept-[a-z0-9]+", one.manual)) <= names


@pytest.mark.parametrize("one", all_commands(), ids=lambda one: one.name)
def test_help_is_the_manual(one: Command) -> None:
    shown = one.answer(HERE, ["--help"], coloured=False)
    assert shown == fitted(one.manual)
    assert shown.split() == one.manual.split()


@pytest.mark.parametrize("width", [80, 100, 132])
@pytest.mark.parametrize("one", all_commands(), ids=lambda one: one.name)
def test_help_fits_the_terminal(one: Command, width: int) -> None:
    """In gdb and on the shell; the options of the usage are not broken."""
    for manual in (one.manual, shell_manual(one.manual)):
        shown = fitted(manual, width)
        assert max(map(len, shown.splitlines())) <= width
        assert shown.split() == manual.split()
        for line in shown.split("\n\n")[1].splitlines():
            assert line.count("[") == line.count("]")
            assert line.count("(") == line.count(")")


@pytest.mark.parametrize("width", [80, 132])
@pytest.mark.parametrize("name", SHELL_ONLY)
def test_each_way_to_call_a_command_has_its_own_line(name: str, width: int) -> None:
    found = shell_command_named(name)
    assert found is not None
    shown = fitted(found.manual, width)
    assert max(map(len, shown.splitlines())) <= width
    usage = shown.split("\n\n")[1]
    assert [line[:7] for line in usage.splitlines() if " nept " in line[:12]] == [
        *["Usage: "],
        *["       "] * (found.manual.split("\n\n")[1].count("nept ") - 1),
    ]


@pytest.mark.parametrize("one", all_commands(), ids=lambda one: one.name)
def test_without_a_target_a_command_says_so_or_works(one: Command) -> None:
    places = [each for each in one.arguments if not each.flags[0].startswith("-")]
    words = ["0" for each in places if each.options.get("nargs", "+") == "+"]
    if one.name == "nept-decode":
        words = ["spte", "0"]
    if one.name == "nept-export":
        words = ["--l1", "--output", "core"]
    if one.name == "nept-target":
        assert "not found" in one.answer(HERE, words, coloured=False)
        return
    with pytest.raises(NeptError, match="not attached"):
        one.answer(HERE, words, coloured=False)


def test_the_listing_has_a_line_for_each() -> None:
    assert [line.split()[0] for line in listing().splitlines()] == [
        one.name for one in all_commands()
    ]
    assert max(map(len, listing().splitlines())) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_short(name: str) -> None:
    """What stands behind its manual, which is for users."""
    found = command_named(name)
    assert found is not None
    body = inspect.getsource(found.run).rpartition('"""')[2].strip().splitlines()
    assert len(body) <= 25


# -- a command made for the tests ------------------------------------------------------------------


@command(
    "nept-sample",
    argument("--fail", choices=("known", "mistake")),
    argument("--at", type="address"),
    argument("range", nargs="?", type="range"),
)
def sample(context: object, args: argparse.Namespace) -> Page:
    """A sample."""
    if args.fail == "known":
        raise NoGuest("no guest")
    if args.fail == "mistake":
        raise ZeroDivisionError("by zero")
    return Page(("PML4E at 0x1000: not present",), {"at": args.at, "range": list(args.range or ())})


def test_text_json_and_colour() -> None:
    assert sample.answer(HERE, [], coloured=False) == "PML4E at 0x1000: not present"
    assert json.loads(sample.answer(HERE, ["--json", "--at", "4K", "1..0x10"], coloured=True)) == {
        "schema": "nept-sample/1",
        "at": 4096,
        "range": [1, 16],
        "incomplete": None,
    }
    tools.module("pygments")
    assert "\x1b[" in sample.answer(HERE, [], coloured=True)
    assert "\x1b[" not in sample.answer(HERE, ["--no-color"], coloured=True)


def test_a_known_error_passes_as_it_is() -> None:
    with pytest.raises(NoGuest, match="no guest"):
        sample.answer(HERE, ["--fail", "known"], coloured=False)


def test_a_mistake_of_ours_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEPT_TRACEBACK", raising=False)
    with pytest.raises(NeptError) as caught:
        sample.answer(HERE, ["--fail", "mistake"], coloured=False)
    assert caught.value.message == "a mistake in gdb_nept: ZeroDivisionError: by zero"
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("NEPT_TRACEBACK", "1")
    with pytest.raises(NeptError):
        sample.answer(HERE, ["--fail", "mistake"], coloured=False)
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--nonsense"], ["--at"], ["--at", "x"], ["--fail", "x"], ["1", "2"], ["9..8"]]
)
def test_wrong_arguments_are_usage(words: list[str]) -> None:
    with pytest.raises(Usage):
        sample.answer(HERE, words, coloured=False)


@pytest.mark.parametrize(
    ("before", "word", "offers"),
    [
        ([], "--f", ["--fail"]),
        ([], "--", ["--at", "--fail", "--help", "--json", "--limit", "--no-color"]),
        (["--json"], "--j", []),
        (["--fail"], "", ["known", "mistake"]),
        (["--fail"], "k", ["known"]),
        ([], "x", []),
    ],
)
def test_completion(before: list[str], word: str, offers: list[str]) -> None:
    assert sample.complete(before, word) == offers


@pytest.mark.parametrize("one", all_commands(), ids=lambda one: one.name)
def test_every_command_completes_its_options(one: Command) -> None:
    assert "--json" in one.complete([], "--")


@pytest.mark.parametrize("one", all_commands(), ids=lambda one: one.name)
def test_every_command_completes_values(one: Command) -> None:
    for each in one.arguments:
        option = each.flags[0].startswith("-")
        offers = one.complete(each.flags[-1:] if option else [], "")
        choices = set(map(str, each.options.get("choices", ())))
        assert choices <= set(offers)
        assert all(isinstance(offer, str) for offer in offers)


def test_levels_are_completed() -> None:
    decode = next(one for one in all_commands() if one.name == "nept-decode")
    assert decode.complete(["--level"], "") == ["1", "2", "3", "4", "5"]
    assert decode.complete(["--level"], "2") == ["2"]


def test_of_two_tables_one_alone_can_be_asked_for() -> None:
    ept = next(one for one in all_commands() if one.name == "nept-ept")
    assert ept.parse(["--shadow"], HERE).shadow
    with pytest.raises(Usage, match="--l1: not allowed with argument --shadow"):
        ept.parse(["--shadow", "--l1"], HERE)


@pytest.mark.parametrize("bits", [32, 52])
def test_widths_of_processors(bits: int) -> None:
    assert physical_width(bits) == bits


@pytest.mark.parametrize("bits", [0, 31, 53, 99])
def test_widths_of_no_processor(bits: int) -> None:
    with pytest.raises(Usage, match=f"addresses of {bits} bits"):
        physical_width(bits)


def test_a_width_is_for_words_with_an_address() -> None:
    decode = next(one for one in all_commands() if one.name == "nept-decode")
    words = ["--maxphyaddr", "36", "paging", "0x1000000001"]
    assert "beyond MAXPHYADDR (36)" in decode.answer(HERE, words, coloured=False)
    for kind in ("spte", "field"):
        with pytest.raises(Usage, match=f"says nothing about '{kind}'"):
            decode.answer(HERE, ["--maxphyaddr", "36", kind, "1"], coloured=False)


@pytest.mark.parametrize(
    ("written", "low", "high"),
    [
        ("0x1000..0x3000", 0x1000, 0x3000),
        ("0x1000+8K", 0x1000, 0x3000),
        ("0x1234", 0x1000, 0x2000),
    ],
)
def test_ranges(written: str, low: int, high: int) -> None:
    assert address_range(written, plain_number) == (low, high)


@pytest.mark.parametrize(
    "written",
    ["2..1", "1..1", "0x1000-0x3000", "0..0x20000000000000000", "x..y", "", "0x10000000000000"],
)
def test_ranges_that_are_none(written: str) -> None:
    with pytest.raises(Usage):
        address_range(written, plain_number)


@pytest.mark.parametrize(
    ("written", "number"),
    [("0x10", 16), ("16", 16), ("4K", 4096), ("2m", 2 << 20), ("1G", 1 << 30), ("0b11", 3)],
)
def test_numbers(written: str, number: int) -> None:
    assert plain_number(written) == number


@pytest.mark.parametrize("written", ["", "K", "0x", "one", "1.5"])
def test_numbers_that_are_none(written: str) -> None:
    with pytest.raises(Usage, match="is not a number"):
        plain_number(written)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["0x1000", "--size", "8"], "--size is of an access at a linear address"),
        (["0x1000", "--size", "0", "--linear"], "0 is no number of things"),
        (["0x1000", "--linear", "--stage", "walk"], "not allowed with argument"),
        (["0x1000", "--emulated", "--model", "sdm"], "the processor sdm has no emulator"),
    ],
)
def test_what_would_have_no_effect_is_refused(words: list[str], message: str) -> None:
    predict = command_named("predict")
    assert predict
    with pytest.raises(Usage, match=message):
        predict.answer(NoTarget(), words, coloured=False)


def test_names_begin_alike() -> None:
    assert all(one.name.startswith(PREFIX) for one in all_commands())


def test_json_lines_that_go_to_a_file_leave_the_answer_as_it_is() -> None:
    """As nept-watch's; those of nept-ept are the answer; a page without a list is one object."""

    def to_a_file(context: object, args: argparse.Namespace) -> Page:
        """Nothing.

        Usage: x
        """
        return Page(("text",), {"written": args.json_lines})

    def as_answer(context: object, args: argparse.Namespace) -> Page:
        """Nothing.

        Usage: x
        """
        return Page(("text",), {"items": iter([1, 2]), "more": 3}, lines=args.list)

    file = command("x", argument("--json-lines"))(to_a_file)
    assert file.answer(NoTarget(), ["--json-lines", "f"], False) == "text"
    assert json.loads(file.answer(NoTarget(), ["--json-lines", "f", "--json"], False)) == {
        "schema": "x/1",
        "written": "f",
        "incomplete": None,
    }
    flag = argument("--json-lines", action="store_true")
    answer = command("x", flag, argument("--list", default=""))(as_answer)
    by_lines = answer.answer(NoTarget(), ["--json-lines", "--list", "items"], False)
    assert by_lines.splitlines() == ["1", "2", '{"schema": "x/1", "more": 3, "incomplete": null}']
    whole = answer.answer(NoTarget(), ["--json-lines"], False)
    assert json.loads(whole) == {
        "schema": "x/1",
        "items": [1, 2],
        "more": 3,
        "incomplete": None,
    }
