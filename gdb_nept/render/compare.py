# SPDX-License-Identifier: GPL-2.0-or-later
"""EPT12 against EPT02, stretch by stretch: what nept-compare answers.

JSON: vm, vcpu, stretches [start, end (L2 physical), size, agreement and fault (null: not looked
at), how (EPT12 is known: read, derived or missing; null as before), one_host_page (of what is
derived: whether it and EPT02 lead to one page of the host; null: one of them to none), why (of the
first page, if stale, broken or derived and not of one host page; or why it was not looked at; or
null)], totals [agreement, fault, how, bytes, stretches], complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice

from gdb_nept.address import L2Phys
from gdb_nept.nested.agreement import WRONG, Agreement, Fault
from gdb_nept.nested.bulk import Compared, Comparison, Stretch, Told
from gdb_nept.nested.journey import Hop
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Cells, Data, Page, Status, Table

HEADERS = ("from", "to", "size", "verdict", "at fault", "why")
AHEAD = 1000  # rows that are waited for, so that the totals come first
SAME = {True: ": one page", False: ": two pages", None: ""}
LEGEND = (
    "derived: EPT12 cannot be read there, and KVM noted for its shadow where it leads; one page, "
    "two pages: whether that and EPT02 lead to the same page of the host"
)
MOST_WHYS = 1000  # verdicts in full: each costs a walk by three ways


def compare_page(asked: Comparison, low: int, high: int | None) -> Page:
    """The totals come first where the rows are few enough to wait for, else behind them.  Raises
    NoGuest where L1 has no EPT12."""
    rows = _Rows(asked, asked.stretches(low, high))
    vm, vcpu = asked.chosen.vm, asked.chosen.place
    return Page(
        (
            lambda: f"EPT12 against EPT02 of VM {vm}, vCPU {vcpu}{rows.ahead()}",
            lambda: rows.totals() if rows.all_ahead else "",
            Table(HEADERS, rows.cells(), right=(2,), rest=rows.rest),
            lambda: "" if rows.all_ahead else rows.totals(),
            lambda: "" if rows.all_ahead else rows.outcome(),
            rows.reasons,
            rows.legend,
        ),
        {
            "vm": vm,
            "vcpu": vcpu,
            "stretches": rows.data(),
            "totals": rows.sums,
            "complete": lambda: rows.complete,
        },
        rows.status,
        lines="stretches",
    )


@dataclass
class _Rows:
    """The stretches as they come; each is counted once, as it comes or `ahead`."""

    asked: Comparison
    found: Iterator[Compared]
    all_ahead: bool = False
    complete: bool = True
    counts: dict[Told, tuple[int, int]] = field(default_factory=dict)
    whys: list[str] = field(default_factory=list)

    def ahead(self) -> str:
        """': the outcome' before any row is drawn, or '' if there are too many to wait for."""
        first = list(islice(self.found, AHEAD))
        self.found = chain(first, self.found)
        if len(first) == AHEAD:
            return ""
        for one in first:
            self._count(one)
        self.all_ahead = True
        return f": {self.outcome()}"

    def _each(self) -> Iterator[Compared]:
        for one in self.found:
            if not self.all_ahead:
                self._count(one)
            yield one

    def _count(self, one: Compared) -> None:
        if not isinstance(one, Stretch):
            self.complete = False
            return
        size, count = self.counts.get(one[2:], (0, 0))
        self.counts[one[2:]] = size + one.end - one.start, count + 1

    def outcome(self) -> str:
        """What is wrong, and whether that is all."""
        kinds = self._kinds()
        parts = [] if kinds & set(WRONG) else ["nothing is stale or broken"]
        for told, (size, _) in sorted(self.counts.items(), key=_gravity):
            kind, fault = told[:2]
            if kind in WRONG or kind is Agreement.UNREADABLE or fault is not Fault.NOBODY:
                named = f" (at fault: {fault.value})" if kind in WRONG else ""
                parts.append(f"{text.size(size)} {_words(told)}{named}")
        if not self.complete:
            parts.append("not everything was looked at")
        return "; ".join(parts)

    def rest(self) -> int:
        """Counts the rows that were not taken."""
        return sum(1 for _ in self._each())

    def _why(self, one: Compared) -> str:
        if not isinstance(one, Stretch):
            return one.why
        asked = one.agreement in WRONG or one.one_host_page is False
        if not asked or len(self.whys) >= MOST_WHYS:
            return ""
        self.whys.append(self.asked.verdict(L2Phys(one.start)).sentence)
        return self.whys[-1]

    def cells(self) -> Iterator[Cells]:
        for one in self._each():
            verdict, fault = ("?", "")
            if isinstance(one, Stretch):
                verdict = _words(one[2:])
                fault = "" if one.fault is Fault.NOBODY else one.fault.value
            bounds = text.address(one.start), text.address(one.end - 1)
            why = self._why(one)
            if why and isinstance(one, Stretch):
                why = f"({len(self.whys)})"
            yield (*bounds, text.size(one.end - one.start), verdict, fault, why)

    def data(self) -> Iterator[Data]:
        for one in self._each():
            told = one if isinstance(one, Stretch) else None
            yield {
                "start": hexed(one.start),
                "end": hexed(one.end),
                "size": one.end - one.start,
                "agreement": told.agreement.value if told else None,
                "fault": told.fault.value if told else None,
                "how": told.how.value if told else None,
                "one_host_page": told.one_host_page if told else None,
                "why": self._why(one) or None,
            }

    def sums(self) -> Data:
        return [
            {
                "agreement": kind.value,
                "fault": fault.value,
                "how": how.value,
                "one_host_page": same,
                "bytes": size,
                "stretches": count,
            }
            for (kind, fault, how, same), (size, count) in self.counts.items()
        ]

    def totals(self) -> Table:
        rows = [
            (_words(told), told[1].value, text.size(size), str(count))
            for told, (size, count) in self.counts.items()
        ]
        return Table(("verdict", "at fault", "in all", "rows"), rows, right=(2, 3))

    def reasons(self) -> str:
        """Those that rows refer to; each is of the row's first page."""
        return "\n".join(f"({number}) {why}" for number, why in enumerate(self.whys, 1))

    def legend(self) -> str:
        return LEGEND if any(told[2] is Hop.DERIVED for told in self.counts) else ""

    def _kinds(self) -> set[Agreement]:
        return {told[0] for told in self.counts}

    def status(self) -> Status:
        kinds = self._kinds()
        if kinds & set(WRONG):
            return Status.DIFFERS
        if Agreement.UNREADABLE in kinds:
            return Status.UNREAD
        return Status.DONE if self.complete else Status.INCOMPLETE


def _words(told: Told) -> str:
    """The verdict; and where EPT12 is derived, whether that and EPT02 lead to one page."""
    kind, _, how, same = told
    if how is not Hop.DERIVED:
        return kind.value
    return f"{kind.value}, {how.value}{SAME[same]}"


def _gravity(counted: tuple[Told, tuple[int, int]]) -> tuple[bool, int]:
    """What is wrong first, the most of it first."""
    (kind, *_), (size, _) = counted
    return kind not in WRONG, -size
