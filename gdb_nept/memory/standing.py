# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory as it stood at one time, of a target that runs on."""

from __future__ import annotations

from gdb_nept.address import Space
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.reader import PageCache, PhysicalMemory


class Standing(PageCache[Space]):
    """What was read of a memory before `close()`, and what could not be read; nothing else."""

    def __init__(self, memory: PhysicalMemory[Space]) -> None:
        super().__init__(memory)
        self._refused: dict[tuple[int, int], MemoryUnreadable] = {}
        self._closed = False

    def close(self) -> None:
        self._closed = True

    def read(self, address: Space, size: int) -> bytes:
        refused = self._refused.get((address, size))
        if refused is not None:
            raise refused
        try:
            return super().read(address, size)
        except MemoryUnreadable as error:
            self._refused[address, size] = error
            raise

    def _one(self, number: int) -> bytes:
        if self._closed and number not in self._grains:
            raise MemoryUnreadable(number * self.grain, self.grain, "not read while it stood still")
        return super()._one(number)
