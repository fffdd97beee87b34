# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists, trees and xarrays: whole, damaged, and in circles."""

from __future__ import annotations

import pytest

from gdb_nept.address import KernelVirt
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.kvm.containers import Entry, list_nodes, tree_nodes, xarray_entries
from gdb_nept.target.ports import CType, Value
from tests.kvm.fake import FakeKernel, link
from tests.kvm.offsets import debian


def kernel() -> FakeKernel:
    return FakeKernel(debian())


def test_list_in_order() -> None:
    fake = kernel()
    head, *nodes = (fake.allocate(16) for _ in range(4))
    link(fake, head, list(nodes))
    assert list_nodes(fake, head).addresses == tuple(nodes)
    assert not list_nodes(fake, head).problem


def test_a_field_that_damaged_types_make_endless_is_not_read() -> None:
    fake = kernel()
    character = CType("int", "char", 1)
    name = CType("array", "char", 1 << 60, count=1 << 60, target=lambda: character)
    value = Value(fake, name, fake.allocate(16))
    with pytest.raises(MemoryUnreadable, match="the types are damaged"):
        value.string()


def test_empty_list() -> None:
    fake = kernel()
    head = fake.allocate(16)
    link(fake, head, [])
    assert list_nodes(fake, head).addresses == ()


def test_list_in_a_circle_is_told() -> None:
    fake = kernel()
    head, first, second = (fake.allocate(16) for _ in range(3))
    link(fake, head, [first, second])
    fake.put_u64(second, first)
    found = list_nodes(fake, head)
    assert found.addresses == (first, second)
    assert "circle" in found.problem


def test_list_that_breaks_off_keeps_what_it_found() -> None:
    fake = kernel()
    head, first = (fake.allocate(16) for _ in range(2))
    link(fake, head, [first])
    fake.put_u64(first, 0xDEAD000000000100)
    found = list_nodes(fake, head)
    assert found.addresses == (first, 0xDEAD000000000100)
    assert "breaks off" in found.problem


def test_list_stops_at_its_limit_and_at_null() -> None:
    fake = kernel()
    nodes = [fake.allocate(16) for _ in range(5)]
    link(fake, nodes[0], list(nodes[1:]))
    assert "gave up" in list_nodes(fake, nodes[0], limit=2).problem
    fake.put_u64(nodes[2], 0)
    assert "null" in list_nodes(fake, nodes[0]).problem


def tree(fake: FakeKernel, keys: list[int]) -> tuple[KernelVirt, dict[int, KernelVirt]]:
    """An unbalanced search tree; returns the rb_root and the node of each key."""
    root = fake.allocate(8)
    nodes: dict[int, KernelVirt] = {}
    for key in keys:
        nodes[key] = fake.new("rb_node").address
        place = root
        while above := int.from_bytes(fake.read(place, 8), "little"):
            parent = next(one for one, node in nodes.items() if node == above)
            place = KernelVirt(above + (16 if key < parent else 8))
        fake.put_u64(place, nodes[key])
    return root, nodes


def test_tree_in_order() -> None:
    fake = kernel()
    root, nodes = tree(fake, [5, 2, 8, 1, 3, 9, 7])
    found = tree_nodes(fake, root)
    assert found.addresses == tuple(nodes[key] for key in sorted(nodes))
    assert not found.problem


def test_tree_that_comes_back_is_told() -> None:
    fake = kernel()
    root, nodes = tree(fake, [5, 2, 8])
    fake.put_u64(nodes[8] + 8, nodes[5])
    found = tree_nodes(fake, root)
    assert "no tree" in found.problem
    assert set(found.addresses) <= set(nodes.values())


def test_empty_tree() -> None:
    fake = kernel()
    assert tree_nodes(fake, fake.allocate(8)).addresses == ()


def test_lone_entry_of_an_xarray_lies_in_its_head() -> None:
    fake = kernel()
    array = fake.new("xarray")
    assert xarray_entries(array).entries == ()
    fake.poke(array, "xa_head", 0xFFFF888012345000)
    assert xarray_entries(array).entries == (Entry(0, KernelVirt(0xFFFF888012345000)),)


def test_two_levels_of_an_xarray() -> None:
    fake = kernel()
    array, top, low = fake.new("xarray"), fake.new("xa_node"), fake.new("xa_node")
    fake.poke(array, "xa_head", top.address + 2)
    fake.poke(top, "shift", 6)
    fake.poke(top, "slots", low.address + 2, 1)
    fake.poke(top, "slots", 0x406, 2)  # XA_ZERO_ENTRY: reserved, nothing there
    fake.poke(low, "slots", 0xFFFF888000001000, 0)
    fake.poke(low, "slots", 0xFFFF888000002000, 63)
    found = xarray_entries(array)
    assert [(entry.index, entry.address) for entry in found.entries] == [
        (64, 0xFFFF888000001000),
        (127, 0xFFFF888000002000),
    ]


@pytest.mark.parametrize("shift", [7, 64, 66, 255])
def test_an_xarray_with_a_shift_that_is_none_is_told(shift: int) -> None:
    fake = kernel()
    array, top = fake.new("xarray"), fake.new("xa_node")
    fake.poke(array, "xa_head", top.address + 2)
    fake.poke(top, "shift", shift)
    assert f"shift of {shift}" in xarray_entries(array).problem


def test_xarray_that_comes_back_is_told() -> None:
    fake = kernel()
    array, top = fake.new("xarray"), fake.new("xa_node")
    fake.poke(array, "xa_head", top.address + 2)
    fake.poke(top, "shift", 12)
    fake.poke(top, "slots", top.address + 2, 3)
    assert "comes back" in xarray_entries(array).problem


def test_xarray_with_an_unreadable_node() -> None:
    fake = kernel()
    array = fake.new("xarray")
    fake.poke(array, "xa_head", 0xFFFF999900000002)
    assert "unreadable" in xarray_entries(array).problem
