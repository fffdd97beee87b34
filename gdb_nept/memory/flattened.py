# SPDX-License-Identifier: GPL-2.0-or-later
"""A flattened dump, read as the file that `makedumpfile -R` makes of it.

makedumpfile.h: struct makedumpfile_header, in a page of its own, then blocks, each behind a struct
makedumpfile_data_header, big-endian: where it belongs, and its size; the last is all ones.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from pathlib import Path
from typing import BinaryIO

from gdb_nept.memory.reader import PAGE_SIZE

BLOCK = struct.Struct(">qq")
END = BLOCK.pack(-1, -1)
MOST_BLOCKS = 1 << 18  # QEMU's are of 16 KiB


def flattened_is_cut(path: Path) -> bool:
    """It ends with a header that says so."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(END)))
        return file.read(len(END)) != END


class Flattened:
    """The first MOST_BLOCKS blocks of an open file; of one place, what was written last."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file.fileno()
        found: dict[int, tuple[int, int]] = {}
        place = PAGE_SIZE
        for _ in range(MOST_BLOCKS):
            head = os.pread(self._file, BLOCK.size, place)
            if len(head) < BLOCK.size:
                break
            offset, size = BLOCK.unpack(head)
            if offset < 0 or size <= 0:
                break
            place += BLOCK.size
            found[offset] = size, place
            place += size
        self._starts = sorted(found)
        self._blocks = [found[start] for start in self._starts]

    def read(self, place: int, size: int) -> bytes:
        """As many bytes from `place` of the plain file on as blocks hold without a gap."""
        parts = []
        number = bisect_right(self._starts, place) - 1
        while size > 0 and 0 <= number < len(self._blocks):
            length, there = self._blocks[number]
            skipped = place - self._starts[number]
            if skipped >= length:
                break
            data = os.pread(self._file, min(size, length - skipped), there + skipped)
            parts.append(data)
            place, size, number = place + len(data), size - len(data), number + 1
        return b"".join(parts)
