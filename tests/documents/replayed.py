# SPDX-License-Identifier: GPL-2.0-or-later
"""What documents show of the tool, asked again of the lab's snapshots.

A block of a document that shows answers stands behind a comment that says where they are from:

    <!-- lab: l2 -->        each line "(gdb) nept-..." is asked of the simplest machine's snapshot
                            at that park point (or in that of its states), and what follows
                            must be the answer
    <!-- by hand: WHY -->   it cannot be asked again in a test

Addresses of the host and process numbers differ from boot to boot: numbers are not compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PROMPT = "(gdb) "
FENCE = "```"
_FROM = re.compile(r"<!-- (lab|by hand): (.*) -->")
_NUMBER = re.compile(r"0x[0-9a-f]+|\b\d{2,}\b|(?<=\[)[ \d]{2}\d(?=\])")

Answer = Callable[[str, str], str]  # the park point, the line; what is answered


@dataclass(frozen=True)
class Block:
    """`start` and `end`: its lines in the document, without the fences."""

    start: int
    end: int
    source: str  # "lab", "by hand", or "" where no comment says it
    place: str
    lines: tuple[str, ...]


def blocks(text: str) -> Iterator[Block]:
    """Those that show answers: a line at gdb's prompt with lines behind it that are none."""
    lines = text.splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith(FENCE):
            continue
        if start is None:
            start = number + 1
            continue
        inside = tuple(lines[start:number])
        if _shows_answers(inside):
            said = _FROM.fullmatch(lines[start - 2]) if start > 1 else None
            source, place = (said[1], said[2]) if said else ("", "")
            yield Block(start, number, source, place, inside)
        start = None


def _shows_answers(lines: tuple[str, ...]) -> bool:
    asked = [line.startswith(PROMPT + "nept-") for line in lines]
    return any(asked) and not all(line.startswith(PROMPT) for line in lines if line)


def replayed(block: Block, answer: Answer) -> list[str]:
    """The block as it must be."""
    found: list[str] = []
    for line in block.lines:
        if line.startswith(PROMPT):
            found += [""] if found else []
            found += [line, *answer(block.place, line[len(PROMPT) :]).splitlines()]
    return found


def alike(one: list[str], other: list[str]) -> bool:
    """But for numbers, among them an index into a table, filled up to three places."""
    return [_NUMBER.sub("#", line) for line in one] == [_NUMBER.sub("#", line) for line in other]


def rewritten(text: str, answer: Answer) -> str:
    """The document with each block of the lab's as it must be, where it is not."""
    lines = text.splitlines()
    for block in reversed(list(blocks(text))):
        if block.source == "lab":
            wanted = replayed(block, answer)
            if not alike(list(block.lines), wanted):
                lines[block.start : block.end] = wanted
    return "\n".join(lines) + "\n"
