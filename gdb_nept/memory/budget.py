# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of a target one command looks at.

The memory of a crashed machine, or of a guest that means harm, can lead to itself for ever, and its
lists multiply: what bounds the work is what is looked at, not what comes out.  A command works
within one Budget, which entries of tables and fields of the kernel's structures are charged to
before they are read.  It is told how far it is, too, which makes progress visible.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Callable

from gdb_nept.errors import MemoryUnreadable

ENTRIES = 1 << 22  # 8,192 whole tables; a second or two
FIELDS = 1 << 18  # of some 3,000 vCPUs; two or three seconds
ENTRIES_A_FIELD = 16  # what a field costs, in entries
UNBOUNDED = 1 << 62  # entries, for a caller that bounds the work itself
BEAT = 64  # fields between two looks at the clock

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much at most


class NotLookedAt(MemoryUnreadable):
    """What would be read costs more than the command may spend."""

    def __init__(self, address: int, size: int, spent: str) -> None:
        super().__init__(address, size, f"not looked at: {spent}")
        self.message = self.why
        self.args = (self.why,)


@dataclass
class Budget:
    """Entries and fields that may be looked at, and that were.  `ran_out` once there were more, and
    `fields_ran_out` says after how many fields."""

    limit: int = ENTRIES
    used: int = 0
    tables: int = 0
    fields: int = 0
    ran_out: bool = False
    fields_ran_out: str = ""
    dry: bool = False  # no more fields
    progress: Progress | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.most_fields = max(FIELDS, self.limit // ENTRIES_A_FIELD)

    def take(self, entries: int, what: str = "looking at tables") -> bool:
        """Whether a table of so many entries may still be looked at, or as many other things."""
        if self.used + entries > self.limit:
            self.ran_out = True
            return False
        self.used += entries
        self.tables += 1
        if self.progress is not None:
            self.progress(what, self.used, self.limit)
        return True

    def field(self, address: int, size: int, count: int = 1) -> None:
        """Charges fields of structures.  Raises NotLookedAt."""
        if self.dry or self.fields + count > self.most_fields:
            self.ran_out = self.dry = True
            self.fields_ran_out = self.spent
            raise NotLookedAt(address, size, self.spent)
        self.fields += count
        if self.progress is not None and self.fields % BEAT == 0:
            self.progress("reading the kernel's structures", self.fields, self.most_fields)

    def renew(self) -> None:
        """For the next of several questions; what ran out before stays told."""
        self.used = self.tables = self.fields = 0
        self.dry = False

    @property
    def ended(self) -> str:
        """What was looked at, if that was not all; else ''."""
        return self.fields_ran_out or (self.spent if self.ran_out else "")

    @property
    def spent(self) -> str:
        """What was looked at, once that is all."""
        if self.dry:
            more = 4 * ENTRIES_A_FIELD * self.most_fields
            return f"after {self.fields} fields of structures (--limit {more} for more)"
        return (
            f"after {self.used} entries in {self.tables} tables (--limit {4 * self.limit} for more)"
        )


_CURRENT: ContextVar[Budget | None] = ContextVar("budget", default=None)


def current() -> Budget | None:
    """That of the command which runs now; None outside of one."""
    return _CURRENT.get()


def shared() -> Budget:
    """The command's, or one of its own outside of a command."""
    return _CURRENT.get() or Budget()


def charge(address: int, size: int, count: int = 1) -> None:
    """For fields of structures that are about to be read.  Raises NotLookedAt."""
    budget = _CURRENT.get()
    if budget is not None:
        budget.field(address, size, count)


def out_of_fields() -> str:
    """What was looked at, if no field may be any more; else ''."""
    budget = _CURRENT.get()
    return budget.spent if budget is not None and budget.dry else ""


def tell(what: str, done: int, most: int) -> None:
    """How far a search is, where the command shows that."""
    budget = _CURRENT.get()
    if budget is not None and budget.progress is not None:
        budget.progress(what, done, most)


def renew() -> None:
    """The command goes on to another stop of the target, or another question."""
    budget = _CURRENT.get()
    if budget is not None:
        budget.renew()


@contextmanager
def within(budget: Budget) -> Iterator[Budget]:
    """What is done in this block is charged to `budget`."""
    token = _CURRENT.set(budget)
    try:
        yield budget
    finally:
        _CURRENT.reset(token)
