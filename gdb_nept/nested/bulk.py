# SPDX-License-Identifier: GPL-2.0-or-later
"""EPT12 against EPT02 over a whole space, in one pass through both.

Both trees are followed in step.  A page's verdict is nested/verdict.py's own, asked for once for
all pages that nothing tells apart which a verdict can hang on: the entries on both ways without
their addresses, KVM's notes of its tables, the memslot, and whether the addresses match.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Optional, Union

from gdb_nept.address import L2Phys
from gdb_nept.memory.budget import Budget
from gdb_nept.nested.agreement import Agreement, Fault, Verdict
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.journey import Hop
from gdb_nept.nested.pairs import Pairs
from gdb_nept.nested.session import Session
from gdb_nept.nested.sides import Pair
from gdb_nept.nested.verdict import verdict
from gdb_nept.walk.runs import Unread

ENTRIES = 1 << 25  # of both tables and of large pages' parts: some 10 seconds
MOST_VERDICTS = 1 << 16


class Stretch(NamedTuple):
    """All pages from `start` up to `end` have this verdict.  `how` EPT12 is known there: where it
    is derived, `one_host_page` tells whether the L1 page that KVM noted and KVM's shadow lead to
    the same page of the host; None where one of them leads to none."""

    start: int
    end: int
    agreement: Agreement
    fault: Fault
    how: Hop = Hop.READ
    one_host_page: Optional[bool] = None


Compared = Union[Stretch, Unread]
Told = tuple[Agreement, Fault, Hop, Optional[bool]]  # of a Stretch


@dataclass
class Comparison:
    """EPT12 of a vCPU against EPT02."""

    session: Session
    chosen: Chosen
    budget: Budget = field(default_factory=lambda: Budget(ENTRIES))

    def stretches(self, low: int = 0, high: int | None = None) -> Iterator[Compared]:
        """In order, without gaps, from `low` up to `high`, by default all that EPT12 can translate.
        Raises NoGuest where L1 has no EPT12."""
        pairs = Pairs(self.session, self.chosen)
        high = pairs.reach if high is None else min(high, pairs.reach)
        last: Compared | None = None
        for one in self._found(pairs, low, high):
            if isinstance(last, Stretch) and isinstance(one, Stretch) and last[2:] == one[2:]:
                last = last._replace(end=one.end)
                continue
            if last is not None:
                yield last
            last = one
        if last is not None:
            yield last

    def verdict(self, address: L2Phys) -> Verdict:
        """What nept-walk says of one address."""
        return verdict(self.session.journey(self.chosen, address))

    def _found(self, pairs: Pairs, low: int, high: int) -> Iterator[Compared]:
        known: dict[object, Told] = {}
        path = [pairs.top()] if low < high else []
        while path:
            pair = path[-1]
            if not pair.charged:
                pair.charged = True
                if not self.budget.take(pair.cost):
                    start = max(low, pair.base)
                    yield Unread(start, high, f"not looked at: {self.budget.spent}", True)
                    return
            below: Pair | None = None
            for start, size, mark, below in pairs.entries(pair, low, high):
                if below is not None:
                    break
                if mark not in known:
                    known[mark] = self._asked(start, known)
                yield Stretch(max(start, low), min(start + size, high), *known[mark])
            if below is None:
                path.pop()
            else:
                path.append(below)

    def _asked(self, start: int, known: dict[object, Told]) -> Told:
        if len(known) >= MOST_VERDICTS:
            known.clear()
        journey = self.session.journey(self.chosen, L2Phys(start))
        found = verdict(journey)
        derived = journey.derived.host_physical if journey.derived else None
        both = None if None in (derived, journey.shadowed) else derived == journey.shadowed
        return found.agreement, found.fault, journey.hops["EPT12"], both
