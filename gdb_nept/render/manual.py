# SPDX-License-Identifier: GPL-2.0-or-later
"""A command's manual, which is written in lines of 100 columns, in those of a terminal."""

from __future__ import annotations

import re
import textwrap

from gdb_nept.render.page import WIDTH

USAGE = "Usage: "
_OPTIONS = re.compile(r"\[[^\]]*(?:\[[^\]]*\][^\]]*)*\]\S*|\([^)]*\)|\S+")


def fitted(manual: str, width: int = WIDTH) -> str:
    """Its paragraphs in `width` columns; what is set off by spaces stands as it is."""
    return "\n\n".join(_block(block, width) for block in manual.split("\n\n"))


def _block(block: str, width: int) -> str:
    lines = block.splitlines()
    if block.startswith(USAGE):
        return _usage(block, width)
    if any(line.startswith(" ") for line in lines):
        return block
    return textwrap.fill(" ".join(lines), width, break_on_hyphens=False, break_long_words=False)


def _usage(block: str, width: int) -> str:
    """Each way to call it; one begins where the first does, and goes on further in."""
    calls: list[list[str]] = []
    for line in block.splitlines():
        if line[len(USAGE)].isspace():
            calls[-1].append(line)
        else:
            calls.append([line])
    return "\n".join(_call(first, others, width) for first, *others in calls)


def _call(first: str, others: list[str], width: int) -> str:
    """Broken between options, which go on below the first."""
    if others:
        place = len(others[0]) - len(others[0].lstrip())
    else:
        place = min(first.find(sign) for sign in "[(" if sign in first) if "[" in first else 0
    indent = " " * (place - 1)
    lines = [first[:place].rstrip()]
    for option in _OPTIONS.findall(" ".join([first[place:], *others])):
        if len(lines[-1]) + 1 + len(option) > width and lines[-1].strip():
            lines.append(indent)
        lines[-1] += f" {option}"
    return "\n".join(lines)
