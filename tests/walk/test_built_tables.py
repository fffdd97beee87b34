# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables that an L1 which means harm can write, in a few pages: what is looked at, read and told is
bounded in counts.

Each image is one table for each level, whose 512 entries are made by one rule.  What it spans
without a bound is up to 2**36 entries.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.arch.cpu import HOST
from gdb_nept.arch.ept import ENTRIES, Eptp
from gdb_nept.errors import MemoryUnreadable, NoMemory
from gdb_nept.memory.budget import Budget
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.nested.listing import Listing
from gdb_nept.render import json, text
from gdb_nept.render.ept import ept_page
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.runs import Found, Run, Unread, with_holes
from gdb_nept.walk.scan import Scan

EPTP = Eptp(Eptp.build(address=0x1000, walk_length=3, memory_type=6))
LEVELS = EPTP.levels
TABLES = 40
LIMIT = TABLES * ENTRIES
RWX, WB, LARGE = 7, 6 << 3, 1 << 7
NOWHERE, FILTERED = 0x10_0000_0000, 0x20_0000_0000

Rule = Callable[[int, int], int]  # level and number of an entry -> the entry


def table(level: int) -> int:
    """Where the table of this level lies: that of PML4Es at 0x1000."""
    return 0x1000 * (LEVELS + 1 - level)


def down(level: int) -> int:
    return table(level - 1) | RWX


def junk(level: int, number: int) -> int:
    return random.Random(f"{level} {number}").getrandbits(64)


def alternating(level: int, number: int) -> int:
    """Leaves of which none goes on where the one before ended."""
    return down(level) if level > 1 else (0x1000 * (ENTRIES - number)) | WB | RWX


IMAGES: dict[str, Rule] = {
    "each to the table below, leaves that do not merge": alternating,
    "each to the table below, leaves of one page": lambda level, _: (
        down(level) if level > 1 else 0x9000 | WB | RWX
    ),
    "each to the table below, which is empty": lambda level, _: down(level) if level > 1 else 0,
    "absent, and not zero": lambda level, _: down(level) if level > 1 else 0xFFFF_FFFF_F000,
    "misconfigured leaves": lambda level, _: down(level) if level > 1 else 0x9000 | 2,
    "all lead back to the root": lambda level, _: table(LEVELS) | RWX,
    "all lead to their own table": lambda level, _: table(level) | RWX,
    "PDEs lead back to the root": lambda level, _: down(level) if level > 2 else 0x1000 | RWX,
    "PDEs in no memory": lambda level, _: down(level) if level > 2 else NOWHERE | RWX,
    "PDEs of filtered pages": lambda level, _: down(level) if level > 2 else FILTERED | RWX,
    "large pages that do not merge": lambda level, number: (
        down(level) if level > 2 else (number ^ 1) << 21 | LARGE | WB | RWX
    ),
    "junk": junk,
    "ones": lambda level, _: (1 << 64) - 1,
    "PML4Es down, junk below": lambda level, number: (
        down(level) if level > 2 else junk(level, number)
    ),
}


class Memory(SparseMemory[L1Phys]):
    """Counts what is asked for.  Beyond the image there is nothing, or what the dump left out."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(
            {
                table(level) + 8 * number: rule(level, number)
                for level in range(1, LEVELS + 1)
                for number in range(ENTRIES)
            }
        )
        self.reads = 0

    def read(self, address: L1Phys, size: int) -> bytes:
        self.reads += 1
        if address >= FILTERED:
            raise MemoryUnreadable(address, size, "filtered out of the dump")
        if address >= table(0):
            raise NoMemory(address, size, "no memslot")
        return super().read(address, size)


@pytest.fixture(params=IMAGES.values(), ids=list(IMAGES))
def image(request: pytest.FixtureRequest) -> Memory:
    return Memory(request.param)


def scan(image: Memory, limit: int = LIMIT, high: int = EPTP.reach) -> Scan[L2Phys, L1Phys]:
    return Scan(image, EPTP, HOST, 0, high, Budget(limit), references=True)


def told(found: list[Found[L2Phys, L1Phys]]) -> int:
    """Entries and gaps that are told."""
    return sum(1 if isinstance(one, Unread) else one.length for one in found)


def test_no_more_is_looked_at_read_or_told_than_the_budget_has(image: Memory) -> None:
    """What comes out is an entry that was looked at, what became of the table that it leads to, or
    the end."""
    bounded = scan(image)
    found = list(bounded.found())
    assert bounded.budget.used <= LIMIT
    assert image.reads == bounded.budget.tables <= TABLES
    assert told(found) <= 2 * bounded.budget.used + 1
    assert bounded.budget.ran_out == (bounded.incomplete is not None)
    if bounded.incomplete is not None:
        end = found[-1]
        assert isinstance(end, Unread)
        assert (end.start, end.end, end.given_up) == (bounded.incomplete, EPTP.reach, True)
        assert f"--limit {4 * LIMIT} for more" in end.why


def test_with_more_allowed_the_beginning_is_the_same(image: Memory) -> None:
    """So a bound leaves something out, and changes nothing of what it tells."""
    few = [one for one in scan(image).entries() if isinstance(one, Run)]
    many = [one for one in scan(image, 2 * LIMIT).entries() if isinstance(one, Run)]
    assert many[: len(few)] == few


def test_a_listing_is_in_order_and_covers_the_space(image: Memory) -> None:
    """Mapped, unread, not looked at, or a hole: each address is in one row."""
    bounded = Scan[L2Phys, L1Phys](image, EPTP, HOST, 0, EPTP.reach, Budget(LIMIT))
    place = 0
    for one in with_holes(bounded.found(), 0, EPTP.reach):
        assert one.start == place
        assert one.end > place
        place = one.end
    assert place == EPTP.reach


@pytest.mark.parametrize("form", [text.pieces, json.pieces, json.lines])
def test_a_page_of_it_reads_no_more(image: Memory, form: Callable[..., object]) -> None:
    bounded = Scan[L2Phys, L1Phys](image, EPTP, HOST, 0, EPTP.reach, Budget(LIMIT))
    rows = with_holes(bounded.found(), 0, EPTP.reach)
    page = ept_page(Listing("", "EPT", EPTP, HOST, rows, EPTP.reach, (), None))
    pieces = form(page)
    written = "".join(pieces)  # type: ignore[arg-type]
    assert image.reads == bounded.budget.tables <= TABLES
    assert len(written) < 1000 * (bounded.budget.used + 10)
    assert ("--limit" in written) == (bounded.incomplete is not None)


def test_a_walk_reads_an_entry_a_level(image: Memory) -> None:
    for gpa in (0, 0x1FF000, 0x8040201000, EPTP.reach - 1):
        image.reads = 0
        walk = walk_ept(image, EPTP, L2Phys(gpa), HOST)
        assert image.reads <= LEVELS
        assert len(walk.steps) <= LEVELS
