# SPDX-License-Identifier: GPL-2.0-or-later
"""An EPT as runs and holes: what nept-ept answers.

JSON: which, eptp, levels, accessed_dirty (whether the EPTP enables these flags: else the processor
ignores them), and runs [start, end (first address behind), size, page_size, count, leads_to,
rights, memory_type, accessed, dirty (how many of count), flags [short names], misconfigured (null
or why), kvm (null, or what KVM means by an entry of its own), entry, entry_address], {"hole": true,
start, end, size}, {"unread": why, kind (null, or what became of the table), start, end, size} or,
by KVM's shadow of an EPT12 that cannot be read, [start, end, size, page_size (EPT12's), count,
leads_to, rights_at_least, entry_address (L1 physical), doubt (null, or why it may be old), not_read
(why), kind]; how of each: "read", "derived", "missing", "not looked at"; entry_failure (null, or
why VM entry refuses the EPTP); notes [text]; then the totals: pages, mapped (bytes),
misconfigured_entries, unread (bytes of which nothing is known), derived (bytes), complete (whether
all was looked at), kinds [rights, memory_type, page_size, runs, pages, size] of what was read,
derived_kinds [rights_at_least, page_size, runs, pages, size].
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from gdb_nept.arch.ept import LEVEL_NAMES, MEMORY_TYPES, RIGHTS, EptEntry, Eptp, page_size
from gdb_nept.nested.derived_rows import DerivedRun
from gdb_nept.nested.journey import Hop
from gdb_nept.nested.listing import Listing
from gdb_nept.render import text
from gdb_nept.render.ept_derived import derived_cells, derived_data, kind_data
from gdb_nept.render.ept_totals import Look, LookCells, Totals
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Cells, Data, Page, Table
from gdb_nept.render.spte import spte_in_words
from gdb_nept.walk.runs import SHIFTS, Run, Unread

MANY_RUNS = 200  # then a summary stands behind them
MOST_WORDS = 3  # that are named for one reason
AHEAD = 256  # rows that are waited for

HEADERS = ("from", "to", "size", "RWX", "type", "AD", "pages", "leads to")


def ept_page(found: Listing, summary: bool = False) -> Page:
    """The totals come first where the rows are few enough to wait for, else behind them.  With
    `summary` they alone are shown, by rights, memory type and size of page."""
    drawn = _Rows(found)
    totals = drawn.totals
    what, _, spaces = found.title.partition(": ")
    root = f"EPTP {found.eptp.value:#x}: {eptp_in_words(found.eptp)}"
    notes = [f"note: {note}" for note in found.notes]
    table = Table(HEADERS, drawn.cells(), right=(2, 6), rest=drawn.rest)

    def head() -> str:
        if summary:
            drawn.rest()
        ahead = totals.sentence() if summary else drawn.ahead()
        return "\n".join(filter(None, (f"{what}: {ahead}" if ahead else what, spaces, root)))

    def footnotes() -> str:
        return "\n".join(drawn.footnotes())

    def kinds() -> str | Table:
        return totals.table() if summary or totals.runs > MANY_RUNS else ""

    def behind() -> str:
        return "" if summary or drawn.all_ahead else totals.sentence()

    blocks = (head,) if summary else (head, table, footnotes)
    return Page(
        (*refused_in_words(found.refusal), *blocks, kinds, behind, totals.legend, *notes),
        {
            "which": found.which,
            "eptp": hexed(found.eptp.value),
            "levels": found.eptp.levels,
            "accessed_dirty": bool(found.eptp.accessed_dirty),
            "runs": drawn.data(),
            "entry_failure": found.refusal or None,
            "notes": list[Data](found.notes),
            **totals.data(),
        },
        totals.status,
        lines="runs",
    )


def refused_in_words(refusal: str, what: str = "this EPTP") -> list[str]:
    """What stands first on a page about an EPTP, or other state, with which no L2 runs; nothing
    otherwise."""
    return [f"VM entry refuses {what}: {refusal}; no L2 runs with it"] if refusal else []


def eptp_in_words(eptp: Eptp) -> str:
    kind = MEMORY_TYPES.get(eptp.memory_type, f"memory type {eptp.memory_type}")
    flags = "on" if eptp.accessed_dirty else "off"
    return f"table at {eptp.address:#x}, {eptp.levels} levels, {kind}, A/D flags {flags}"


class _Rows:
    """The rows of a listing as they come, drawn or as data; each is counted in `totals`."""

    def __init__(self, found: Listing) -> None:
        self.found = found
        self.totals = Totals(found)
        self._reasons: dict[str, int] = {}  # why a row is not what it seems, numbered
        self._words: dict[int, list[int]] = {}  # some that each is about: entries, places
        self._rows = iter(found.rows)
        self.all_ahead = False
        self._address = f"%#0{max(10, len(f'{found.high - 1:x}')) + 2}x"
        self._idle = text.ignored_bits(found.cpu, found.eptp)

    def ahead(self) -> str:
        """The totals before any row is drawn, or '' if there are too many to wait for."""
        first = list(islice(self._rows, AHEAD))
        self.all_ahead = len(first) < AHEAD
        self._rows = chain(first, self._rows)
        if not self.all_ahead:
            return ""
        totals = Totals(self.found)
        for row in first:
            totals.count(row)
        return totals.sentence()

    def rest(self) -> int:
        """Counts the rows that were not taken."""
        count = 0
        for row in self._rows:
            count += 1
            self.totals.count(row)
        return count

    def cells(self) -> Iterator[Cells]:
        shown, leads_to, add = self._address, LEADS_TO, self.totals.add
        for row in self._rows:
            if isinstance(row, Run):
                look, low = add(row), row.at
                size, rights, kind, flags, pages, behind = look.cells or self._look_cells(row, look)
                high = low + (row.length << SHIFTS[row.level]) - 1
                if behind is None:
                    there = self._leads_to(row)
                else:
                    there = leads_to % (row.word & PAGE[row.level]) + behind
                yield shown % low, shown % high, size, rights, kind, flags, pages, there
                continue
            bounds = shown % row.start, shown % (row.end - 1), text.size(row.end - row.start)
            if isinstance(row, Unread):
                self.totals.unread(row)
                yield (*bounds, "?", "", "", "", self._unread(row))
            elif isinstance(row, DerivedRun):
                self.totals.derived(row)
                yield (*bounds, *derived_cells(row, self.found.cpu.mbec, self._numbered))
            else:
                yield (*bounds, "", "", "", "", "hole")

    def _look_cells(self, row: Run[Any, Any], look: Look) -> LookCells:
        """What is the same for all runs of one look: size, rights, memory type, flags, pages, and
        what stands behind the address; None where there is more to say than an address."""
        look.cells = (
            text.size(row.size),
            text.rights(row.rights, self.found.cpu.mbec),
            "-" if row.stop else text.memory_type(row.entry),
            self._flags(row),
            f"{row.length}x{text.size(row.page_size)}",
            None if row.stop else self._behind(row),
        )
        return look.cells

    def _behind(self, row: Run[Any, Any]) -> str | None:
        """The flags that are seldom set and that the processor heeds; of KVM's own entry, why it is
        not writable."""
        if self.found.spte is None:
            extras = text.extras(EptEntry(row.word & ~self._idle))
            return f" {extras}" if extras else ""
        spte = self.found.spte(row.word, row.level)
        if spte.mmio is not None:
            return None
        return f" ({self._numbered(spte.protection)})" if spte.protection else ""

    def _numbered(self, reason: str) -> int:
        return self._reasons.setdefault(reason, len(self._reasons) + 1)

    def footnotes(self) -> Iterator[str]:
        for reason, number in self._reasons.items():
            shown = [f"{entry:#x}" for entry in self._words.get(number, [])]
            more = ["..."] if len(shown) > MOST_WORDS else []
            named = f"; {', '.join([*shown[:MOST_WORDS], *more])}" if shown else ""
            yield f"({number}) {reason}{named}"

    def _flags(self, run: Run[Any, Any]) -> str:
        """AD, or [AD] where EPTP bit 6 is 0."""
        flags = _used("A", run.accessed, run.length) + _used("D", run.dirty, run.length)
        return flags if self.found.eptp.accessed_dirty or flags == "--" else f"[{flags}]"

    def data(self) -> Iterator[Data]:
        for row in self._rows:
            if isinstance(row, Run):
                look, low = self.totals.add(row), row.at
                size = row.length << SHIFTS[row.level]
                yield {
                    "start": HEX % low,
                    "end": HEX % (low + size),
                    "size": size,
                    "leads_to": None if row.stop else HEX % (row.word & PAGE[row.level]),
                    "entry": HEX % row.word,
                    "entry_address": HEX % row.where,
                    **(look.data or self._look_data(row, look)),
                }
                continue
            bounds: dict[str, Data] = {
                "start": hexed(row.start), "end": hexed(row.end), "size": row.end - row.start
            }  # fmt: skip
            if isinstance(row, Unread):
                self.totals.unread(row)
                how = "not looked at" if row.given_up else Hop.MISSING.value
                yield {"unread": row.why, "kind": kind_data(row), **bounds, "how": how}
            elif isinstance(row, DerivedRun):
                self.totals.derived(row)
                yield derived_data(row, self.found.cpu.mbec)
            else:
                yield {"hole": True, **bounds, "how": Hop.READ.value}

    def _look_data(self, row: Run[Any, Any], look: Look) -> dict[str, Data]:
        """What is the same for all runs of one look."""
        _, rights, memory_type, *_ = self._look_cells(row, look)
        theirs = None if self.found.spte is None else self.found.spte(row.word, row.level)
        # of KVM's entries, the bits that hardware ignores are KVM's own
        extras = text.extras(EptEntry(row.word & HARDWARE) if theirs else row.entry)
        data: dict[str, Data] = {
            "page_size": row.page_size,
            "count": row.length,
            "rights": rights,
            "memory_type": None if row.stop else memory_type,
            "accessed": row.accessed,
            "dirty": row.dirty,
            "flags": [*extras.split()],
            "misconfigured": row.stop.why if row.stop else None,
            "kvm": spte_in_words(theirs) if theirs else None,
            "how": Hop.READ.value,
        }
        if theirs is None or theirs.mmio is None:  # else what it means has an address in it
            look.data = data
        return data

    def _leads_to(self, row: Run[Any, Any]) -> str:
        """Of an entry that is no leaf."""
        if self.found.spte is not None:
            spte = self.found.spte(row.word, row.level)
            if spte.mmio is not None:
                return spte_in_words(spte)
        assert row.stop is not None, "a leaf has an address"
        why = row.stop.why.partition(" is ")[2]
        if self.found.spte is None and row.word & RIGHTS == MMIO_OF_KVM:
            why += "; so a KVM as L1 marks a page that it emulates (MMIO)"
        return f"misconfig ({self._numbered_with(why, row.word)})"

    def _unread(self, row: Unread) -> str:
        """The table that cannot be read stands behind the reason."""
        place = _PLACE.search(row.why)
        said = "not looked at" if row.given_up else "unread"
        if place is None:
            return f"{said} ({self._numbered(row.why)})"
        reason = row.why.replace(place[0], "", 1)
        return f"{said} ({self._numbered_with(reason, int(place[1], 16))})"

    def _numbered_with(self, reason: str, word: int) -> int:
        """The reason's number; some words that it is about are kept for its footnote."""
        number = self._numbered(reason)
        seen = self._words.setdefault(number, [])
        if word not in seen and len(seen) <= MOST_WORDS:
            seen.append(word)
        return number


_PLACE = re.compile(r" at (0x[0-9a-f]+)")
HEX = "%#x"
LEADS_TO = "%#012x"
#: What mmu/spte.c kvm_mmu_set_ept_masks() gives an MMIO entry: VMX_EPT_MISCONFIG_WX_VALUE.
MMIO_OF_KVM = EptEntry.write.mask | EptEntry.execute.mask
#: The bits of the address of a page of each level.
PAGE = {level: EptEntry.address.mask & -page_size(level) for level in LEVEL_NAMES}
HARDWARE = EptEntry.ignore_pat.mask | EptEntry.suppress_ve.mask


def _used(letter: str, number: int, count: int) -> str:
    return "-" if not number else letter if number == count else letter.lower()
