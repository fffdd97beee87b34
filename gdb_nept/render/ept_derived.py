# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of EPT12 that KVM's shadow tells of, where EPT12 itself could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from gdb_nept.arch.ept import EptEntry
from gdb_nept.nested.derived_rows import DerivedRun
from gdb_nept.nested.journey import Hop
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Cells, Data, LateData
from gdb_nept.walk.runs import Unread

LEGEND = (
    "derived: EPT12 cannot be read there, and KVM noted this for its shadow; RWX is what L1 grants "
    "at least, by KVM's access bits; the memory type and the A/D flags are not known"
)


def derived_cells(row: DerivedRun, mbec: bool, numbered: Callable[[str], int]) -> Cells:
    """Behind its size: a bound of the rights, that it is derived, pages, where it leads."""
    where = text.address(row.address) + (f" ({numbered(row.doubt)})" if row.doubt else "")
    pages = f"{row.count}x{text.size(row.page_size)}"
    return _at_least(row.rights.value, mbec), Hop.DERIVED.value, "", pages, where


def derived_data(row: DerivedRun, mbec: bool) -> dict[str, Data]:
    return {
        "start": hexed(row.start),
        "end": hexed(row.end),
        "size": row.size,
        "page_size": row.page_size,
        "count": row.count,
        "leads_to": hexed(row.address),
        "rights_at_least": text.rights(row.rights, mbec),
        "entry_address": hexed(row.place),
        "doubt": row.doubt or None,
        "not_read": row.why,
        "kind": kind_data(row),
        "how": Hop.DERIVED.value,
    }


def kind_data(row: Unread | DerivedRun) -> Data:
    return row.kind.value if row.kind else None


def _at_least(rights: int, mbec: bool) -> str:
    return f">={text.rights(EptEntry(rights), mbec)}"


@dataclass
class _Kind:
    """Rows of the same rights and page size; `size` in bytes: a row may be a part of a page."""

    runs: int = 0
    pages: int = 0
    size: int = 0


class DerivedTotals:
    def __init__(self, mbec: bool) -> None:
        self._mbec = mbec
        self._kinds: dict[tuple[int, int], _Kind] = {}  # by rights and page size

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def add(self, row: DerivedRun) -> None:
        kind = self._kinds.setdefault((row.rights.value, row.page_size), _Kind())
        kind.runs += 1
        kind.pages += row.count
        kind.size += row.size

    @property
    def runs(self) -> int:
        return sum(kind.runs for kind in self._kinds.values())

    @property
    def size(self) -> int:
        return sum(kind.size for kind in self._kinds.values())

    def sentence(self) -> str:
        return f"{text.size(self.size)} derived, in {text.count(self.runs, 'run')}"

    def rows(self) -> list[Cells]:
        """In the columns of the summary."""
        return [
            (
                _at_least(rights, self._mbec),
                "?",
                text.size(page),
                str(kind.runs),
                str(kind.pages),
                text.size(kind.size),
            )
            for (rights, page), kind in self._ordered()
        ]

    def data(self) -> dict[str, LateData]:
        """Asked for behind the rows."""
        return {"derived": lambda: self.size, "derived_kinds": self._kinds_data}

    def _kinds_data(self) -> Data:
        return [
            {
                "rights_at_least": text.rights(EptEntry(rights), self._mbec),
                "page_size": page,
                "runs": kind.runs,
                "pages": kind.pages,
                "size": kind.size,
            }
            for (rights, page), kind in self._ordered()
        ]

    def _ordered(self) -> list[tuple[tuple[int, int], _Kind]]:
        return sorted(self._kinds.items(), key=lambda item: -item[1].size)
