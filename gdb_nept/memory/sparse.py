# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory made of given words: tests, and requests in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

from gdb_nept.address import Space
from gdb_nept.errors import NoMemory


class SparseMemory(Generic[Space]):
    """64-bit words at 8-byte aligned addresses; what is not given reads as zero.

    In each (low, high) of `missing`, from low up to and without high, there is no memory.
    """

    def __init__(self, words: Mapping[int, int], missing: tuple[tuple[int, int], ...] = ()) -> None:
        self._words = dict(words)
        self._missing = missing

    def read(self, address: Space, size: int) -> bytes:
        """Raises NoMemory where there is none."""
        for low, high in self._missing:
            if address < high and address + size > low:
                raise NoMemory(address, size, f"there is no memory from {low:#x} to {high:#x}")
        if size == 8 and not address & 7:  # what a walk reads
            return self._words.get(address, 0).to_bytes(8, "little")
        first = int(address) & ~7
        end = int(address) + size
        words = (self._words.get(place, 0) for place in range(first, end, 8))
        data = b"".join(word.to_bytes(8, "little") for word in words)
        offset = int(address) - first
        return data[offset : offset + size]
