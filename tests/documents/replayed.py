# SPDX-License-Identifier: GPL-2.0-or-later
"""What documents show of the tool, asked again of the lab's snapshots.

A block of a document that shows answers stands behind a comment that says where they are from:

    <!-- lab: l2 -->        each line "(gdb) nept-..." is asked of the simplest machine's snapshot
                            at that park point (or in that of its states), and what follows
                            must be the answer
    <!-- live: start -->    the same of a machine that runs, from that park point on, all blocks of
                            a document in one gdb; "..." stands for lines left out of an answer
    <!-- by hand: WHY -->   it cannot be asked again in a test

Addresses of the host, process numbers and times differ from boot to boot: numbers are not compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PROMPT = "(gdb) "
FENCE = "```"
LEFT_OUT = "..."
_FROM = re.compile(r"<!-- (lab|live|by hand): (.*) -->")
_NUMBER = re.compile(r"\b\d+\.\d+(?= s\b)|0x[0-9a-f]+|\b\d{2,}\b|(?<=\[)[ \d]{2}\d(?=\])")

Answer = Callable[[str, str], str]  # the park point, the line; what is answered


@dataclass(frozen=True)
class Block:
    """`start` and `end`: its lines in the document, without the fences."""

    start: int
    end: int
    source: str  # "lab", "live", "by hand", or "" where no comment says it
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
    for line, shown in asked(block):
        if found and block.source == "lab":
            found.append("")
        found += [line, *shortened(answer(block.place, line[len(PROMPT) :]).splitlines(), shown)]
    return found


def asked(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each line at the prompt, and what the document shows as its answer."""
    starts = [at for at, line in enumerate(block.lines) if line.startswith(PROMPT)]
    for start, end in zip(starts, [*starts[1:], len(block.lines)]):
        yield block.lines[start], list(block.lines[start + 1 : end])


def shortened(answer: list[str], shown: list[str]) -> list[str]:
    """`answer` without what `shown` leaves out of it: as many lines from its start, and from the
    line on with which the rest of `shown` begins."""
    if LEFT_OUT not in shown:
        return answer
    at = shown.index(LEFT_OUT)
    rest = shown[at + 1 : at + 2]
    places = [place for place, line in enumerate(answer) if place >= at and alike([line], rest)]
    return [*answer[:at], LEFT_OUT, *(answer[places[0] :] if places else [])]


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
