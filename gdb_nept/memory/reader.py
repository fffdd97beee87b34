# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes at a physical address, from wherever they come."""

from __future__ import annotations

import struct
from typing import Generic, Protocol, TypeVar, cast

from gdb_nept.address import Space

PAGE_SIZE = 4096
PAGE_MASK = PAGE_SIZE - 1

QWORD = struct.Struct("<Q")

SpaceIn = TypeVar("SpaceIn", bound=int, contravariant=True)


class PhysicalMemory(Protocol[SpaceIn]):
    """Memory of one physical address space (`HostPhys`, or `L1Phys` through memslots)."""

    def read(self, address: SpaceIn, size: int) -> bytes:
        """Return exactly `size` bytes at `address`, or raise MemoryUnreadable."""
        ...


def read_u64(memory: PhysicalMemory[Space], address: Space) -> int:
    """The little-endian 64-bit word at `address`; raises MemoryUnreadable."""
    word: int = QWORD.unpack(memory.read(address, QWORD.size))[0]
    return word


class PageCache(Generic[Space]):
    """Reads whole pages once and keeps them until `drop()` (the target ran).

    A page costs hardly more than a word on every transport that we know, and a walk comes back to
    the same table pages again and again.
    """

    def __init__(self, memory: PhysicalMemory[Space]) -> None:
        self.memory = memory
        self._pages: dict[int, bytes] = {}

    def drop(self) -> None:
        self._pages.clear()

    def read(self, address: Space, size: int) -> bytes:
        start = int(address)
        first, last = start // PAGE_SIZE, (start + max(size, 1) - 1) // PAGE_SIZE
        if first == last:
            offset = start & PAGE_MASK
            return self._page(first)[offset : offset + size]
        self._fetch(first, last)
        whole = b"".join(self._pages[number] for number in range(first, last + 1))
        offset = start - first * PAGE_SIZE
        return whole[offset : offset + size]

    def _page(self, number: int) -> bytes:
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = self.memory.read(
                cast(Space, number * PAGE_SIZE), PAGE_SIZE
            )
        return page

    def _fetch(self, first: int, last: int) -> None:
        """Read the pages that are missing, neighbours with one request."""
        number = first
        while number <= last:
            if number in self._pages:
                number += 1
                continue
            end = number
            while end < last and end + 1 not in self._pages:
                end += 1
            start = cast(Space, number * PAGE_SIZE)
            data = self.memory.read(start, (end - number + 1) * PAGE_SIZE)
            for place in range(end - number + 1):
                self._pages[number + place] = data[place * PAGE_SIZE : (place + 1) * PAGE_SIZE]
            number = end + 1
