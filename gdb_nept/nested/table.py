# SPDX-License-Identifier: GPL-2.0-or-later
"""One EPT of a nested vCPU, to be asked and listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, cast

from gdb_nept.address import In, Out
from gdb_nept.arch.ept import Eptp
from gdb_nept.kvm.spte import Spte
from gdb_nept.kvm.spte_format import spte_format
from gdb_nept.memory.budget import UNBOUNDED, Budget
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.derived_rows import DerivedRun, with_derived
from gdb_nept.nested.epts import Which
from gdb_nept.nested.listing import sptes
from gdb_nept.nested.session import Session
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.result import Walk
from gdb_nept.walk.runs import Found, Hole, Run, Unread, with_holes


class Table(Generic[In, Out]):
    """`eptp` is its root, `refusal` why VM entry refuses that of an EPT12, `caveats` why EPT12 may
    be another than L1 means.  Raises NoGuest where there is no such EPT now."""

    def __init__(self, session: Session, chosen: Chosen, which: Which) -> None:
        self.which = which
        self._ept = session.ept(chosen, which)
        self._session = session
        self._chosen = chosen

    @property
    def eptp(self) -> Eptp:
        return self._ept.eptp

    @property
    def refusal(self) -> str:
        return self._ept.refusal

    @property
    def caveats(self) -> tuple[str, ...]:
        return self._ept.caveats

    def walk(self, address: In) -> Walk[In, Out]:
        """Every entry on the way of one address; `stop` says where and why it ended early."""
        found: Any = walk_ept(cast(Any, self._ept.memory), self.eptp, address, self._ept.cpu)
        return cast("Walk[In, Out]", found)

    def runs(
        self, low: int = 0, high: int | None = None, limit: int = UNBOUNDED
    ) -> Iterator[Run[In, Out] | Hole | Unread]:
        """What is mapped from `low` up to `high`, neighbours as one, with the holes between, in
        order, as the tables are read.  What cannot be read is an Unread; so is what is left once
        `limit` entries were looked at."""
        end = self.eptp.reach if high is None else high
        return with_holes(self._scan(low, end, limit).found(), low, end)

    def derived_runs(
        self, low: int = 0, high: int | None = None, limit: int = UNBOUNDED
    ) -> Iterator[Run[In, Out] | Hole | Unread | DerivedRun]:
        """As runs(), and of an EPT12 that cannot be read (a filtered dump) what KVM noted of it for
        its shadow, in place of a part of the Unread.  Of KVM's own EPTs the same as runs()."""
        found = self.runs(low, high, limit)
        if self.which is not Which.L1:
            return found
        rows: Any = found
        made: Any = with_derived(self._session, self._chosen, self.eptp, rows, Budget(limit))
        return cast("Iterator[Run[In, Out] | Hole | Unread | DerivedRun]", made)

    def entries(
        self, low: int = 0, high: int | None = None, limit: int = UNBOUNDED
    ) -> Iterator[Found[In, Out]]:
        """Each leaf and each misconfigured entry by itself, in order."""
        end = self.eptp.reach if high is None else high
        return cast("Iterator[Found[In, Out]]", self._scan(low, end, limit).entries())

    def _scan(self, low: int, high: int, limit: int) -> Any:
        scan = self._session.scan(self._ept, low, high)
        scan.budget = Budget(limit)
        return scan

    def spte(self, entry: Run[In, Out]) -> Spte | None:
        """What KVM means by an entry of its own; None for EPT12, whose entries L1 wrote."""
        if self.which is Which.L1:
            return None
        form = spte_format(self._session.kernel, self._chosen.owner.value)
        return sptes(form)(entry.word, entry.level)
