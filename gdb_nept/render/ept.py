# SPDX-License-Identifier: GPL-2.0-or-later
"""An EPT as runs and holes: what nept-ept answers.

JSON: which, eptp, levels, notes [text], and runs [start, end (first address behind), size,
page_size, count, leads_to, rights, memory_type, accessed, dirty (how many of count), flags [short
names], misconfigured (null or why), kvm (null, or what KVM means by an entry of its own), entry,
entry_address] or {"hole": true, start, end, size}; accessed_dirty (whether the EPTP enables these
flags: else the processor ignores them); entry_failure (null, or why VM entry refuses the EPTP).
"""

from __future__ import annotations

from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import MEMORY_TYPES, EptEntry, Eptp
from gdb_nept.nested.listing import Listing, Row, Shown
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Table
from gdb_nept.render.spte import spte_in_words
from gdb_nept.walk.runs import Hole


def ept_page(found: Listing) -> Page:
    head = f"{found.title}\nEPTP {found.eptp.value:#x}: {eptp_in_words(found.eptp)}"
    data: dict[str, Data] = {
        "which": found.which,
        "eptp": hexed(found.eptp.value),
        "levels": found.eptp.levels,
        "accessed_dirty": bool(found.eptp.accessed_dirty),
        "runs": [_data(row, found.cpu) for row in found.rows],
        "entry_failure": found.refusal or None,
        "notes": list[Data](found.notes),
    }
    notes = [f"note: {note}" for note in found.notes]
    reasons = _reasons(found)
    numbered = "\n".join(f"({number}) {reason}" for reason, number in reasons.items())
    table = _table(found, reasons)
    refused = refused_in_words(found.refusal)
    return Page((*refused, head, table, numbered, _sum(found), _legend(found), *notes), data)


def refused_in_words(refusal: str) -> list[str]:
    """What stands first on a page about an EPTP with which no L2 runs; nothing otherwise."""
    return [f"VM entry refuses this EPTP: {refusal}; no L2 runs with it"] if refusal else []


def eptp_in_words(eptp: Eptp) -> str:
    kind = MEMORY_TYPES.get(eptp.memory_type, f"memory type {eptp.memory_type}")
    flags = "on" if eptp.accessed_dirty else "off"
    return f"table at {eptp.address:#x}, {eptp.levels} levels, {kind}, A/D flags {flags}"


def _sum(found: Listing) -> str:
    runs = [row.run for row in found.rows if isinstance(row, Shown)]
    mapped = [run for run in runs if run.first.stop is None]
    pages, total = sum(run.count for run in mapped), sum(run.size for run in mapped)
    parts = [
        f"{text.count(pages, 'page')}, {text.size(total)} mapped, "
        f"in {text.count(len(mapped), 'run')}"
    ]
    bad = sum(run.count for run in runs) - pages
    if bad:
        parts.append(text.count(bad, "misconfigured entry"))
    if any(0 < used < run.count for run in runs for used in (run.accessed, run.dirty)):
        parts.append("a, d: accessed or dirty is set in some entries of the run, not in all")
    return "; ".join(parts)


def _legend(found: Listing) -> str:
    """What the short names behind the addresses mean, and the brackets; '' if there are none."""
    rows = [row for row in found.rows if isinstance(row, Shown) and row.run.first.stop is None]
    entries = [row.run.first.entry for row in rows if row.spte is None]
    idle = text.ignored_bits(found.cpu, found.eptp)
    here = [field for field in text.SELDOM if any(e.value & field.mask for e in entries)]
    parts = [f"{field.short}: {field.meaning.partition(',')[0]}" for field in here]
    unused = not found.eptp.accessed_dirty and any(r.run.accessed or r.run.dirty for r in rows)
    if unused or any(field.mask & idle for field in here):
        parts.append("[]: set, but ignored by the processor with this EPTP and these controls")
    return "; ".join(parts)


def _reasons(found: Listing) -> dict[str, int]:
    """Why KVM's leaves are not writable: each reason once, numbered in the order of appearance."""
    leaves = [
        row.spte for row in found.rows if isinstance(row, Shown) and row.run.first.stop is None
    ]
    texts = dict.fromkeys(spte.protection for spte in leaves if spte is not None)
    return {reason: number for number, reason in enumerate(filter(None, texts), 1)}


def _table(found: Listing, reasons: dict[str, int]) -> Table:
    digits = max([10, *(len(f"{_bounds(row)[1] - 1:x}") for row in found.rows)])
    cells = tuple(_cells(row, digits, found, reasons) for row in found.rows)
    headers = ("from", "to", "size", "rights", "type", "AD", "pages", "leads to")
    return Table(headers, cells, right=(2, 6))


def _bounds(row: Row) -> tuple[int, int]:
    return (row.start, row.end) if isinstance(row, Hole) else (row.run.first.start, row.run.end)


def _cells(row: Row, digits: int, found: Listing, reasons: dict[str, int]) -> tuple[str, ...]:
    low, high = _bounds(row)
    bounds = (text.address(low, digits), text.address(high - 1, digits), text.size(high - low))
    if isinstance(row, Hole):
        return (*bounds, "", "", "", "", "hole")
    run, first = row.run, row.run.first
    return (
        *bounds,
        text.rights(first.rights, found.cpu.mbec),
        "-" if first.stop else text.memory_type(first.entry),
        _flags(row, bool(found.eptp.accessed_dirty)),
        f"{run.count}x{text.size(first.size)}",
        _leads_to(row, text.ignored_bits(found.cpu, found.eptp), reasons),
    )


def _flags(row: Shown, enabled: bool) -> str:
    """AD, or [AD] where EPTP bit 6 is 0."""
    run = row.run
    flags = _used("A", run.accessed, run.count) + _used("D", run.dirty, run.count)
    return flags if enabled or flags == "--" else f"[{flags}]"


def _used(letter: str, number: int, count: int) -> str:
    return "-" if not number else letter if number == count else letter.lower()


def _leads_to(row: Shown, idle: int, reasons: dict[str, int]) -> str:
    first = row.run.first
    if row.spte is not None:
        if row.spte.mmio is not None:
            return spte_in_words(row.spte)
        if first.stop is None:
            number = reasons.get(row.spte.protection)
            return text.address(first.address) + (f" ({number})" if number else "")
    if first.stop is None:
        return f"{text.address(first.address)} {text.extras(first.entry, idle)}".rstrip()
    why = first.stop.why.partition(" is ")[2]
    return f"{why}; entry {first.entry.value:#x} at {first.place:#x}"


def _flag_names(row: Shown) -> list[Data]:
    """In KVM's own entries, the bits that hardware ignores are KVM's."""
    entry = row.run.first.entry
    theirs = EptEntry.ignore_pat.mask | EptEntry.suppress_ve.mask
    return [*text.extras(EptEntry(entry.value & theirs) if row.spte else entry).split()]


def _data(row: Row, cpu: Capabilities) -> Data:
    low, high = _bounds(row)
    bounds: dict[str, Data] = {"start": hexed(low), "end": hexed(high), "size": high - low}
    if isinstance(row, Hole):
        return {"hole": True, **bounds}
    first = row.run.first
    return {
        **bounds,
        "page_size": first.size,
        "count": row.run.count,
        "leads_to": None if first.stop else hexed(first.address),
        "rights": text.rights(first.rights, cpu.mbec),
        "memory_type": None if first.stop else text.memory_type(first.entry),
        "accessed": row.run.accessed,
        "dirty": row.run.dirty,
        "flags": _flag_names(row),
        "misconfigured": first.stop.why if first.stop else None,
        "kvm": spte_in_words(row.spte) if row.spte else None,
        "entry": hexed(first.entry.value),
        "entry_address": hexed(first.place),
    }
