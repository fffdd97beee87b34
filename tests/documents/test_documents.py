# SPDX-License-Identifier: GPL-2.0-or-later
"""Every answer that a document shows is one that the tool gives.

NEPT_WRITE_DOCUMENTS=1 puts the answers of today into the documents.
"""

from __future__ import annotations

import os
import shlex
from functools import lru_cache
from pathlib import Path

import pytest
from bochs_lab import machine
from bochs_lab import snapshot as lab
from bochs_lab.options import STATES, LabOptions

from gdb_nept.commands.catalogue import command_named
from gdb_nept.commands.dump_context import DumpContext
from tests.documents.replayed import PROMPT, alike, asked, blocks, replayed, rewritten, shortened
from tests.gdb.batch import answers
from tests.lab.command import lab as lab_command

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "gdb_nept" / "doc").glob("*.md")))

SAMPLE = """\
<!-- lab: l2 -->
```
(gdb) nept-vms
VM  pid
 0  101
```

```
(gdb) nept-walk 0x1000
nothing
```

<!-- by hand: live -->
```
(gdb) nept-watch
a fault
```

```
(gdb) nept-vms
(gdb) nept-target
```
"""


def test_where_answers_are_from() -> None:
    found = list(blocks(SAMPLE))
    assert [(one.source, one.place) for one in found] == [
        ("lab", "l2"),
        ("", ""),
        ("by hand", "live"),
    ]


def test_numbers_are_not_compared_and_words_are() -> None:
    first = next(blocks(SAMPLE))
    same = replayed(first, lambda place, line: "VM  pid\n 0  2345")
    assert alike(list(first.lines), same)
    assert not alike(list(first.lines), replayed(first, lambda place, line: "VM  PID\n 0  101"))
    changed = rewritten(SAMPLE, lambda place, line: f"{place} {line}")
    assert changed == SAMPLE.replace("VM  pid\n 0  101", "l2 nept-vms")


def test_lines_that_a_document_leaves_out_are_not_compared() -> None:
    answer = ["head", "row 10", "row 20", "row 30", "20 in all", "note"]
    assert shortened(answer, ["head", "..."]) == ["head", "..."]
    shown = ["head", "row 11", "...", "21 in all", "old"]
    assert shortened(answer, shown) == ["head", "row 10", "...", "20 in all", "note"]
    assert shortened(answer, ["old"]) == answer
    assert alike(["that took 0.003 s"], ["that took 0.2 s"])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_each_answer_says_where_it_is_from(document: Path) -> None:
    for one in blocks(document.read_text()):
        assert one.source, f"{document.name}:{one.start}: a lab or by hand?"


@lru_cache(maxsize=4)
def at(place: str) -> DumpContext:
    return DumpContext(
        lab.ensure(LabOptions(park=place, states=place in STATES)) / "memory.raw", ()
    )


def answer(place: str, line: str) -> str:
    name, *words = shlex.split(line)
    command = command_named(name)
    assert command is not None, line
    return command.answer(at(place), words, coloured=False)


@pytest.mark.bochs
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_answers_are_those_of_today(document: Path) -> None:
    text = document.read_text()
    if os.environ.get("NEPT_WRITE_DOCUMENTS"):
        document.write_text(rewritten(text, answer))
        return
    of_the_lab = [one for one in blocks(text) if one.source == "lab"]
    for one in of_the_lab:
        wanted = replayed(one, answer)
        assert alike(list(one.lines), wanted), f"{document.name}:{one.start}\n" + "\n".join(wanted)


@pytest.mark.bochs
@pytest.mark.gdb
def test_answers_of_a_running_machine_are_those_of_today(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = ROOT / "gdb_nept" / "doc" / "live.md"
    text = document.read_text()
    live = [one for one in blocks(text) if one.source == "live"]
    at("l2").session().vms()  # so that the cache of kernels knows this build
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    lines = [line[len(PROMPT) :] for one in live for line, _ in asked(one)]
    try:
        done = lab_command("up", "--stub", "--park", live[0].place)
        assert done.returncode == 0, done.stderr
        target = f"target remote 127.0.0.1:{done.stdout.split(':')[-1].strip()}"
        told = iter(answers([target], lines, timeout=300, last="disconnect"))
    finally:
        machine.down()
    wanted = {one.start: replayed(one, lambda *_: next(told)) for one in live}
    if os.environ.get("NEPT_WRITE_DOCUMENTS"):
        lines = text.splitlines()
        for one in reversed(live):
            lines[one.start : one.end] = wanted[one.start]
        document.write_text("\n".join(lines) + "\n")
        return
    for one in live:
        assert alike(list(one.lines), wanted[one.start]), "\n".join(wanted[one.start])
