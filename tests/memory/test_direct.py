# SPDX-License-Identifier: GPL-2.0-or-later
"""The direct map, over a stub that has nothing but virtual addresses."""

from __future__ import annotations

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.direct import DirectMapMemory
from gdb_nept.memory.reader import PageCache
from tests.memory.stubs import BASE, SIZE, Machine


def test_it_reads_at_the_base_and_switches_nothing() -> None:
    machine = Machine(mode=None)
    memory = DirectMapMemory(machine, BASE)
    with memory.held():
        assert memory.read(HostPhys(0x1234), 8) == bytes(machine.memory[0x1234:0x123C])
    assert machine.sent == [f"m{BASE + 0x1234:x},8"]
    assert memory.describe() == (
        "the kernel's direct map at 0xffff888000000000; the extent of RAM is not known (no monitor)"
    )


def test_an_entry_costs_a_cache_line_and_neighbours_one_packet() -> None:
    machine = Machine(mode=None)
    cache: PageCache[HostPhys] = PageCache(DirectMapMemory(machine, BASE))
    for place in (0x1008, 0x1010, 0x1038):
        assert cache.read(HostPhys(place), 8) == bytes(machine.memory[place : place + 8])
    assert cache.read(HostPhys(0x1030), 0xA0) == bytes(machine.memory[0x1030:0x10D0])
    assert machine.sent == [f"m{BASE + 0x1000:x},40", f"m{BASE + 0x1040:x},c0"]


@pytest.mark.parametrize("address", [SIZE, SIZE - 4])
def test_what_is_not_mapped_is_told_by_its_physical_address(address: int) -> None:
    with pytest.raises(MemoryUnreadable, match="direct map does not have it") as caught:
        DirectMapMemory(Machine(mode=None), BASE).read(HostPhys(address), 8)
    assert caught.value.address == address


@pytest.mark.parametrize("address", [-8, 1 << 52, (1 << 52) - 4])
def test_no_address_leads_out_of_the_direct_map(address: int) -> None:
    machine = Machine(mode=None)
    with pytest.raises(MemoryUnreadable, match="no processor"):
        DirectMapMemory(machine, BASE).read(HostPhys(address), 8)
    assert machine.sent == []
