# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of many leaves that do not merge: what is read and kept, in counts and bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from bench_ept import EPTP, HIGH, Tables

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.arch.cpu import HOST
from gdb_nept.kvm.spte_format import SINCE_5_13
from gdb_nept.nested.listing import Listing, sptes
from gdb_nept.render import json, text
from gdb_nept.render.ept import ept_page
from gdb_nept.render.page import Page
from gdb_nept.walk.runs import with_holes
from gdb_nept.walk.scan import Scan

FEW, MANY = 512, 2048
TABLES_ABOVE = 3
ROOM = 1 << 19  # bytes that a listing may hold at once, however long it is

Form = Callable[[Page], Iterator[str]]


class Counted:
    """Tables, with the reads of them counted."""

    def __init__(self, leaves: int) -> None:
        self.tables, self.reads, self.size = Tables(leaves, scattered=True), 0, 0

    def read(self, address: L1Phys, size: int) -> bytes:
        self.reads += 1
        self.size += size
        return self.tables.read(address, size)


def listed(memory: Counted, form: Form, shadow: bool) -> int:
    """Pieces written."""
    scan: Scan[L2Phys, L1Phys] = Scan(memory, EPTP, HOST, 0, HIGH)
    spte = sptes(SINCE_5_13) if shadow else None
    rows = with_holes(scan.found(), 0, HIGH)
    page = ept_page(Listing("", "EPT", EPTP, HOST, rows, HIGH, (), spte))
    return sum(1 for _ in form(page))


@pytest.mark.parametrize(
    ("form", "shadow"),
    [(text.pieces, False), (text.pieces, True), (json.pieces, True), (json.lines, False)],
    ids=["EPT12", "EPT02", "EPT02 as JSON", "EPT12 as JSON lines"],
)
def test_what_is_held_does_not_grow_with_the_rows(form: Form, shadow: bool) -> None:
    """And each table is read once, a page at a time: the work is linear.  A row that was kept
    would be 2 to 4 KByte."""
    listed(Counted(FEW), form, shadow)  # what is made once for all listings
    memory = Counted(MANY)
    tracemalloc.start()
    try:
        assert listed(memory, form, shadow) >= MANY // 256
        assert tracemalloc.get_traced_memory()[1] < ROOM
    finally:
        tracemalloc.stop()
    assert memory.reads == len(memory.tables.leaf_places) + TABLES_ABOVE
    assert memory.size == memory.reads * 4096
