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
from bochs_lab import snapshot as lab
from bochs_lab.options import STATES, LabOptions

from gdb_nept.commands.catalogue import command_named
from gdb_nept.commands.dump_context import DumpContext
from tests.documents.replayed import alike, blocks, replayed, rewritten

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
