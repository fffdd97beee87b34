# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gdb_nept.arch.cpu import HOST
from gdb_nept.arch.ept import EptEntry, Eptp
from gdb_nept.render import colour, json, text
from gdb_nept.render.page import WIDTH, Page, Table
from gdb_nept.render.table import FIRST, draw_rows, draw_table
from tests import tools

TABLE = Table(
    ("level", "entry", "meaning"),
    (("4", "0x1000", "a table"), ("12", "0x2", " ".join(["word"] * 40))),
    right=(0,),
)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0B"),
        (8, "8B"),
        (4096, "4K"),
        (6 << 12, "24K"),
        (2 << 20, "2M"),
        (1 << 30, "1G"),
        (3 << 40, "3T"),
        ((1 << 48) - (64 << 20), "~256T"),
        ((16 << 20) - 4096, "~16M"),
        ((1 << 30) - 4096, "~1G"),
        ((10 << 30) - 4096, "~10G"),
        ((1 << 40) - 4096, "~1T"),
        ((5 << 30) + 4096, "~5120M"),
    ],
)
def test_sizes(count: int, said: str) -> None:
    assert text.size(count) == said


@pytest.mark.parametrize(
    ("value", "mbec", "said"),
    [(7, False, "RWX"), (5, False, "R-X"), (0x400, True, "---u"), (2, False, "-W-")],
)
def test_rights(value: int, mbec: bool, said: str) -> None:
    assert text.rights(EptEntry(value), mbec) == said


@pytest.mark.parametrize(
    ("value", "leaf", "said"),
    [
        (0x107, False, "RWX; accessed"),
        (0x337, True, "RWX; WB; accessed, dirty"),
        (0x4000000000000071 | 1 << 63, True, "R--; WB; IPAT SVE"),
        (0x11, True, "R--; type 2"),
        (0, False, "not present"),
    ],
)
def test_entries_in_words(value: int, leaf: bool, said: str) -> None:
    assert text.in_words(EptEntry(value), leaf) == said


def test_what_mode_based_execute_control_and_the_eptp_change() -> None:
    assert text.in_words(EptEntry(0x400), True, mbec=True) == "---u; UC"
    assert text.in_words(EptEntry(0x337), True, flags=False).endswith("; WB; [accessed, dirty]")
    assert text.in_words(EptEntry(0x307), False, flags=False).endswith("; [accessed]")
    assert "[" not in text.in_words(EptEntry(0x37), True, flags=False)


@pytest.mark.parametrize(
    ("number", "thing", "said"),
    [
        (1, "page", "1 page"),
        (2, "page", "2 pages"),
        (0, "run", "0 runs"),
        (3, "entry", "3 entries"),
    ],
)
def test_counts(number: int, thing: str, said: str) -> None:
    assert text.count(number, thing) == said


def test_bits_that_the_processor_ignores_stand_in_brackets() -> None:
    entry = EptEntry(1 << 57 | 1 << 58 | 1 << 60 | 1 << 63 | 7)
    assert text.extras(entry, text.ignored_bits(HOST, Eptp(0x1E))) == "SVE [VGP PW SSS]"
    assert text.extras(entry, text.ignored_bits(HOST, Eptp(0x9E))) == "SSS SVE [VGP PW]"


def test_a_table_wraps_its_last_column() -> None:
    lines = draw_table(TABLE, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0] == "level  entry   meaning"
    assert set(lines[1]) == {"-", " "}
    assert lines[2] == "    4  0x1000  a table"
    assert lines[4].startswith(" " * 15 + "word")


def test_a_table_without_rows_is_nothing() -> None:
    assert draw_table(Table(("a", "b"), ()), 80) == ""


def test_without_tabulate_a_table_looks_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_table(TABLE, 80)
    monkeypatch.setitem(sys.modules, "tabulate", None)
    assert draw_table(TABLE, 80) == drawn


def test_a_table_of_many_rows_looks_the_same() -> None:
    row = ("1", "0x1000", "")
    few = draw_table(Table(TABLE.headers, (row,) * 3, TABLE.right), 80).splitlines()
    many = draw_table(Table(TABLE.headers, (row,) * (FIRST + 1), TABLE.right), 80).splitlines()
    assert many[:5] == few
    assert len(many) == FIRST + 3


def test_rows_are_drawn_as_they_come() -> None:
    taken: list[int] = []

    def rows() -> Iterator[tuple[str, ...]]:
        for number in range(10 * FIRST):
            taken.append(number)
            yield str(number), "0x1000", "wider than any before it" if number == FIRST + 1 else "-"

    pieces = draw_rows(Table(("n", "at", "what"), rows(), (0,)), 80)
    first = next(pieces)
    assert len(taken) == FIRST + 1
    lines = [first, *pieces]
    drawn = "\n".join(lines).splitlines()
    assert len(drawn) == 2 + 10 * FIRST
    assert [line.split()[0] for line in drawn[2:]] == [str(n) for n in range(10 * FIRST)]


def test_rows_that_a_reader_is_not_shown_are_counted() -> None:
    rows = (str(number) for number in range(1000))
    cells = ((number, "-") for number in rows)
    table = Table(("n", "what"), cells, rest=lambda: sum(1 for _ in rows))
    *_, last = draw_rows(table, 80, most=200)
    assert last.startswith("... 800 more rows")
    few = Table(("n",), [("1",), ("2",)])
    assert "more" not in "".join(draw_rows(few, 80, most=2))


@pytest.mark.parametrize("bad", ["\x1b]0;owned\x07", "\u202e", "a\tb\r", "\x9b31m", "\x00"])
def test_what_would_drive_a_terminal_is_shown_instead(bad: str) -> None:
    page = Page((f"command {bad}", Table(("name",), ((bad,),))), {})
    drawn = text.draw(page)
    assert not set(bad) & set("\x1b\x07\u202e\t\r\x9b\x00") & set(drawn)
    assert "\\" in drawn


def test_numbers_stay_as_they_are_written() -> None:
    rows = (("1e5", "0x1e5", "007"), ("nan", "-", "1_000"))
    drawn = draw_table(Table(("a", "b", "c"), rows), 80)
    assert all(cell in drawn for row in rows for cell in row)


def test_paragraphs_are_broken_at_words_and_indented() -> None:
    drawn = text.paragraph("  " + " ".join(["0x0123456789abcdef"] * 12))
    lines = drawn.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= WIDTH
    assert lines[1].startswith("    0x")


def test_a_heading_stands_right_above_what_it_heads() -> None:
    page = Page(("Heading:", TABLE, "end"), {})
    lines = text.draw(page).splitlines()
    assert lines[1].startswith("level")
    assert lines[-2:] == ["", "end"]


def test_json_keeps_order_and_writes_addresses_in_hexadecimal() -> None:
    page = Page((), {"b": json.hexed(1 << 63), "a": json.hexed(None), "n": 3})
    assert json.draw_json(page) == '{\n  "b": "0x8000000000000000",\n  "a": null,\n  "n": 3\n}'


# -- colour ----------------------------------------------------------------------------------------

SAMPLE = """\
EPT12, L1's tables:
  PML4E 0x0000dfc000[  0]  0x0000000000dfb107  RWX  A
  ----  ---
0x1000  4K  R-X  WB
verdict: stale: KVM's shadow leads elsewhere

verdict: agree: all ways lead to host physical 0x6022123
"""


def test_colour_changes_nothing_but_colour() -> None:
    tools.module("pygments")
    painted = colour.paint(SAMPLE)
    assert painted != SAMPLE
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == SAMPLE


@pytest.mark.parametrize(
    ("word", "code"),
    [("stale", 31), ("differ", 31), ("agree", 32), ("EPT violation", 33), ("not present", 33)],
)
def test_colour_says_what_the_word_says(word: str, code: int) -> None:
    """Red what is wrong, green what agrees, yellow what makes an exit (ECMA-48, SGR)."""
    tools.module("pygments")
    painted = colour.paint(f"L2 0x1000: {word}, R-X\n")
    assert f"\x1b[{code}m{word}\x1b[" in painted
    assert painted.count("\x1b[") == 2


@pytest.mark.parametrize(
    "line",
    [
        "0x681e  guest_rip  0x100001c  stale: L2 runs: the value is in vmcs02",
        "note: L2's cr0: maybe stale: L1's newest VMWRITE may be elsewhere",
        "L1 changed EPT12, and no INVEPT is missing",
        "At fault: not known",
        "L2 0x2000000 -> L1 0x1020000   unreadable",
        "field  agree  differ\n-----  -----  ------\nx          1       0",
        "0x0802  guest_cs_selector  0x8  authoritative: L1 alone writes it",
        "not mapped in the host  ~24M",
    ],
)
def test_what_is_neither_broken_nor_an_exit_has_no_colour(line: str) -> None:
    """But for the rule below the names of columns, which is dim."""
    tools.module("pygments")
    codes = set(re.findall(r"\x1b\[(\d+)m", colour.paint(line + "\n"))) - {"39"}
    assert codes <= {"90"}


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("EPT12 against EPT02 of VM 0, vCPU 0: nothing is stale or broken", {"32"}),
        ("EPT12 against EPT02 of VM 0, vCPU 0: 8K stale (at fault: L1)", {"31"}),
        ("At fault: KVM: mmu_try_to_unsync_pages() should have marked the table", {"31"}),
        ("missing:  not attached", {"31"}),
        ("   4  0.0   write         0x2002000       violation 0x18b  DIFFER [b]", {"31", "33"}),
        ("   1  0.0   read          0x2002000       none: L0 alone   kept [a]", {"90"}),
        ("0x000002000  0x000002fff  4K                          hole", {"90"}),
    ],
)
def test_a_whole_line_has_the_colours_of_its_words(line: str, codes: set[str]) -> None:
    tools.module("pygments")
    assert set(re.findall(r"\x1b\[(\d+)m", colour.paint(line + "\n"))) - {"39"} == codes


def test_without_pygments_there_is_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def blocked(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pygments":
            raise ImportError(name)
        return genuine(name, *rest)

    colour._painter.cache_clear()
    monkeypatch.setattr(builtins, "__import__", blocked)
    assert colour.paint(SAMPLE) == SAMPLE
    colour._painter.cache_clear()


@pytest.mark.parametrize(
    ("width", "first", "second"),
    [
        (80, "EPT12: 103 pages, ~9236M mapped; 32 misconfigured entries", "below"),
        (50, "EPT12: 103 pages, ~9236M mapped;", "  32 misconfigured entries"),
        (24, "EPT12: 103 pages, ~9236M", "  mapped; 32"),
    ],
)
def test_a_page_begins_with_a_whole_clause(width: int, first: str, second: str) -> None:
    """Where there is room for one."""
    said = "EPT12: 103 pages, ~9236M mapped; 32 misconfigured entries\nbelow"
    shown = "".join(text.pieces(Page((said, "a; " * 99), {}), width=width)).splitlines()
    assert shown[:2] == [first, second]
    assert max(map(len, shown)) <= width


def test_of_several_answers_the_first_that_no_terminal_breaks() -> None:
    long, exact, short = "x" * 100, "y" * WIDTH, "z" * (WIDTH - 1)
    assert text.first_whole(long, exact, short, "") == short
    assert text.first_whole(long, exact) == exact
