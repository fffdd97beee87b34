# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast an EPT is listed, beside the plainest loop that reads, decodes and prints its entries.

Tables of 4-KByte pages are made here: all of them one stretch of memory ("merges"), or in random
order ("scattered", where no neighbour goes on).  Ours and the loop run in turns in one process; a
ratio says something on any machine.
"""

from __future__ import annotations

import io
import random
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TextIO

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.arch.cpu import HOST
from gdb_nept.arch.ept import ENTRIES, Eptp
from gdb_nept.kvm.spte_format import SINCE_5_13
from gdb_nept.nested.listing import Listing, sptes
from gdb_nept.render import json, text
from gdb_nept.render.ept import ept_page
from gdb_nept.render.page import Page
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.runs import with_holes
from gdb_nept.walk.scan import Scan

EPTP = Eptp(0x105E)
HIGH = 1 << 48
FIRST = 1 << 32  # where the pages lie
TABLE = 7
LEAF = 0x0600_0000_0000_0B37  # RWX, WB, accessed, dirty, and KVM's own bits of an EPT02
TURNS = 3


class Tables:
    """An EPT of `leaves` pages, a whole number of tables."""

    def __init__(self, leaves: int, scattered: bool) -> None:
        self._pages: dict[int, array[int]] = {}
        self._bytes: dict[int, bytes] = {}
        order = list(range(leaves))
        if scattered:
            random.Random(2012).shuffle(order)
        self._next = 0x1000
        top, pointers = self._new(), self._new()
        self._pages[top][0] = pointers | TABLE
        directory = 0
        for number in range(leaves // ENTRIES):
            if number % ENTRIES == 0:
                directory = self._new()
                self._pages[pointers][number // ENTRIES] = directory | TABLE
            table = self._new()
            self._pages[directory][number % ENTRIES] = table | TABLE
            for place in range(ENTRIES):
                page = FIRST + (order[number * ENTRIES + place] << 12)
                self._pages[table][place] = page | LEAF
        self._bytes = {place: words.tobytes() for place, words in self._pages.items()}
        self.leaf_places = [
            place for place, words in self._pages.items() if words[0] & LEAF == LEAF
        ]
        self.leaf_tables = [self._bytes[place] for place in self.leaf_places]

    def _new(self) -> int:
        place = self._next
        self._next += 0x1000
        self._pages[place] = array("Q", bytes(0x1000))
        return place

    def read(self, address: L1Phys, size: int) -> bytes:
        offset = address & 0xFFF
        return self._bytes[address - offset][offset : offset + size]

    def word(self, address: int) -> int:
        return self._pages[address & ~0xFFF][address >> 3 & 511]


def plain(tables: Tables, out: TextIO) -> None:
    """The yardstick: every entry read, decoded and printed, by the shortest way in Python."""
    start = 0
    for data in tables.leaf_tables:
        for word in memoryview(data).cast("Q"):
            if word & 7:
                rights = f"{'R' if word & 1 else '-'}{'W' if word & 2 else '-'}"
                rights += "X" if word & 4 else "-"
                page = word & 0xFFFFFFFFFF000
                out.write(f"{start:#014x} {page:#014x} {rights} {word >> 3 & 7} {word >> 8 & 3}\n")
            start += 0x1000


def floor(tables: Tables, out: TextIO) -> None:
    """The same, merged: what looking at each entry costs by the shortest way."""
    kind = expected = count = 0
    for data in tables.leaf_tables:
        for word in memoryview(data).cast("Q"):
            if not word & 7:
                continue
            if word & ~0xFFFFFFFFFF000 == kind and word & 0xFFFFFFFFFF000 == expected:
                count += 1
            else:
                out.write(f"{expected:#x} {kind:#x} {count}\n")
                kind, count = word & ~0xFFFFFFFFFF000, 1
            expected = (word & 0xFFFFFFFFFF000) + 0x1000


def ours(
    tables: Tables,
    out: TextIO,
    shadow: bool = False,
    pieces: Callable[[Page], Iterator[str]] = text.pieces,
) -> None:
    scan: Scan[L2Phys, L1Phys] = Scan(tables, EPTP, HOST, 0, HIGH)
    rows = with_holes(scan.found(), 0, HIGH)
    spte = sptes(SINCE_5_13) if shadow else None
    for piece in pieces(ept_page(Listing("", "EPT", EPTP, HOST, rows, HIGH, (), spte))):
        out.write(piece)


def walks(tables: Tables, out: TextIO) -> None:
    for page in range(0, 1 << 27, 1 << 17):
        out.write(str(walk_ept(tables, EPTP, L2Phys(page), HOST).address))


def plain_walks(word: Callable[[int], int]) -> None:
    """The same walks, by hand: the tables are known to be whole, and of 4-KByte pages."""
    for page in range(0, 1 << 27, 1 << 17):
        table = EPTP.address
        for shift in (39, 30, 21, 12):
            table = word(table + 8 * (page >> shift & 511)) & 0xFFFFFFFFFF000


def seconds(work: Callable[[], None]) -> float:
    """The least of some turns, of this process alone."""
    found = []
    for _ in range(TURNS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main(leaves: int = 32768) -> int:
    print(f"{leaves} leaves; milliseconds of one core, the least of {TURNS} turns")
    print(f"{'what':28} {'ours':>9} {'plain':>9} {'ratio':>7}")
    for scattered in (False, True):
        tables = Tables(leaves, scattered)
        yardstick = plain if scattered else floor
        name = "scattered" if scattered else "merges"
        base = seconds(partial(yardstick, tables, io.StringIO()))
        for what, work in _ways(tables):
            took = seconds(work)
            print(
                f"{name + ', ' + what:28} {took * 1000:9.1f} {base * 1000:9.1f} {took / base:7.1f}"
            )
    one = seconds(lambda: walks(tables, io.StringIO())) / 1024
    print(f"one address walked: {one * 1e6:.0f} us")
    return 0


def _ways(tables: Tables) -> Iterable[tuple[str, Callable[[], None]]]:
    yield "EPT12 as text", lambda: ours(tables, io.StringIO())
    yield "EPT02 as text", lambda: ours(tables, io.StringIO(), shadow=True)
    yield "EPT12 as JSON", lambda: ours(tables, io.StringIO(), pieces=json.pieces)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
