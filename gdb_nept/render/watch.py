# SPDX-License-Identifier: GPL-2.0-or-later
"""What nept-watch shows: a line for each fault as it happens, and their counts at the end.

JSON: watched [name, address, how], model, ended (why), counts [outcome, faults, agree, as_sdm,
access_not_seen, differ], causes [key, text, faults], faults [as in render/fault.py].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from string import ascii_letters

from gdb_nept.live.injection import Point
from gdb_nept.live.kept import Kept
from gdb_nept.live.watch import Event, Unread
from gdb_nept.render import text
from gdb_nept.render.fault import (
    HEADERS,
    INDENT,
    UNNAMED,
    WIDTHS,
    causes_of,
    cells_of,
    columns,
    fault_data,
    outcome_of,
    short_verdict,
    why_differs,
)
from gdb_nept.render.json import hexed
from gdb_nept.render.page import WIDTH, Data, Page, Table


def heading(points: tuple[Point, ...], model: str, area: tuple[int, int] | None, width: int) -> str:
    """What is watched, and two lines above the first fault."""
    stops = [f"stops at {point.name} ({point.address:#x}, {point.how})" for point in points]
    where = [f"faults from L2 {area[0]:#x} to below {area[1]:#x}"] if area else []
    said = "; ".join([*stops, *where, f"model {model}", "Ctrl-C ends it"])
    rule = columns(tuple("-" * each for each in WIDTHS), width)
    names = columns(HEADERS, width)
    return f"{text.paragraph(said, width)}\n{names}  verdict\n{rule}  -------"


@dataclass
class Count:
    """The faults of one outcome."""

    faults: int = 0
    agree: int = 0
    as_sdm: int = 0
    unseen: int = 0  # of those that agree: the processor did not report the access
    differ: int = 0


@dataclass
class Tally:
    """What was watched so far.  A cause is told in full once, and by its letter from then on; so is
    in what a fault differs, whether a cause is named for it or not.  `keep`: the data of every
    fault, not of the last alone.  `width`: columns to tell it in."""

    keep: bool = False
    width: int = WIDTH
    number: int = 0
    counts: dict[str, Count] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    faults: list[Data] = field(default_factory=list)

    def take(self, event: Event) -> str:
        """Count it; its line, with what is new about it below."""
        data = fault_data(self.number + 1, event)
        outcome, names = outcome_of(event), causes_of(event)
        self.number += 1
        if not self.keep:
            self.faults.clear()
        self.faults.append(data)
        count = self.counts.setdefault(outcome, Count())
        count.faults += 1
        count.agree += event.agrees
        count.unseen += event.agrees and event.seen is None
        count.differ += event.differs and not isinstance(event, Unread)
        count.as_sdm += event.agrees and (isinstance(event, Kept) or not names)
        new = not names or any(name not in self.causes for name in names)
        told = [why_differs(event)] if new and not event.agrees else []
        for name in names:
            if name not in self.causes and not isinstance(event, Unread):
                # in what one without a known cause differs stands above already
                said = UNNAMED if told and name.startswith(UNNAMED) else name
                told.append(f"[{self.letter(name)}] {said}")
            self.causes[name] = self.causes.get(name, 0) + 1
        letters = f" [{''.join(self.letter(name) for name in names)}]" if names else ""
        cells = columns(cells_of(self.number, event), self.width)
        line = f"{cells}  {short_verdict(event, names)}{letters}"
        return "\n".join([line, *(text.paragraph(INDENT + each, self.width) for each in told)])

    def letter(self, name: str) -> str:
        """That of a cause: a to z, then A to Z; fewer rules and deviations are known."""
        place = list(self.causes).index(name) if name in self.causes else len(self.causes)
        return ascii_letters[place : place + 1] or "?"


def watch_page(
    tally: Tally, points: tuple[Point, ...], model: str, ended: str, passed: int = 0
) -> Page:
    """The verdict over all of them first.  `passed`: faults outside the range asked for."""
    rows = [
        (
            name,
            *(str(n) for n in (one.faults, one.agree, one.as_sdm, one.unseen, one.differ)),
        )
        for name, one in tally.counts.items()
    ]
    blocks: list[str | Table] = [_head(tally, ended, passed)]
    if rows:
        headers = ("exit made for L1", "faults", "agree", "as the SDM", "access not seen", "differ")
        table = tuple((*row, "") for row in rows)
        blocks.append(Table((*headers, ""), table, right=(1, 2, 3, 4, 5)))
    if tally.causes:
        causes = [(f"[{tally.letter(name)}]", str(n), name) for name, n in tally.causes.items()]
        blocks.append(Table(("", "faults", "cause"), tuple(causes), right=(1,)))
    return Page(tuple(blocks), _data(tally, points, model, ended))


def _head(tally: Tally, ended: str, passed: int) -> str:
    """130 faults watched, 2 differ; interrupted"""
    counts = tally.counts.values()
    differ, agree = sum(one.differ for one in counts), sum(one.agree for one in counts)
    found = ""
    if differ:
        found = f", {differ} {'differs' if differ == 1 else 'differ'}"
    elif tally.number and agree == tally.number:
        found = " and agrees" if agree == 1 else ", all agree"
    elif tally.number:
        found = f", {tally.number - agree} not known"
    outside = f"; {text.count(passed, 'fault')} outside the range not looked at" if passed else ""
    return f"{text.count(tally.number, 'fault')} watched{found}; {ended}{outside}"


def _data(tally: Tally, points: tuple[Point, ...], model: str, ended: str) -> dict[str, Data]:
    return {
        "watched": [
            {"name": point.name, "address": hexed(point.address), "how": point.how}
            for point in points
        ],
        "model": model,
        "ended": ended,
        "counts": [
            {
                "outcome": name,
                "faults": one.faults,
                "agree": one.agree,
                "as_sdm": one.as_sdm,
                "access_not_seen": one.unseen,
                "differ": one.differ,
            }
            for name, one in tally.counts.items()
        ],
        "causes": [
            {"key": tally.letter(name), "text": name, "faults": number}
            for name, number in tally.causes.items()
        ],
        "faults": list[Data](tally.faults if tally.keep else []),
    }
