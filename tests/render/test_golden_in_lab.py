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
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pexpect
import pytest

from gdb_nept.commands.catalogue import command_named
from gdb_nept.commands.output import Sink
from gdb_nept.live.injection import injection_point
from gdb_nept.render import colour, text
from gdb_nept.render.watch import Tally, heading, watch_page
from tests import tools
from tests.live.scene import Scene
from tests.live.test_watch_lines import differing
from tests.overlay import Overlay, opened
from tests.render.situations import MADE, context, dump, folder

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
    "who": ("l2", "nept-who 0x6020000"),
    "scan": ("l2", "nept-scan"),
    "export": ("l2", "nept-export --l1 --output l1.core --force"),
    "predict-linear": ("l2", "nept-predict --linear 0x201a108 --write"),
    "predict-linear-all": ("l2", "nept-predict --linear 0x201a108 --write --all"),
    "walk-virtual": ("l2", "nept-walk --virtual 0x2000000"),
    "vms-slots": ("l2", "nept-vms --slots"),
    "ept-summary": ("l2", "nept-ept --summary"),
    "walk-misconfigured": ("misconfigured", "nept-walk 0x2000000"),
    "predict-misconfigured": ("misconfigured", "nept-predict 0x2000000 --write"),
    "compare-misconfigured": ("misconfigured", "nept-compare 0x2000000+64K"),
    "walk-stale": ("ad-cleared", "nept-walk 0x2000000"),
    "compare-stale": ("ad-cleared", "nept-compare"),
    "walk-hidden-slot": ("apic-page", "nept-walk 0xfee00000"),
    "vmcs12-composing": ("composing", "nept-vmcs12"),
    "vms-without-ept": ("without-ept", "nept-vms"),
    "walk-without-ept": ("without-ept", "nept-walk --virtual 0x2000000"),
    "walk-filtered": ("filtered", "nept-walk 0x2000000"),
    "ept-filtered": ("filtered", "nept-ept 0x2000000+2M"),
    "predict-filtered": ("filtered", "nept-predict 0x2000000 --write"),
    "map-filtered": ("filtered", "nept-map"),
    "diff": ("changed", "nept-diff"),
    "check-differs": ("wrong-exit", "nept-check"),
}
NAMES = (*ASKED, "watch")
_INDEX = re.compile(r"\[[ \d]{2}\d\]")
_NUMBER = re.compile(r"0x[0-9a-f]+|\b\d+\.\d+\b|\b\d{2,}\b")


@cache
def answer(name: str, width: int) -> str:
    if name == "watch":
        return watched(width)
    place, line = ASKED[name]
    first, *words = shlex.split(line)
    command = command_named(first)
    assert command is not None, line
    pieces: list[str] = []
    with tempfile.TemporaryDirectory() as folder, within(folder):
        command.write_answer(context(place), words, Sink(pieces.append, width=width))
    found = "".join(pieces)
    return (found if place in MADE else found.replace(str(dump(place)), "memory.raw")) + "\n"


@contextmanager
def within(folder: str) -> Iterator[None]:
    """What a command writes lies there, under a name that is the same each time."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def watched(width: int) -> str:
    """A watch of four faults: one that is as KVM and the SDM say, one that KVM keeps the SDM's way
    no longer, and one, twice, that nothing known explains."""
    session, _ = opened(folder("l1-exit"))
    points = (injection_point(session.kernel, session.vms()),)
    pieces = [heading(points, "kvm", None, width)]
    tally = Tally(width=width)
    for bits in (0, 0x8, 0x8, 0x180):
        session, chosen = opened(folder("l1-exit"))
        memory = session.kernel.physical
        assert isinstance(memory, Overlay)
        scene = Scene(session, chosen, memory, session.vmcs12(chosen))
        pieces.append(tally.take(differing(scene, bits)))
    page = watch_page(tally, points, "kvm", "interrupted")
    return "\n".join(pieces) + "\n\n" + "".join(text.pieces(page, None, width)) + "\n"


def but_for_numbers(text: str) -> str:
    """Addresses of the host and its process numbers differ from boot to boot; their lengths are
    what columns are made of.  An index into a table is filled up to three places."""
    return _NUMBER.sub(lambda found: "#" * len(found[0]), _INDEX.sub("[###]", text))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_the_answer_is_as_a_person_has_read_it(name: str, width: int) -> None:
    file, found = GOLDEN / str(width) / f"{name}.txt", answer(name, width)
    if os.environ.get("NEPT_WRITE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found)
    assert but_for_numbers(found) == but_for_numbers(file.read_text())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_wider_and_no_number_is_cut(name: str, width: int) -> None:
    found = answer(name, width)
    assert max(map(len, found.splitlines())) <= width
    if name != "watch":  # it leaves out a column where there is no room for it
        assert words_of(found) == words_of(answer(name, 132)), "a number is broken, or left out"


def words_of(answer: str) -> set[str]:
    """Its numbers, but for the seconds that something took."""
    return {number for number in _NUMBER.findall(answer) if "." not in number}


@pytest.mark.parametrize("name", [name for name in ASKED if ASKED[name][0] not in MADE])
def test_a_dumb_terminal_of_80_columns_shows_the_same(name: str, tmp_path: Path) -> None:
    place, line = ASKED[name]
    variables = {**os.environ, "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    for other in ("COLUMNS", "NO_COLOR"):
        variables.pop(other, None)
    words = ["-m", "gdb_nept", "--dump", str(dump(place)), *shlex.split(line)]
    quiet = ["-c", 'exec "$0" "$@" 2>/dev/null', sys.executable]  # how far it is goes there
    terminal = pexpect.spawn(
        "sh",
        [*quiet, *words],
        cwd=str(tmp_path),
        env=variables,
        encoding="utf-8",
        dimensions=(50, 80),
    )
    terminal.expect(pexpect.EOF, timeout=60)
    shown = str(terminal.before).replace("\r\n", "\n")
    shown, whole = shown.replace(str(dump(place)), "memory.raw"), answer(name, 80)
    above, cut, _ = shown.partition("... ")
    if cut and "more rows (all of them: --all" in shown:  # as on any terminal
        assert whole.startswith(above.rpartition("\n\n")[0])
        return
    assert shown == whole


#: In which pages something is broken or differs: red is for these.
WRONG = {
    *(
        "walk-misconfigured",
        "compare-misconfigured",
        "walk-stale",
        "compare-stale",
        "watch",
        "check-differs",
    ),
}
RED, GREEN, YELLOW, GRAY, BOLD, PLAIN = "31", "32", "33", "90", "01", ("39", "39;49;00", "00")


@pytest.mark.parametrize("name", NAMES)
def test_colours_say_what_the_page_says(name: str) -> None:
    """Red where something is broken or differs alone, and nothing but the colours is added."""
    tools.module("pygments")
    found = answer(name, 80)
    painted = colour.paint(found)
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == found
    codes = set(re.findall(r"\x1b\[([0-9;]+)m", painted)) - set(PLAIN)
    assert codes <= {RED, GREEN, YELLOW, GRAY, BOLD}
    assert (RED in codes) == (name in WRONG)
