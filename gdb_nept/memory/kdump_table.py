# SPDX-License-Identifier: GPL-2.0-or-later
"""The page descriptors of a kdump-compressed dump: is it all there, and what of it is zeros?

The library gives zeros for what a file is cut before, and reads a page of zeros as any other.
makedumpfile's diskdump_mod.h (struct disk_dump_header, kdump_sub_header, page_desc) and
IMPLEMENTATION.  makedumpfile with -d 1 (write_kdump_pages_cyclic) and QEMU (dump/dump.c,
write_dump_pages) put one page of zeros right behind the descriptors, and all pages of zeros have
its descriptor; makedumpfile -d 0 writes each by itself.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Callable, NamedTuple

from gdb_nept.memory.budget import tell
from gdb_nept.memory.reader import PAGE_SIZE

HEADER = struct.Struct("<8si")  # signature, version
SIZES = struct.Struct("<iiI")  # block_size, sub_hdr_size, bitmap_blocks
SIZES_AT = 428  # behind utsname (6 * 65 bytes), the time and the status
DESCRIPTOR = struct.Struct("<QIIQ")  # offset, size, flags, page_flags
LARGEST_BITMAP = 1 << 30
AT_ONCE = 4096  # descriptors
LAST = 1 << 16  # descriptors that tell where the file must end: pages of zeros share an early one
WORTH = 16  # pages of zeros that are cheaper left out than read

Read = Callable[[int, int], bytes]  # place and size, in bytes: as much of the file as is there


class Table(NamedTuple):
    """The descriptors in the file: one for each page that is present, by address."""

    place: int
    pages: int

    @property
    def end(self) -> int:
        return self.place + self.pages * DESCRIPTOR.size

    def read(self, read: Read, first: int, count: int) -> bytes:
        return read(self.place + first * DESCRIPTOR.size, count * DESCRIPTOR.size)


def reader(file: BinaryIO) -> Read:
    number, end = file.fileno(), os.fstat(file.fileno()).st_size
    return lambda place, size: os.pread(number, max(0, min(size, end - place)), place)


def table_of(read: Read) -> Table | None:
    """None where the header is cut or damaged."""
    sizes = read(SIZES_AT, SIZES.size)
    if len(sizes) < SIZES.size:
        return None
    block, sub_header, blocks = SIZES.unpack(sizes)
    if block not in (4096, 8192, 16384, 65536) or not 0 < blocks * block <= LARGEST_BITMAP:
        return None
    bitmaps, half = (1 + sub_header) * block, blocks * block // 2
    if bitmaps < 0:
        return None
    present = bin(int.from_bytes(read(bitmaps + half, half), "little")).count("1")
    return Table(bitmaps + blocks * block, present)


def kdump_is_cut(path: Path) -> bool:
    """Whether the data of the last pages lies behind the end of the file."""
    with path.open("rb") as file:
        read, end = reader(file), os.fstat(file.fileno()).st_size
        if end < SIZES_AT + SIZES.size:
            return True
        table = table_of(read)
        if table is None:
            return False  # damaged, which the library tells
        count = min(table.pages, LAST)
        data = table.read(read, table.pages - count, count)
        if len(data) < count * DESCRIPTOR.size:
            return True
        ends = (offset + size for offset, size, _, _ in DESCRIPTOR.iter_unpack(data))
        return max(ends, default=0) > end


def without_zeros(read: Read, present: list[range], is_empty: Callable[[int], bool]) -> list[range]:
    """`present`, physical addresses of all pages in the file, without pages of zeros where these
    are told by their descriptor; `is_empty` is asked of one, which proves them all."""
    table = table_of(read)
    if table is None or sum(map(len, present)) != table.pages * PAGE_SIZE:
        return present
    found: list[range] = []
    zero, number = b"", 0
    for each in present:
        for start in range(each.start, each.stop, AT_ONCE * PAGE_SIZE):
            count = min(AT_ONCE, (each.stop - start) // PAGE_SIZE)
            data = table.read(read, number, count)
            if not zero and (first := _leads_to(data, table.end)) is not None:
                if not is_empty(start + first * PAGE_SIZE):
                    return present
                zero = data[first * DESCRIPTOR.size :][: DESCRIPTOR.size]
            for one in _unlike(data, zero, count):
                _append(found, start + one.start * PAGE_SIZE, start + one.stop * PAGE_SIZE)
            number += count
            tell("looking for pages that are not empty", number, table.pages)
    return found


def _leads_to(data: bytes, offset: int) -> int | None:
    """The number of the first descriptor in `data` of what lies at `offset` in the file."""
    wanted = struct.pack("<Q", offset)
    place = data.find(wanted)
    while place >= 0 and place % DESCRIPTOR.size:
        place = data.find(wanted, place + 1)
    return place // DESCRIPTOR.size if place >= 0 else None


def _unlike(data: bytes, zero: bytes, count: int) -> Iterator[range]:
    """The numbers, up to `count`, of the descriptors that are not `zero`, in runs; what the file
    lacks is not."""
    if zero and data == zero * count:
        return
    if not zero or zero not in data:
        yield range(count)
        return
    size, start = DESCRIPTOR.size, 0
    for number in range(count):
        if data[number * size : number * size + size] == zero:
            if start < number:
                yield range(start, number)
            start = number + 1
    if start < count:
        yield range(start, count)


def _append(found: list[range], start: int, stop: int) -> None:
    if found and start - found[-1].stop < WORTH * PAGE_SIZE:
        found[-1] = range(found[-1].start, stop)
    else:
        found.append(range(start, stop))
