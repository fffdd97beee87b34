# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command asked of every format, of a host with KASLR and page-table isolation and of one
without: the answers are those of the raw image; or less, where the file holds less, and say so.

The document has the table; NEPT_WRITE_DOCUMENTS=1 puts that of today into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path

import pytest

from gdb_nept.commands.catalogue import NAMES, command_named
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.output import Sink
from gdb_nept.commands.triage import triage
from gdb_nept.errors import BadInput, NeptError
from gdb_nept.memory.dump import open_dump
from gdb_nept.render.page import Status
from tests import tools
from tests.dumps.written import FILTERED, WHOLE, every_format
from tests.questions import QUESTIONS
from tests.schemas import hold

pytestmark = [
    pytest.mark.bochs,
    pytest.mark.qemu,
    pytest.mark.kdumpfile,
    pytest.mark.makedumpfile,
]

DOCUMENT = Path(__file__).resolve().parents[2] / "gdb_nept" / "doc" / "support.md"
LIVE = ("watch", "diff")  # of a target that runs
COMMANDS = (*(name for name in NAMES if name not in LIVE), "triage")
#: That of the whole space takes 5 s of each file, and 0x6020000 is L1's on one machine alone.
ELSEWHERE = {("compare",), ("who", "0x6020000")}
ASKED = (
    *(words for words in QUESTIONS if words not in ELSEWHERE),
    ("compare", "0x1000000+32M"),
    ("who", "--l1", "--vm", "0", "0x1020000"),
    *(("export", "--l1"), ("export", "--l2"), ("triage",)),
)
TITLES = {**WHOLE, **FILTERED}
SAME, LESS = "same", "less"
TABLE = "<!-- tests/dumps/test_every_command.py -->\n"
#: Of a table, or of a journey, that is not all there.
TOLD = ("left out", "filtered", "unread", "missing", "not looked at")
#: Where a difference is in a detail that is told, of an answer that is whole.
DETAILS = {"check"}


@dataclass(frozen=True)
class Answer:
    status: Status
    data: str

    def tells(self) -> bool:
        """Whether it says that something is missing."""
        return any(word in self.data for word in TOLD)


Files = dict[str, Path]


@pytest.fixture(scope="module")
def files(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    folder = tmp_path_factory.mktemp("dumps")
    yield every_format(snapshot, folder)
    shutil.rmtree(folder, ignore_errors=True)


def answer(context: DumpContext, words: tuple[str, ...], folder: Path) -> Answer:
    """What --json says, but where the file is, how it is read, and how its kernel was found."""
    out = folder / "export"
    written: list[str] = []
    try:
        if words[0] == "triage":
            line = StringIO()
            status = triage.answer(context, (), line)
            written.append(line.getvalue())
        else:
            command = command_named(words[0])
            assert command is not None
            more = ("--output", str(out)) if words[0] == "export" else ()
            status = command.write_answer(
                context, (*words[1:], *more, "--json"), Sink(written.append)
            )
    except NeptError as error:
        return Answer(Status.NOT_FOUND, error.message)
    data = json.loads("".join(written))
    hold(words[0], data)
    if words[0] == "target":
        data = {key: data[key] for key in ("kernel", "missing")}
    elif words[0] == "triage":
        del data["file"]
    elif words[0] == "vmcs12":  # which copy counts hangs on who took the dump
        del data["notes"], data["vmcss_cleared"]
    elif words[0] == "export":
        data = {**data, "file": hashlib.sha256(out.read_bytes()).hexdigest()}
        out.unlink()
    return Answer(status, json.dumps(data))


@lru_cache(maxsize=2)
def answers(dump: Path, folder: Path) -> dict[tuple[str, ...], Answer]:
    context = DumpContext(dump, ())
    return {words: answer(context, words, folder) for words in ASKED}


def compared(files: Files, name: str) -> dict[str, str]:
    """Of each command whether all its answers are the same; what is less must say so."""
    if name not in files:
        tools.missing("makedumpfile", "there is no makedumpfile that writes this")
    try:
        open_dump(files[name]).close()
    except BadInput as error:
        if "is flattened" in str(error):
            tools.missing("kdumpfile", "no libkdumpfile here reads flattened files")
        raise
    folder = files["elf"].parent
    raw, found = answers(files["raw"], folder), answers(files[name], folder)
    told = dict.fromkeys(COMMANDS, SAME)
    for words in ASKED:
        assert raw[words].status is not Status.NOT_FOUND, words
        if found[words] == raw[words]:
            continue
        told[words[0]] = LESS
        assert found[words].tells(), f"{name}: {words}: {found[words]}"
        assert found[words].status is not Status.DONE or words[0] in DETAILS, f"{name}: {words}"
    return told


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "raw"])
def test_of_a_whole_dump_every_answer_is_that_of_the_raw_image(files: Files, name: str) -> None:
    found = compared(files, name)
    assert set(found.values()) == {SAME}
    assert documented(name, found) == [SAME] * len(COMMANDS)


@pytest.mark.parametrize("name", FILTERED)
def test_of_a_filtered_dump_the_rest_says_what_it_lacks(files: Files, name: str) -> None:
    found = compared(files, name)
    assert LESS in found.values()
    assert documented(name, found) == [found[command] for command in COMMANDS]


def documented(name: str, found: dict[str, str]) -> list[str]:
    """What the table in the document says of each command."""
    if os.environ.get("NEPT_WRITE_DOCUMENTS"):
        _write(name, found)
    head, *rows = _table()
    assert head[1:] == [f"`{command}`" for command in COMMANDS]
    (cells,) = (cells[1:] for cells in rows if cells[0] == TITLES[name])
    return cells


def _table() -> list[list[str]]:
    lines = DOCUMENT.read_text().split(TABLE)[1].strip().split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def _write(name: str, found: dict[str, str]) -> None:
    rows = {cells[0]: cells[1:] for cells in _table()[1:]}
    rows[TITLES[name]] = [found[command] for command in COMMANDS]
    lines = [["dump", *(f"`{command}`" for command in COMMANDS)], ["---"] * (len(COMMANDS) + 1)]
    lines += [[title, *rows[title]] for title in TITLES.values() if title in rows]
    made = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    before, _, after = DOCUMENT.read_text().partition(TABLE)
    rest = after.split("\n\n", 1)[1] if "\n\n" in after else ""
    DOCUMENT.write_text(f"{before}{TABLE}{made}\n{rest}")
