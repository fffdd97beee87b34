# SPDX-License-Identifier: GPL-2.0-or-later
"""The order in which to read physical memory when looking for a kernel, and how around holes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gdb_nept.address import HostPhys, KernelVirt
from gdb_nept.arch.paging import PAGING_4, PAGING_5, Cr3, Entry
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.reader import PAGE_SIZE, PhysicalMemory
from gdb_nept.target.pagetable import PageTables
from gdb_nept.target.vmcoreinfo import KERNEL_MAP, TEXT_ALIGN

USUAL_LOAD = 0x1000000  # CONFIG_PHYSICAL_START: where an image without KASLR lies
USUAL_TEXT = KERNEL_MAP + USUAL_LOAD
LARGEST_IMAGE = 0x8000000
GUESSED_END = 1 << 40  # where the size of RAM is unknown
PTI_USER = 0x1000  # the bit of CR3 that selects the user's half with KPTI (entry/calling.h)


def search_order(
    memory: PhysicalMemory[HostPhys], ranges: Sequence[range], cr3s: Sequence[int]
) -> list[range]:
    """The likely places first: the images that CR3s map, then RAM from the usual load address
    up, then what lies below it."""
    found = [image for cr3 in cr3s for image in image_of(memory, cr3)]
    for each in ranges or [range(GUESSED_END)]:
        if each.stop > USUAL_LOAD:
            found.append(range(max(each.start, USUAL_LOAD), each.stop))
    for each in ranges or [range(USUAL_LOAD)]:
        if each.start < USUAL_LOAD:
            found.append(range(each.start, min(each.stop, USUAL_LOAD)))
    return list(dict.fromkeys(found))


def each_once(ranges: Iterable[range]) -> Iterator[range]:
    """`ranges` without what an earlier one holds."""
    starts: list[int] = []  # of what was given, in order, and where each of it ends
    stops: list[int] = []
    for each in ranges:
        start = each.start
        number = max(0, bisect_right(starts, start) - 1)
        fresh = []
        for before in range(number, len(starts)):
            if starts[before] >= each.stop:
                break
            if start < starts[before]:
                fresh.append(range(start, starts[before]))
            start = max(start, stops[before])
        if start < each.stop:
            fresh.append(range(start, each.stop))
        for one in fresh:
            place = bisect_right(starts, one.start)
            starts.insert(place, one.start)
            stops.insert(place, one.stop)
        yield from fresh


@dataclass(frozen=True)
class ImagePage:
    """A large page of the kernel image, as the tables of some CR3 map it."""

    virtual: int
    entry: Entry

    @property
    def physical(self) -> int:
        return self.entry.address & ~(TEXT_ALIGN - 1)

    @property
    def constant(self) -> bool:
        """Neither written nor executed: .rodata, with kallsyms."""
        return bool(self.entry.execute_disable and not self.entry.write)


def image_of(memory: PhysicalMemory[HostPhys], cr3: int) -> list[range]:
    """The physical memory that the tables of `cr3` (of a CPU in the host's kernel) map as kernel
    image, what is constant first; nothing for the CR3 of a guest, or of no Linux."""
    pages = image_pages(memory, cr3)
    if not pages:
        return []
    first = sorted(page.physical for page in pages if page.constant)
    whole = range(min(p.physical for p in pages), max(p.physical for p in pages) + TEXT_ALIGN)
    return [*(range(place, place + TEXT_ALIGN) for place in first), whole]


def image_pages(memory: PhysicalMemory[HostPhys], cr3: int) -> list[ImagePage]:
    """The image's large pages, by virtual address; [] if these tables map none."""
    for root in dict.fromkeys((cr3 & ~PTI_USER, cr3)):
        for mode in (PAGING_4, PAGING_5):
            pages = _mapped(PageTables(memory, HostPhys(Cr3(root).address), mode.levels))
            places = [page.physical for page in pages]
            if places and max(places) - min(places) < LARGEST_IMAGE:
                return pages
    return []


def _mapped(tables: PageTables) -> list[ImagePage]:
    """The large pages that the 512 PDEs of the kernel map hold."""
    steps = tables.walk(KernelVirt(USUAL_TEXT)).steps
    if not steps or steps[-1].level > 2:
        return []
    table = next(step.table for step in steps if step.level == 2)
    data = tables.memory.read(table, PAGE_SIZE)
    entries = [Entry(int.from_bytes(data[at : at + 8], "little")) for at in range(0, PAGE_SIZE, 8)]
    return [
        ImagePage(KERNEL_MAP + number * TEXT_ALIGN, entry)
        for number, entry in enumerate(entries)
        if entry.present and entry.large
    ]


def readable(
    memory: PhysicalMemory[HostPhys], start: int, size: int
) -> Iterator[tuple[int, bytes]]:
    """The parts of [start, start + size) that can be read; halves what fails, unless neither its
    first nor its last page can be read."""
    try:
        yield start, memory.read(HostPhys(start), size)
        return
    except MemoryUnreadable:
        if size <= PAGE_SIZE:
            return
    if not _page_reads(memory, start) and not _page_reads(memory, start + size - PAGE_SIZE):
        return
    half = (size // 2 + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)
    yield from readable(memory, start, half)
    yield from readable(memory, start + half, size - half)


def _page_reads(memory: PhysicalMemory[HostPhys], place: int) -> bool:
    try:
        memory.read(HostPhys(place), PAGE_SIZE)
    except MemoryUnreadable:
        return False
    return True
