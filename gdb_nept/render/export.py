# SPDX-License-Identifier: GPL-2.0-or-later
"""A memory that was written into a file: what nept-export answers.

JSON: file, whose, bytes (of memory in the file), zero_bytes (of them, pages of zeros), stretches,
vmcoreinfo (the release of the Linux whose it is, or null), left_out [kind, bytes, stretches, first
(guest physical), why (of the first), lost (there is, or may be, memory)], complete, ended (the
address from where on nothing was looked at, or null), ended_why, notes (the names of the file's ELF
notes: "GDB_NEPT", and "VMCOREINFO" of a Linux; none has registers).
"""

from __future__ import annotations

from gdb_nept.nested.export import Exported, Left
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Block, Data, Page, Status, Table

HEADERS = ("left out", "size", "stretches", "first at", "why, of the first")


def export_page(found: Exported) -> Page:
    blocks: list[Block] = [_head(found)]
    if found.ended is not None:
        blocks.append(f"not looked at from {found.ended.start:#x} on: {found.ended.why}")
    if found.left:
        rows = [_row(each) for each in found.left]
        blocks.append(Table(HEADERS, rows, right=(1, 2)))
    return Page(tuple(blocks), _data(found), lambda: _status(found))


def _head(found: Exported) -> str:
    note = f"; with the vmcoreinfo of Linux {found.release}" if found.release else ""
    missing = ", a part could not be read" if found.lost else ""
    return (
        f"{found.whose} is in {found.path}: {text.size(found.bytes)}{missing}; "
        f"{text.size(found.zero_bytes)} of it are zeros{note}; without registers (see nept-regs)"
    )


def _row(each: Left) -> tuple[str, ...]:
    size, first = text.size(each.bytes), text.address(each.first.start)
    return each.kind, size, str(each.stretches), first, each.first.why


def _status(found: Exported) -> Status:
    if found.ended is not None:
        return Status.INCOMPLETE
    return Status.UNREAD if found.lost else Status.DONE


def _data(found: Exported) -> dict[str, Data]:
    left: list[Data] = [
        {
            "kind": each.kind,
            "bytes": each.bytes,
            "stretches": each.stretches,
            "first": hexed(each.first.start),
            "why": each.first.why,
            "lost": each.first.lost,
        }
        for each in found.left
    ]
    return {
        "file": str(found.path),
        "whose": found.whose,
        "bytes": found.bytes,
        "zero_bytes": found.zero_bytes,
        "stretches": found.stretches,
        "vmcoreinfo": found.release or None,
        "left_out": left,
        "complete": found.ended is None,
        "ended": hexed(found.ended.start) if found.ended else None,
        "ended_why": found.ended.why if found.ended else None,
        "notes": list[Data](found.notes),
    }
