# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of the page tables of the process that runs L1."""

from __future__ import annotations

from gdb_nept.arch.paging import Entry
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data
from gdb_nept.target.pagetable import TableStep, Translation


def host_lines(found: Translation | None, mark: str = "") -> str:
    """`mark` is how they are known."""
    if found is None:
        return ""
    lines = [f"Page tables of the process that runs L1, in host memory{mark}:"]
    lines += [_line(step) for step in found.steps]
    if found.physical is None:
        lines.append(f"  stops: {found.why}")
    else:
        size = text.size(found.page_size)
        lines.append(f"  -> host physical {found.physical:#x}, in a page of {size}")
        lines += [f"  {found.why}"] if found.why else []
    return "\n".join(lines)


def _line(step: TableStep) -> str:
    place = f"{text.address(step.table)}[{step.index:3}]"
    says = entry_marks(step.entry, step.entry.leaf_at(step.level))
    return f"  {step.name:5} {place}  {text.word(step.entry.value)}  {says}"


def entry_marks(entry: Entry, leaf: bool = True) -> str:
    """RW-  AD  user; key 3: of an entry of the processor's own page tables."""
    if not entry.present:
        return "not present"
    can = "R" + ("W" if entry.write else "-") + ("-" if entry.execute_disable else "X")
    used = text.flags(entry.accessed, entry.dirty if leaf else None)
    key = f"key {entry.protection_key}" if leaf and entry.protection_key else ""
    rest = ("user" if entry.user else "", key)
    return text.columns(can, used, "; ".join(part for part in rest if part))


def entry_in_words(entry: Entry) -> str:
    """RW-; user; accessed, dirty."""
    if not entry.present:
        return "not present"
    can = f"R{'W' if entry.write else '-'}{'-' if entry.execute_disable else 'X'}"
    used = [name for name in ("accessed", "dirty") if getattr(entry, name)]
    parts = [can, "user" if entry.user else "", ", ".join(used)]
    return "; ".join(part for part in parts if part)


def host_data(found: Translation | None) -> Data:
    if found is None:
        return None
    return {
        "steps": [
            {
                "level": step.level,
                "name": step.name,
                "table": hexed(step.table),
                "index": step.index,
                "entry_address": hexed(step.address),
                "entry": hexed(step.entry.value),
                "meaning": entry_in_words(step.entry),
            }
            for step in found.steps
        ],
        "address": hexed(found.physical),
        "page_size": found.page_size,
        "why": found.why or None,
        "unread": found.unread.value if found.unread else None,
    }
