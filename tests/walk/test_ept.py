# SPDX-License-Identifier: GPL-2.0-or-later
"""Walks and scans over small EPTs made of words; the real ones are in tests/lab."""

from __future__ import annotations

import pytest

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import Eptp
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.budget import ENTRIES, Budget
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.result import Cause
from gdb_nept.walk.runs import Run, Unread, with_holes
from gdb_nept.walk.scan import Scan

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
    limit: int = ENTRIES,
) -> Scan[L2Phys, L1Phys]:
    return Scan(memory(words), ROOT, CPU, low, high, Budget(limit))


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
    rows = list(with_holes(scan(high=1 << 39).found(), 0, 1 << 39))
    assert [
        (row.start, row.length, row.size) if isinstance(row, Run) else (row.start, row.end)
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


def test_a_run_goes_on_across_the_ends_of_tables() -> None:
    """Two tables of PTEs, and the same by hand, entry by entry."""
    words = {0x1000: 0x2007, 0x2000: 0x3007, 0x3000: 0x4007, 0x3008: 0x5007}
    flags = [0x37, 0x137, 0x337]
    for number in range(1024):
        page = 0x100000000 + 0x1000 * (number + (number > 700))
        words[0x4000 + 8 * number] = page | flags[number % 3] | (number > 900)
    merged = list(scan(words, high=1 << 22).found())
    entries = list(scan(words, high=1 << 22).mappings())
    assert [(run.start, run.length) for run in merged if isinstance(run, Run)] == [
        (0, 701),
        (701 << 12, 1024 - 701),
    ]
    first = merged[0]
    assert isinstance(first, Run)
    assert first.accessed == sum(bool(entry.entry.accessed) for entry in entries[:701])
    assert first.dirty == sum(bool(entry.entry.dirty) for entry in entries[:701])
    assert len(entries) == 1024


def test_a_table_that_leads_back_is_named_and_not_followed() -> None:
    looped = scan({0x1000: 0x2007, 0x2000: 0x3007, 0x3000: 0x2007})
    (unread,) = looped.found()
    assert isinstance(unread, Unread)
    assert (unread.start, unread.end) == (0, 1 << 21)
    assert "leads back to a table above it" in unread.why


@pytest.mark.parametrize(
    "entry", [0x1007, 0x1003, 0x80, 0x2007], ids=["loops", "no X", "absent, not zero", "two pages"]
)
def test_what_is_looked_at_has_an_end(entry: int) -> None:
    """A table full of entries that lead to tables full of such entries."""
    words = {0x1000 + 8 * number: entry for number in range(512)}
    words.update({0x2000 + 8 * number: 0x3007 for number in range(512)})
    words.update({0x3000 + 8 * number: 0x2000 | 0x87 & 7 for number in range(512)})
    limited = scan(words, limit=100 * 512)
    found = list(limited.found())
    assert limited.budget.used <= 100 * 512
    assert limited.budget.tables <= 100
    whole = limited.incomplete is None
    assert whole == (entry != 0x2007)
    if not whole:
        last = found[-1]
        assert isinstance(last, Unread)
        assert last.given_up
        assert last.end == ROOT.reach
        assert "51200 entries in 100 tables" in last.why
        assert "--limit" in last.why


def test_an_unread_table_is_no_hole() -> None:
    class Short(SparseMemory[L1Phys]):
        def read(self, address: L1Phys, size: int) -> bytes:
            if address == 0x4000:
                raise MemoryUnreadable(address, size, "filtered out of the dump")
            return super().read(address, size)

    found = Scan[L2Phys, L1Phys](Short(WORDS), ROOT, CPU, 0, 1 << 22)
    first, *others = with_holes(found.found(), 0, 1 << 22)
    assert isinstance(first, Unread)
    assert (first.start, first.end) == (0, 1 << 21)
    assert "filtered" in first.why
    assert [type(one) for one in others] == [Run]


@pytest.mark.parametrize("length", [0, 1, 2, 5, 6, 7])
def test_a_length_that_no_processor_walks_is_a_stop(length: int) -> None:
    odd = Eptp(ROOT.value & ~Eptp.walk_length.mask | length << Eptp.walk_length.low)
    walk = walk_ept(memory(), odd, L2Phys(0x1000), CPU)
    assert walk.stop is not None
    assert walk.stop.cause is Cause.NO_WALK
    assert f"{length + 1} levels" in walk.stop.why
    (unread,) = Scan[L2Phys, L1Phys](memory(), odd, CPU, 0, 1 << 30).found()
    assert isinstance(unread, Unread)
    assert (unread.start, unread.end) == (0, 1 << 30)
