# SPDX-License-Identifier: GPL-2.0-or-later
"""Walks and scans over small EPTs made of words; the real ones are in tests/lab."""

from __future__ import annotations

import pytest

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import Eptp
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.walk.ept import Scan, walk_ept
from gdb_nept.walk.result import Cause
from gdb_nept.walk.runs import Hole, merge, with_holes

CPU = Capabilities(
    39,
    EptVpidCap(
        EptVpidCap.build(walk_length_4=1, walk_length_5=1, memory_type_wb=1, page_2m=1, page_1g=1)
    ),
)
ROOT = Eptp(Eptp.build(address=0x1000, walk_length=3, memory_type=6))
WB = 6 << 3
LARGE = 1 << 7
WORDS = {
    0x1000: 0x2007,
    0x1008: 0x2007 | 1 << 5,  # a reserved bit in a PML4E
    0x2000: 0x3005,
    0x2008: 0x40000000 | WB | LARGE | 7,
    0x3000: 0x4007,
    0x3008: 0x200000 | WB | LARGE | 3,
    0x3010: 0x400000 | WB | LARGE | 3,
    0x4000: 0xA000 | WB | 7,
    0x4008: 0xB000 | WB | 7,
    0x4010: 0xC000 | WB | 1,
    0x4018: 0xD000 | WB | 2,
}


def memory(words: dict[int, int] = WORDS) -> SparseMemory[L1Phys]:
    return SparseMemory(words)


@pytest.mark.parametrize(
    ("gpa", "address", "size"),
    [
        (0x123, 0xA123, 1 << 12),
        (0x1FFF, 0xBFFF, 1 << 12),
        (0x212345, 0x212345, 1 << 21),
        (0x7FEDCBA9, 0x7FEDCBA9, 1 << 30),
    ],
)
def test_pages_of_every_size(gpa: int, address: int, size: int) -> None:
    walk = walk_ept(memory(), ROOT, L2Phys(gpa), CPU)
    assert (walk.address, walk.size, walk.stop) == (address, size, None)
    assert walk.leaf is walk.steps[-1]


def test_every_step_is_kept() -> None:
    walk = walk_ept(memory(), ROOT, L2Phys(0x1008), CPU)
    assert [(step.level, step.address, step.leaf) for step in walk.steps] == [
        (4, 0x1000, False),
        (3, 0x2000, False),
        (2, 0x3000, False),
        (1, 0x4008, True),
    ]
    assert (walk.rights.value & 7) == 5  # the PDPTE lacks W


@pytest.mark.parametrize(
    ("gpa", "cause", "level"),
    [
        (0x4000, Cause.NOT_PRESENT, 1),
        (0x600000, Cause.NOT_PRESENT, 2),
        (0x80000000, Cause.NOT_PRESENT, 3),
        (2 << 39, Cause.NOT_PRESENT, 4),
        (0x3000, Cause.MISCONFIGURED, 1),
        (1 << 39, Cause.MISCONFIGURED, 4),
        (1 << 48, Cause.BEYOND_WIDTH, 0),
    ],
)
def test_where_a_walk_ends(gpa: int, cause: Cause, level: int) -> None:
    walk = walk_ept(memory(), ROOT, L2Phys(gpa), CPU)
    assert walk.stop is not None
    assert (walk.stop.cause, walk.stop.level, walk.address) == (cause, level, None)
    assert len(walk.steps) == (5 - level if level else 0)


def test_five_levels() -> None:
    eptp = Eptp(Eptp.build(address=0x9000, walk_length=4, memory_type=6))
    walk = walk_ept(memory({**WORDS, 0x9010: 0x1007}), eptp, L2Phys(2 << 48 | 0x1234), CPU)
    assert walk.address == 0xB234
    assert [step.level for step in walk.steps] == [5, 4, 3, 2, 1]


def test_half_a_walk_is_kept_when_memory_ends() -> None:
    class Short(SparseMemory[L1Phys]):
        def read(self, address: L1Phys, size: int) -> bytes:
            if address >= 0x3000:
                raise MemoryUnreadable(address, size, "filtered out of the dump")
            return super().read(address, size)

    walk = walk_ept(Short(WORDS), ROOT, L2Phys(0), CPU)
    assert walk.stop is not None
    assert walk.stop.cause is Cause.UNREADABLE
    assert "filtered" in walk.stop.why
    assert [step.level for step in walk.steps] == [4, 3]


def scan(
    words: dict[int, int] = WORDS,
    *,
    low: int = 0,
    high: int = ROOT.reach,
    limit: int = 1 << 20,
    table_limit: int = 1 << 16,
) -> Scan[L2Phys, L1Phys]:
    return Scan(memory(words), ROOT, CPU, low, high, limit, table_limit)


def test_scan_lists_what_walks_find() -> None:
    found = list(scan().mappings())
    assert [(mapping.start, mapping.size, mapping.stop is None) for mapping in found] == [
        (0x0, 1 << 12, True),
        (0x1000, 1 << 12, True),
        (0x2000, 1 << 12, True),
        (0x3000, 1 << 12, False),
        (0x200000, 1 << 21, True),
        (0x400000, 1 << 21, True),
        (0x40000000, 1 << 30, True),
        (1 << 39, 1 << 39, False),
    ]
    for mapping in found:
        walk = walk_ept(memory(), ROOT, mapping.start, CPU)
        assert walk.stop == mapping.stop
        assert walk.address == (mapping.address if mapping.stop is None else None)


def test_a_range_limits_the_scan() -> None:
    starts = [mapping.start for mapping in scan(low=0x1000, high=0x200001).mappings()]
    assert starts == [0x1000, 0x2000, 0x3000, 0x200000]


def test_no_more_is_read_than_the_entries_of_the_range() -> None:
    """One entry in each table, over a link that is slow."""
    reads: list[tuple[int, int]] = []

    class Listening(SparseMemory[L1Phys]):
        def read(self, address: L1Phys, size: int) -> bytes:
            reads.append((address, size))
            return super().read(address, size)

    found = Scan[L2Phys, L1Phys](Listening(WORDS), ROOT, CPU, 0x2000, 0x3000)
    assert [mapping.start for mapping in found.mappings()] == [0x2000]
    assert reads == [(0x1000, 8), (0x2000, 8), (0x3000, 8), (0x4010, 8)]
    assert list(scan(low=1 << 48, high=1 << 49).mappings()) == []  # beyond the last entry


def test_runs_and_holes() -> None:
    rows = list(with_holes(merge(scan(high=1 << 39).mappings()), 0, 1 << 39))
    assert [
        (row.start, row.end) if isinstance(row, Hole) else (row.first.start, row.count, row.size)
        for row in rows
    ] == [
        (0x0, 2, 0x2000),
        (0x2000, 1, 0x1000),
        (0x3000, 1, 0x1000),
        (0x4000, 0x200000),
        (0x200000, 2, 0x400000),
        (0x600000, 0x40000000),
        (0x40000000, 1, 0x40000000),
        (0x80000000, 1 << 39),
    ]


def test_a_table_that_leads_back_is_named_and_not_followed() -> None:
    looped = scan({0x1000: 0x2007, 0x2000: 0x3007, 0x3000: 0x2007})
    assert list(looped.mappings()) == []
    assert "leads back to a table above it" in looped.notes[0]


def test_a_scan_gives_up_and_says_so() -> None:
    entries = scan(limit=3)
    assert len(list(entries.mappings())) == 3
    assert entries.notes == ["gave up at 0x3000 after 3 entries: ask for a smaller range"]
    wide = {0x1000 + 8 * number: 0x2007 for number in range(512)}
    wide.update({0x2000 + 8 * number: 0x3007 for number in range(512)})
    tables = scan(wide, table_limit=100)
    assert list(tables.mappings()) == []
    assert tables.tables == 101
    assert [note.split(" after ")[1] for note in tables.notes] == [
        "100 tables: ask for a smaller range"
    ]
