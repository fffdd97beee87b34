# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory as it stood: what was kept stays, and nothing is read later."""

from __future__ import annotations

import pytest

from gdb_nept.address import L1Phys
from gdb_nept.errors import MemoryUnreadable, NoMemory
from gdb_nept.memory.standing import Standing


class Changing:
    """Each read gives another byte; there is nothing at 0x9000 at first."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, address: L1Phys, size: int) -> bytes:
        self.reads += 1
        if address == 0x9000 and self.reads < 3:
            raise NoMemory(address, size, "not yet")
        return bytes([self.reads]) * size


def test_what_was_kept_stays_and_nothing_is_read_later() -> None:
    below = Changing()
    memory = Standing(below)
    assert memory.keep(L1Phys(0x1008)) == 0x0101010101010101
    with pytest.raises(NoMemory):
        memory.keep(L1Phys(0x9000))
    assert memory.read(L1Phys(0x1008), 8) == b"\1" * 8
    with pytest.raises(NoMemory, match="not yet"):
        memory.read(L1Phys(0x9000), 8)
    for address, size in ((0x1010, 8), (0x1008, 4), (0x1008, 16)):
        with pytest.raises(MemoryUnreadable, match="while it stood still"):
            memory.read(L1Phys(address), size)
    assert below.reads == 2
