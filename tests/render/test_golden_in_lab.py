# SPDX-License-Identifier: GPL-2.0-or-later
"""Each command's answer over the lab's snapshots, at 80 and at 120 columns and on a dumb terminal,
as files that a person has read: golden/WIDTH/NAME.txt.

NEPT_WRITE_GOLDEN=1 writes the answers of today into the files: read what has changed.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from functools import cache, lru_cache
from pathlib import Path

import pexpect
import pytest
from bochs_lab import snapshot as lab
from bochs_lab.options import LabOptions

from gdb_nept.commands.catalogue import command_named
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.output import Sink

pytestmark = pytest.mark.bochs

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden")
WIDTHS = (80, 120)
#: The park point, and what is asked there, by the name of its file.
ASKED = {
    "target": ("l2", "nept-target"),
    "vms": ("l2", "nept-vms"),
    "vmcs12": ("l2", "nept-vmcs12"),
    "vmcs12-field": ("l2", "nept-vmcs12 eptp"),
    "ept": ("l2", "nept-ept"),
    "ept-shadow": ("l2", "nept-ept --shadow"),
    "walk": ("l2", "nept-walk 0x2000000"),
    "walk-not-mapped": ("l2", "nept-walk 0x200000000"),
    "walk-read-only": ("l2", "nept-walk 0x2004108"),
    "predict-write": ("l2", "nept-predict 0x2004108 --write"),
    "predict-write-all": ("l2", "nept-predict 0x2004108 --write --all"),
    "predict-read": ("l2", "nept-predict 0x2000000"),
    "compare": ("l2", "nept-compare"),
    "regs": ("l2", "nept-regs"),
    "map": ("l2", "nept-map"),
    "x": ("l2", "nept-x /4xg 0x2000000"),
    "decode-eptp": ("l2", "nept-decode eptp 0x101e"),
    "decode-qualification": ("l2", "nept-decode qualification 0x1aa"),
    "check": ("l1-exit", "nept-check"),
}
_NUMBER = re.compile(r"0x[0-9a-f]+|\b\d{2,}\b")


@lru_cache(maxsize=2)
def memory(place: str) -> Path:
    return lab.ensure(LabOptions(park=place)) / "memory.raw"


@lru_cache(maxsize=2)
def context(place: str) -> DumpContext:
    return DumpContext(memory(place), ())


@cache
def answer(name: str, width: int) -> str:
    place, line = ASKED[name]
    first, *words = shlex.split(line)
    command = command_named(first)
    assert command is not None, line
    pieces: list[str] = []
    command.write_answer(context(place), words, Sink(pieces.append, width=width))
    return "".join(pieces).replace(str(memory(place)), "memory.raw") + "\n"


def but_for_numbers(text: str) -> str:
    """Addresses of the host and its process numbers differ from boot to boot; their lengths are
    what columns are made of."""
    return _NUMBER.sub(lambda found: "#" * len(found[0]), text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ASKED)
def test_the_answer_is_as_a_person_has_read_it(name: str, width: int) -> None:
    file, found = GOLDEN / str(width) / f"{name}.txt", answer(name, width)
    if os.environ.get("NEPT_WRITE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found)
    assert but_for_numbers(found) == but_for_numbers(file.read_text())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ASKED)
def test_no_line_is_wider_and_no_number_is_cut(name: str, width: int) -> None:
    found = answer(name, width)
    assert max(map(len, found.splitlines())) <= width
    wide = set(_NUMBER.findall(answer(name, 132)))
    assert set(_NUMBER.findall(found)) == wide, "a number is broken, or left out"


@pytest.mark.parametrize("name", ["walk", "vms", "predict-write"])
def test_a_dumb_terminal_of_80_columns_shows_the_same(name: str) -> None:
    place, line = ASKED[name]
    variables = {**os.environ, "TERM": "dumb"}
    for other in ("COLUMNS", "NO_COLOR"):
        variables.pop(other, None)
    words = ["-m", "gdb_nept", "--dump", str(memory(place)), *shlex.split(line)]
    terminal = pexpect.spawn(
        sys.executable, words, cwd=str(ROOT), env=variables, encoding="utf-8", dimensions=(50, 80)
    )
    terminal.expect(pexpect.EOF, timeout=60)
    shown = str(terminal.before).replace("\r\n", "\n")
    assert shown == answer(name, 80)
