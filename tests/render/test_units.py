# SPDX-License-Identifier: GPL-2.0-or-later
"""Units and letters of gdb's x command, against gdb's own answers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gdb_nept.errors import BadInput
from gdb_nept.render.units import Units, lines, units, values

DATA = bytes(range(0x78, 0x90)) + b"text\x1b[2J\xff\0more\0" + bytes(8)


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("/", Units(1, "x", 8)),
        ("/8xg", Units(8, "x", 8)),
        ("/2dw", Units(2, "d", 4)),
        ("/c", Units(1, "c", 1)),
        ("/3s", Units(3, "s", 8)),
        ("/4BX", Units(4, "x", 1)),
    ],
)
def test_a_format(written: str, made: Units) -> None:
    assert units(written) == made


@pytest.mark.parametrize("written", ["/8q", "8x", "/0x", "/9999999x", "/fb", "/x8"])
def test_what_is_no_format(written: str) -> None:
    with pytest.raises(BadInput):
        units(written)


def test_no_control_character_of_the_target_gets_out() -> None:
    for letter in "sc":
        text = "".join(said for _, said in values(Units(30, letter, 1), DATA))
        assert not [sign for sign in text if sign < " "]


def test_only_whole_units_are_shown() -> None:
    assert [offset for offset, _ in values(Units(4, "x", 8), DATA[:20])] == [0, 8]
    assert list(values(Units(4, "x", 8), b"")) == []


def test_a_string_that_does_not_end_says_so() -> None:
    assert list(values(Units(2, "s"), b"ab\0cd")) == [(0, '"ab"'), (3, '"cd"...')]


@pytest.mark.gdb
@pytest.mark.parametrize(
    "form", ["xb", "xh", "xw", "xg", "zw", "db", "dh", "dw", "dg", "uw", "ug", "tb", "oh"]
)
def test_numbers_are_gdbs(tmp_path: Path, form: str) -> None:
    """gdb reads the same bytes out of a file's section."""
    blob, elf = tmp_path / "blob", tmp_path / "elf"
    blob.write_bytes(DATA[:16])
    make = ["objcopy", "-I", "binary", "-O", "elf64-x86-64", "-B", "i386:x86-64"]
    subprocess.run([*make, blob, elf], check=True)
    made = units(f"/{16 // {'b': 1, 'h': 2, 'w': 4, 'g': 8}[form[1]]}{form}")
    symbol = "_binary_" + "".join(sign if sign.isalnum() else "_" for sign in str(blob)) + "_start"
    asked = f"x/{made.count}{form} (char *)&{symbol}"
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-ex", asked, elf], capture_output=True, text=True, check=True
    )
    theirs = [part for line in done.stdout.splitlines() for part in line.split(":")[1].split()]
    ours = [part for _, line in lines(made, DATA[:16]) for part in line.split()]
    assert theirs, done.stderr
    assert [int(part, 0) if form[0] != "t" else int(part, 2) for part in ours] == [
        int(part, 0) if form[0] not in "to" else int(part, 2 if form[0] == "t" else 8)
        for part in theirs
    ]
