# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rows of an EPT come to: counted while they pass, told behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from gdb_nept.arch.ept import ADDRESS, MEMORY_TYPES, EptEntry, page_size
from gdb_nept.nested.derived_rows import DerivedRun
from gdb_nept.nested.listing import Listing, Row
from gdb_nept.render import text
from gdb_nept.render.ept_derived import LEGEND, DerivedTotals
from gdb_nept.render.page import Cells, Data, LateData, Status, Table
from gdb_nept.walk.runs import Run, Unread

SELDOM = sum(field.mask for field in text.SELDOM)
MOST_LOOKS = 4096
RIGHTS = (
    EptEntry.read.mask | EptEntry.write.mask | EptEntry.execute.mask | EptEntry.user_execute.mask
)


@dataclass
class Kind:
    """Pages of one kind: how many, and in how many runs."""

    runs: int = 0
    pages: int = 0


LookCells = tuple[str, str, str, str, str, Optional[str]]


@dataclass
class Look:
    """What runs have in common that differ in their address alone.  `cells` and `data` are for who
    draws them."""

    kind: Kind
    cells: LookCells | None = None
    data: dict[str, Data] | None = None


Key = tuple[int, int, int]  # rights, memory type, level


class Totals:
    def __init__(self, found: Listing) -> None:
        self._found = found
        self._kinds: dict[Key, Kind] = {}
        self._wrong = Kind()
        self._looks: dict[tuple[int, int, int, int, int, int], Look] = {}
        self._derived = DerivedTotals(found.cpu.mbec)
        self._seldom = self._unread = 0
        self._partly = self._flagged = False
        self.complete = self.readable = True
        self._given_up = ""  # why not all of it was looked at, and how to see more

    def unread(self, row: Unread) -> None:
        if row.given_up:
            self.complete, self._given_up = False, row.why
        self.readable = self.readable and row.given_up
        if not row.given_up:
            self._unread += row.size

    def derived(self, row: DerivedRun) -> None:
        self.readable = False
        self._derived.add(row)

    def status(self) -> Status:
        if not self.readable:
            return Status.UNREAD
        return Status.DONE if self.complete else Status.INCOMPLETE

    def count(self, row: Row) -> None:
        """One that is not drawn."""
        if isinstance(row, Run):
            self.add(row)
        elif isinstance(row, DerivedRun):
            self.derived(row)
        elif isinstance(row, Unread):
            self.unread(row)

    def add(self, row: Run[Any, Any]) -> Look:
        """Counts a run, which may be one of millions of the same look."""
        _, level, _, word, path, length, accessed, dirty, _ = row
        key = word & ~ADDRESS, path & ~ADDRESS, level, length, accessed, dirty
        look = self._looks.get(key)
        if look is None or row.stop is not None:
            look = self._looked_at(row)
            if len(self._looks) < MOST_LOOKS and row.stop is None:
                self._looks[key] = look
        kind = look.kind
        kind.runs += 1
        kind.pages += length
        return look

    def _looked_at(self, run: Run[Any, Any]) -> Look:
        length, accessed, dirty = run.length, run.accessed, run.dirty
        if 0 < accessed < length or 0 < dirty < length:
            self._partly = True
        if run.stop is not None:
            return Look(self._wrong)
        if accessed or dirty:
            self._flagged = True
        self._seldom |= run.word & SELDOM
        key = run.path & RIGHTS, run.entry.memory_type, run.level
        return Look(self._kinds.setdefault(key, Kind()))

    @property
    def runs(self) -> int:
        return sum(kind.runs for kind in self._kinds.values())

    @property
    def _pages(self) -> int:
        return sum(kind.pages for kind in self._kinds.values())

    @property
    def _size(self) -> int:
        return sum(_bytes(key, kind) for key, kind in self._kinds.items())

    def sentence(self) -> str:
        parts = [
            f"{text.count(self._pages, 'page')}, {text.size(self._size)} mapped, "
            f"in {text.count(self.runs, 'run')}"
        ]
        if self._wrong.pages:
            parts.append(text.count(self._wrong.pages, "misconfigured entry"))
        if self._derived:
            parts.append(self._derived.sentence())
        if self._unread:
            parts.append(f"{text.size(self._unread)} unread: what is mapped there is not known")
        if not self.complete:
            parts.append(f"of the rest: {self._given_up}")
        return "; ".join(parts)

    def legend(self) -> str:
        """What the short names behind the addresses mean, and what is not shown; '' if there is
        nothing to say."""
        found = self._found
        idle = text.ignored_bits(found.cpu, found.eptp)
        seldom = 0 if found.spte is not None else self._seldom
        here = [field for field in text.SELDOM if seldom & field.mask & ~idle]
        unheeded = [field for field in text.SELDOM if seldom & field.mask & idle]
        ignored = "ignored by the processor with this EPTP and these controls"
        lines = [LEGEND] if self._derived else []
        lines += ["; ".join(f"{one.short}: {one.meaning.partition(',')[0]}" for one in here)]
        if self._partly:
            lines.append("a, d: accessed or dirty is set in some entries of the run, not in all")
        if not found.eptp.accessed_dirty and self._flagged:
            lines.append(f"[]: set, but {ignored}")
        if unheeded:
            places = ", ".join(field.place for field in unheeded)
            lines.append(f"set in some leaves and {ignored}, which software may use: bit {places}")
        return "\n".join(filter(None, lines))

    def table(self) -> Table:
        """The kinds of pages, the most first."""
        rows: list[Cells] = [
            (
                *self._names(key),
                str(kind.runs),
                str(kind.pages),
                text.size(_bytes(key, kind)),
            )
            for key, kind in self._ordered()
        ]
        rows += self._derived.rows()
        headers = ("RWX", "type", "page", "runs", "pages", "mapped")
        return Table(headers, rows, right=(2, 3, 4, 5))

    def data(self) -> Mapping[str, LateData]:
        """Asked for behind the rows."""
        return {
            "pages": lambda: self._pages,
            "mapped": lambda: self._size,
            "misconfigured_entries": lambda: self._wrong.pages,
            "unread": lambda: self._unread,
            "complete": lambda: self.complete,
            "kinds": lambda: [self._kind_data(key, kind) for key, kind in self._ordered()],
            **self._derived.data(),
        }

    def _kind_data(self, key: Key, kind: Kind) -> Data:
        rights, memory_type, _ = self._names(key)
        size = page_size(key[2])
        names: dict[str, Data] = {"rights": rights, "memory_type": memory_type, "page_size": size}
        return {**names, "runs": kind.runs, "pages": kind.pages, "size": _bytes(key, kind)}

    def _ordered(self) -> list[tuple[Key, Kind]]:
        return sorted(self._kinds.items(), key=lambda item: -_bytes(*item))

    def _names(self, key: Key) -> tuple[str, str, str]:
        rights, memory_type, level = key
        return (
            text.rights(EptEntry(rights), self._found.cpu.mbec),
            MEMORY_TYPES.get(memory_type, f"type {memory_type}"),
            text.size(page_size(level)),
        )


def _bytes(key: Key, kind: Kind) -> int:
    return kind.pages * page_size(key[2])
