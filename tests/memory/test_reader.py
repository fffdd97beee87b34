# SPDX-License-Identifier: GPL-2.0-or-later
"""Readers: the page cache, a raw file, words, and L1's memory through slots."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdb_nept.address import HostPhys, HostVirt, L1Phys
from gdb_nept.errors import BadInput, MemoryUnreadable
from gdb_nept.memory.guest import GuestMemory, Span
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import PAGE_SIZE, PageCache, read_u64
from gdb_nept.memory.sparse import SparseMemory


class Counting:
    """Four pages whose bytes tell their page; counts what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def read(self, address: HostPhys, size: int) -> bytes:
        self.asked.append((address, size))
        if address + size > 4 * PAGE_SIZE:
            raise MemoryUnreadable(address, size, "end of memory")
        return b"".join(bytes([place // PAGE_SIZE]) for place in range(address, address + size))


def test_cache_reads_a_page_once_until_it_is_dropped() -> None:
    memory = Counting()
    cache: PageCache[HostPhys] = PageCache(memory)
    assert cache.read(HostPhys(0x10), 4) == b"\0" * 4
    assert cache.read(HostPhys(0xFFC), 4) == b"\0" * 4
    assert memory.asked == [(0, PAGE_SIZE)]
    cache.drop()
    cache.read(HostPhys(0), 1)
    assert len(memory.asked) == 2


def test_cache_asks_for_neighbours_with_one_request() -> None:
    memory = Counting()
    cache: PageCache[HostPhys] = PageCache(memory)
    cache.read(HostPhys(0x1000), 8)
    data = cache.read(HostPhys(0xFFE), 3 * PAGE_SIZE - 0xFFE)
    assert data == b"\0\0" + b"\1" * PAGE_SIZE + b"\2" * PAGE_SIZE
    assert memory.asked == [(0x1000, PAGE_SIZE), (0, PAGE_SIZE), (0x2000, PAGE_SIZE)]
    memory.asked.clear()
    cache.drop()
    cache.read(HostPhys(8), 2 * PAGE_SIZE)
    assert memory.asked == [(0, 3 * PAGE_SIZE)]


def test_cache_passes_errors_on_and_keeps_nothing_of_them() -> None:
    cache: PageCache[HostPhys] = PageCache(Counting())
    for _ in range(2):
        with pytest.raises(MemoryUnreadable, match="end of memory"):
            cache.read(HostPhys(4 * PAGE_SIZE), 8)


def test_raw_file(tmp_path: Path) -> None:
    path = tmp_path / "memory.raw"
    path.write_bytes(bytes(range(256)) * 16)
    memory: RawMemory[HostPhys] = RawMemory(path)
    assert memory.size == 4096
    assert read_u64(memory, HostPhys(8)) == 0x0F0E0D0C0B0A0908
    with pytest.raises(MemoryUnreadable, match=r"memory\.raw ends at 0x1000"):
        memory.read(HostPhys(4092), 8)


def test_the_holes_of_a_file_are_known(tmp_path: Path) -> None:
    path = tmp_path / "sparse.raw"
    with path.open("wb") as file:
        file.truncate(64 << 30)
        for place in (1 << 20, 5 << 30):
            file.seek(place)
            file.write(b"x" * 100)
    memory: RawMemory[HostPhys] = RawMemory(path)
    ranges = memory.data_ranges()
    assert sum(map(len, ranges)) < 1 << 20
    assert all(any(place in each for each in ranges) for place in (1 << 20, 5 << 30))
    with path.open("r+b") as file:
        file.truncate(0)
        file.truncate(1 << 20)
    empty: RawMemory[HostPhys] = RawMemory(path)
    assert empty.data_ranges() == []


@pytest.mark.parametrize("content", [None, b""])
def test_a_raw_file_that_cannot_be_mapped(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "memory.raw"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match="cannot map"):
        RawMemory(path)


def test_sparse_words_at_any_alignment() -> None:
    memory: SparseMemory[HostPhys] = SparseMemory({0x1000: 0x1122334455667788})
    assert memory.read(HostPhys(0x1002), 4) == bytes.fromhex("66554433")
    assert memory.read(HostPhys(0xFFC), 16) == bytes(4) + bytes.fromhex("8877665544332211") + bytes(
        4
    )


def test_guest_memory_crosses_pages_and_names_what_is_missing() -> None:
    pages = {0x7000: 0x2000, 0x8000: 0x0}

    def translate(address: HostVirt) -> HostPhys:
        page = pages.get(address & ~0xFFF)
        if page is None:
            raise MemoryUnreadable(address, 1, "the process has no page there")
        return HostPhys(page | address & 0xFFF)

    spans = (Span(L1Phys(0x100000), 0x3000, HostVirt(0x7000)),)
    memory = GuestMemory(spans, translate, Counting())
    assert memory.read(L1Phys(0x100FFE), 4) == b"\2\2\0\0"
    with pytest.raises(MemoryUnreadable, match="no page there"):
        memory.read(L1Phys(0x101FFE), 4)
    with pytest.raises(MemoryUnreadable, match="no memslot"):
        memory.read(L1Phys(0x200000), 4)
