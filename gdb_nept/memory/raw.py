# SPDX-License-Identifier: GPL-2.0-or-later
"""A raw image of physical memory: byte N of the file is physical address N."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Generic

from gdb_nept.address import Space
from gdb_nept.errors import BadInput, MemoryUnreadable, UnreadKind
from gdb_nept.memory.holes import data_of

MOST_STRETCHES = 1 << 16


class RawMemory(Generic[Space]):
    """Physical memory in a file, mapped read-only (QEMU's memory-backend-file, a lab snapshot)."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        except (OSError, ValueError) as error:
            raise BadInput(f"cannot map {path}: {error}", "Name a raw image of memory.") from None
        self.path = path

    def close(self) -> None:
        self._map.close()

    @property
    def size(self) -> int:
        return len(self._map)

    def data_ranges(self) -> list[range]:
        """The stretches of the file that are not holes, which read as zero; at most MOST_STRETCHES
        of them, the last to the end of the file."""
        return data_of(self.path, 0, self.size, MOST_STRETCHES)

    def left_out(self) -> int:
        return 0

    def read(self, address: Space, size: int) -> bytes:
        start = int(address)
        if start + size > len(self._map) or start < 0:
            why = f"{self.path.name} ends at {len(self._map):#x} (truncated, or no RAM there)"
            raise MemoryUnreadable(start, size, why, UnreadKind.NOT_IN_FILE)
        return self._map[start : start + size]
