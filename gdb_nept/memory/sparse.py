# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory made of given words: tests, and requests in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

from gdb_nept.address import Space


class SparseMemory(Generic[Space]):
    """64-bit words at 8-byte aligned addresses; what is not given reads as zero."""

    def __init__(self, words: Mapping[int, int]) -> None:
        self._words = dict(words)

    def read(self, address: Space, size: int) -> bytes:
        if size == 8 and not address & 7:  # what a walk reads
            return self._words.get(address, 0).to_bytes(8, "little")
        first = int(address) & ~7
        end = int(address) + size
        words = (self._words.get(place, 0) for place in range(first, end, 8))
        data = b"".join(word.to_bytes(8, "little") for word in words)
        offset = int(address) - first
        return data[offset : offset + size]
