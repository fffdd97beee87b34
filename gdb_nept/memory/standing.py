# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory as it stood at one time, of a target that runs on."""

from __future__ import annotations

from typing import Generic

from gdb_nept.address import Space
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.reader import QWORD, PhysicalMemory


class Standing(Generic[Space]):
    """The words that were kept of a memory, and those that could not be read; nothing else."""

    def __init__(self, memory: PhysicalMemory[Space]) -> None:
        self._memory = memory
        self._words: dict[Space, bytes] = {}
        self._refused: dict[Space, MemoryUnreadable] = {}

    def keep(self, address: Space) -> int:
        """The 64-bit word at `address`, as it is now; raises MemoryUnreadable."""
        try:
            self._words[address] = self._memory.read(address, QWORD.size)
        except MemoryUnreadable as error:
            self._refused[address] = error
            raise
        word: int = QWORD.unpack(self._words[address])[0]
        return word

    def read(self, address: Space, size: int) -> bytes:
        """A word that was kept; raises MemoryUnreadable for anything else."""
        word = self._words.get(address)
        if word is not None and size == QWORD.size:
            return word
        refused = self._refused.get(address)
        raise refused or MemoryUnreadable(address, size, "not read while it stood still")
