# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of a live machine is chosen once a connection, and nothing stale is used."""

from __future__ import annotations

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput, NeptError
from gdb_nept.memory.transport import NotOffered
from gdb_nept.target.live_memory import LiveMemory
from tests.memory.stubs import BASE, Machine
from tests.target.remotes import Remote


def read(memory: LiveMemory, place: int, size: int = 8) -> bytes:
    transport, cache = memory.ready()
    with transport.held():
        return cache.read(HostPhys(place), size)


def test_a_page_is_read_once_until_the_machine_ran() -> None:
    machine = Machine()
    memory = LiveMemory(Remote(machine))
    first = read(memory, 0x1000)
    machine.memory[0x1000:0x1008] = b"changed!"
    assert read(memory, 0x1000) == first
    memory.drop()
    assert read(memory, 0x1000) == b"changed!"
    assert machine.sent.count("m1000,1000") == 2
    assert machine.sent.count("monitor info mtree -f") == 1
    assert machine.mode == "0"


def test_another_connection_shares_nothing() -> None:
    remote = Remote(Machine())
    memory = LiveMemory(remote)
    read(memory, 0x1000)
    remote.stub, remote.number = Machine(), 2
    remote.stub.memory[0x1000:0x1008] = b"another!"
    assert memory.choice is None
    assert read(memory, 0x1000) == b"another!"


def test_what_a_lost_connection_left_undone_is_done_whatever_is_used_then() -> None:
    machine = Machine()
    remote = Remote(machine, BASE)
    memory = LiveMemory(remote)
    transport, _ = memory.ready()
    with transport.held():
        machine.gone = True
    assert machine.mode == "1"
    machine.gone = False
    remote.number = 2
    memory.want("direct")
    assert read(memory, 0x1000) == bytes(machine.memory[0x1000:0x1008])
    assert machine.mode == "0"


def test_a_way_that_is_wanted_is_used_from_then_on() -> None:
    machine = Machine()
    memory = LiveMemory(Remote(machine, BASE))
    read(memory, 0x1000)
    memory.want("direct")
    read(memory, 0x1000)
    assert machine.sent[-1] == f"m{BASE + 0x1000:x},40"
    assert memory.choice is not None
    assert memory.choice.transport.kind == "direct"
    with pytest.raises(BadInput, match="no way 'telepathy'"):
        memory.want("telepathy")


def test_a_stub_without_the_mode_is_read_through_the_direct_map() -> None:
    machine = Machine(mode=None, answers={})
    memory = LiveMemory(Remote(machine, BASE))
    assert read(memory, 0x1000) == bytes(machine.memory[0x1000:0x1008])
    assert memory.choice is not None
    assert "does not know the packet" in str(memory.choice.refusals[-1])
    assert memory.virtual_only


def test_a_stub_with_the_mode_has_more_than_virtual_addresses_whatever_is_used() -> None:
    memory = LiveMemory(Remote(Machine(), BASE))
    memory.want("direct")
    assert not memory.virtual_only  # nothing was read yet
    memory.ready()
    assert not memory.virtual_only


def test_where_nothing_works_all_is_told() -> None:
    memory = LiveMemory(Remote(Machine(mode=None)))
    with pytest.raises(NotOffered, match="cannot be read") as caught:
        memory.ready()
    assert "page_offset_base is not known" in caught.value.advice


def test_nothing_is_asked_of_no_target() -> None:
    remote = Remote(Machine())
    remote.where = ""
    memory = LiveMemory(remote)
    with pytest.raises(NeptError, match="not attached"):
        memory.ready()
    assert memory.choice is None
    assert remote.stub.sent == []
