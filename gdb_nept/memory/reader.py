# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes at a physical address, from wherever they come."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

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


def grain_of(memory: object) -> int:
    """Bytes worth reading at once from a memory: what it tells, or a page."""
    return int(getattr(memory, "grain", PAGE_SIZE))


class PageCache(Generic[Space]):
    """Reads whole pages once and keeps them until `drop()` (the target ran).

    A page costs hardly more than a word on most transports, and a walk comes back to the same table
    pages again and again.  Over a slow link the memory asks for a smaller `grain`.
    """

    def __init__(self, memory: PhysicalMemory[Space]) -> None:
        self.memory = memory
        self.grain = grain_of(memory)
        self._grains: dict[int, bytes] = {}

    def drop(self) -> None:
        self._grains.clear()

    def read(self, address: Space, size: int) -> bytes:
        first, offset = divmod(int(address), self.grain)
        if offset + size <= self.grain:
            found = self._grains.get(first)
            if found is None:
                start: Any = first * self.grain
                found = self._grains[first] = self.memory.read(start, self.grain)
            return found[offset : offset + size]
        last = (int(address) + size - 1) // self.grain
        self._fetch(first, last)
        whole = b"".join(self._grains[number] for number in range(first, last + 1))
        return whole[offset : offset + size]

    def _fetch(self, first: int, last: int) -> None:
        """Read what is missing, neighbours with one request."""
        number = first
        while number <= last:
            if number in self._grains:
                number += 1
                continue
            end = number
            while end < last and end + 1 not in self._grains:
                end += 1
            start: Any = number * self.grain
            data = self.memory.read(start, (end - number + 1) * self.grain)
            for place in range(0, len(data), self.grain):
                self._grains[number + place // self.grain] = data[place : place + self.grain]
            number = end + 1


def page_by_page(address: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of [address, address + size) that lie in one page each: where, and how long."""
    place, end = int(address), int(address) + size
    while place < end:
        count = min(end - place, PAGE_SIZE - (place & PAGE_MASK))
        yield place, count
        place += count
