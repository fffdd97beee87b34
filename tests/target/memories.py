# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory for tests: pieces at physical addresses, and a count of what was read."""

from __future__ import annotations

from collections.abc import Mapping

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable


class Pieces:
    """Bytes at given addresses; all else cannot be read.  Keeps count."""

    def __init__(self, pieces: Mapping[int, bytes]) -> None:
        self._pieces = dict(pieces)
        self.bytes_read = 0

    def read(self, address: HostPhys, size: int) -> bytes:
        for start, data in self._pieces.items():
            if start <= address and address + size <= start + len(data):
                self.bytes_read += size
                return data[address - start : address - start + size]
        raise MemoryUnreadable(int(address), size, "no memory there")
