# SPDX-License-Identifier: GPL-2.0-or-later
"""A word decoded bit by bit: what nept-decode answers.

JSON: kind, title, value, meaning (a sentence or null), problem (null if there is none), fields
[name, bits, value, meaning]; of an SPTE also notes [text].
"""

from __future__ import annotations

from gdb_nept.arch.bits import Named, Word
from gdb_nept.arch.ept import LEVEL_NAMES
from gdb_nept.kvm.spte import Spte
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Table


def word_page(
    kind: str, word: Word, meaning: str = "", problem: str = "", zeros: bool = False
) -> Page:
    """`meaning` is what the word says as a whole, `problem` what is wrong with it."""
    sentences = [f"problem: {problem}" if problem else "", meaning]
    head = "\n".join([f"{word.title} {word.value:#x}", *(one for one in sentences if one)])
    table = word_table(word, zeros)
    body = table if table.rows else "No bit is set."
    return Page((head, body), _data(kind, word, meaning, problem, zeros))


def spte_page(spte: Spte, form: str, notes: tuple[str, ...] = ()) -> Page:
    """An SPTE as KVM means it; `form` names the format, `notes` say what is doubtful about it."""
    meaning = f"{spte.kind.value}, found as a {LEVEL_NAMES[spte.level]} (format of Linux {form})"
    if spte.protection:
        meaning += f"; {spte.protection}"
    table = _table(spte.parts)
    head = f"SPTE {spte.value:#x}\n{meaning}"
    data: dict[str, Data] = {
        "kind": "spte",
        "title": "SPTE",
        "value": hexed(spte.value),
        "meaning": meaning,
        "problem": None,
        "fields": _fields(spte.parts),
        "notes": list[Data](notes),
    }
    body = table if table.rows else "No bit is set."
    return Page((head, body, *(f"note: {note}" for note in notes)), data)


def word_table(word: Word, zeros: bool = False) -> Table:
    return _table(word.named(zeros))


def word_fields(word: Word, zeros: bool = False) -> list[Data]:
    return _fields(word.named(zeros))


def _table(parts: tuple[Named, ...]) -> Table:
    rows = tuple((one.place, one.name, _short(one.number), one.meaning) for one in parts)
    return Table(("bits", "name", "value", "meaning"), rows, right=(0, 2))


def _short(number: int) -> str:
    return str(number) if number < 10 else f"{number:#x}"


def _fields(parts: tuple[Named, ...]) -> list[Data]:
    return [
        {"name": one.name, "bits": one.place, "value": hexed(one.number), "meaning": one.meaning}
        for one in parts
    ]


def _data(kind: str, word: Word, meaning: str, problem: str, zeros: bool) -> dict[str, Data]:
    return {
        "kind": kind,
        "title": word.title,
        "value": hexed(word.value),
        "meaning": meaning or None,
        "problem": problem or None,
        "fields": word_fields(word, zeros),
    }
