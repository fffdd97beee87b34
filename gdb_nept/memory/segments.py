# SPDX-License-Identifier: GPL-2.0-or-later
"""Stretches of physical memory that lie in a file as they are.

LiME's format is a header of 32 bytes before each range (LiME, doc/README.md); no library that we
use reads it.  The other such file is /proc/kcore (`kcore.py`).
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from pathlib import Path

from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput, MemoryUnreadable, UnreadKind
from gdb_nept.memory.elf_dump import Segment
from gdb_nept.memory.ram import END

LIME = struct.Struct("<4sIQQ8x")  # magic, version, first and last address
LIME_MAGIC, LIME_VERSION = b"EMiL", 1
MOST_RANGES = 1 << 16


class SegmentMemory:
    """Physical memory in the stretches of a file; read with pread, so that a file that was cut
    after it was opened is no signal."""

    def __init__(self, path: Path, segments: tuple[Segment, ...], live: bool = False) -> None:
        self.path = path
        self.segments = sorted(segments, key=lambda one: one.start)
        self._starts = [one.start for one in self.segments]
        self.live = live
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise BadInput(f"cannot open {path}: {error.strerror}") from None

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def data_ranges(self) -> list[range]:
        end = END if self.live else os.fstat(self._file).st_size
        held = ((one, min(one.in_file, end - one.offset)) for one in self.segments)
        return [
            range(one.start, min(one.start + size, END))
            for one, size in held
            if size > 0 and one.start < END
        ]

    def left_out(self) -> int:
        return sum(max(0, one.size - one.in_file) for one in self.segments)

    def read(self, address: HostPhys, size: int) -> bytes:
        start, end = int(address), int(address) + size
        parts = []
        while start < end:
            one = self._segment(start, size)
            count = min(end, one.start + one.in_file) - start
            parts.append(self._bytes(start, count, one.offset + start - one.start))
            start += count
        return b"".join(parts)

    def _segment(self, address: int, size: int) -> Segment:
        number = bisect_right(self._starts, address) - 1
        one = self.segments[number] if number >= 0 else None
        if one is None or not address < one.start + max(one.size, one.in_file):
            why = f"{self.path.name} has no RAM there"
            raise MemoryUnreadable(address, size, why, UnreadKind.NO_RAM)
        if address >= one.start + one.in_file:
            why = f"{self.path.name} has RAM there, but not what it held"
            raise MemoryUnreadable(address, size, why, UnreadKind.FILTERED)
        return one

    def _bytes(self, address: int, size: int, offset: int) -> bytes:
        data = b""
        try:
            while len(data) < size:
                more = os.pread(self._file, size - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except (OSError, OverflowError) as error:
            why = f"{self.path.name} cannot be read there: {error}"
            raise MemoryUnreadable(address + len(data), size, why) from None
        if len(data) < size:
            why = f"{self.path.name} ends before it (it is cut)"
            raise MemoryUnreadable(address + len(data), size, why, UnreadKind.CUT)
        return data


def lime_segments(path: Path) -> tuple[tuple[Segment, ...], bool]:
    """The ranges of a LiME dump, and whether the file ends before they do.  Raises BadInput."""
    found: list[Segment] = []
    place = 0
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        while place < end and len(found) < MOST_RANGES:
            file.seek(place)
            header = file.read(LIME.size)
            if len(header) < LIME.size:
                return tuple(found), True
            magic, version, first, last = LIME.unpack(header)
            if magic != LIME_MAGIC or version != LIME_VERSION or last < first:
                told = f"the header of range {len(found)} of {path}, at {place:#x}, is none of LiME"
                raise BadInput(told, "Was it taken with format=lime, and copied as a whole?")
            size = last - first + 1
            found.append(Segment(first, size, place + LIME.size, size, 0))
            place += LIME.size + size
    return tuple(found), place > end
