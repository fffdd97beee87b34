# SPDX-License-Identifier: GPL-2.0-or-later
"""Memslots in both forms, and what KVM counts for a page."""

from __future__ import annotations

import pytest

from gdb_nept.address import L1Phys
from gdb_nept.kvm.memslots import memslots, most_slots, spaces
from gdb_nept.kvm.tracking import tracking
from tests.kvm.fake import FakeKernel, add_slots, new_vm
from tests.kvm.offsets import Offsets, debian, oldest

SLOTS = [
    (0, 0x0, 0x200_0000, 0x7F00_0000_0000),
    (1, 0x400_0000, 0x40_0000, 0x7F11_0000_0000),
    (2, 0xFFF0_0000, 0x1_0000, 0x7F22_0000_0000),
]
FORMS = pytest.mark.parametrize(
    ("offsets", "form"), [(debian(), "tree"), (oldest(), "array")], ids=["tree", "array"]
)


@FORMS
def test_slots_of_both_forms(offsets: Offsets, form: str) -> None:
    kernel = FakeKernel(offsets)
    vm = new_vm(kernel, [])
    add_slots(kernel, vm, SLOTS)
    found = memslots(vm)
    assert (found.form, found.problems, spaces(vm)) == (form, (), 2)
    rows = [(slot.id, slot.start, slot.size, slot.userspace_addr) for slot in found.slots]
    assert rows == SLOTS


@FORMS
def test_where_an_address_lies(offsets: Offsets, form: str) -> None:
    kernel = FakeKernel(offsets)
    vm = new_vm(kernel, [])
    add_slots(kernel, vm, SLOTS)
    found = memslots(vm)
    slot = found.find(L1Phys(0x40_1234 + 0x400_0000 - 0x40_0000))
    assert slot
    assert slot.host_virtual(L1Phys(0x400_1234)) == 0x7F11_0000_1234
    last = found.find(L1Phys(0x1FF_FFFF))
    assert last
    assert last.id == 0
    assert found.find(L1Phys(0x200_0000)) is None
    assert memslots(vm, 1).slots == ()


def test_the_other_node_of_each_slot() -> None:
    kernel = FakeKernel(debian())
    vm = new_vm(kernel, [])
    kernel.poke(vm.member("memslots").index(0).deref(), "node_idx", 1)
    add_slots(kernel, vm, SLOTS)
    assert [slot.id for slot in memslots(vm).slots] == [0, 1, 2]


def test_flags_and_generation() -> None:
    kernel = FakeKernel(debian())
    vm = new_vm(kernel, [])
    add_slots(kernel, vm, SLOTS[:1])
    table = vm.member("memslots").index(0).deref()
    kernel.poke(table, "generation", 1 << 63 | 6)
    kernel.poke(memslots(vm).slots[0].value, "flags", 1 << 16 | 1 << 25 | 3)
    found = memslots(vm)
    assert found.update_in_progress
    flags = found.slots[0].flags
    assert [row.short for row in flags.named()] == [
        "LOG_DIRTY_PAGES",
        "READONLY",
        "INVALID",
        "other",
    ]
    assert flags.value == 1 << 16 | 1 << 25 | 3


def test_overlap_is_told() -> None:
    kernel = FakeKernel(debian())
    vm = new_vm(kernel, [])
    add_slots(kernel, vm, [SLOTS[0], (5, 0x100_0000, 0x200_0000, 0x7F33_0000_0000)])
    assert "slots 0 and 5 overlap" in memslots(vm).problems[0]


def test_no_more_slots_are_believed_than_the_kernel_has_ids_for() -> None:
    kernel = FakeKernel(oldest())
    vm = new_vm(kernel, [])
    table = vm.member("memslots").index(0).deref()
    assert most_slots(table) == 8
    kernel.poke(table, "used_slots", 8)
    assert len(memslots(vm).slots) == 8
    for count in (9, 0x4003, 1 << 30):
        kernel.poke(table, "used_slots", count)
        found = memslots(vm)
        assert f"used_slots is {count}: not believed" in found.problems[0]
        assert not found.slots


def test_write_tracking_and_large_pages() -> None:
    kernel = FakeKernel(debian())
    vm = new_vm(kernel, [])
    add_slots(kernel, vm, SLOTS[1:2])
    slot = memslots(vm).slots[0]
    page = L1Phys(0x420_3000)
    assert tracking(slot, page).write_tracked is None
    counts, users = kernel.allocate(2 * 1024), kernel.allocate(8)
    kernel.poke(slot.value, "arch.gfn_track", counts, 0)
    kernel.poke(slot.value, "arch.lpage_info", users, 0)
    kernel.put(counts + 2 * 0x203, b"\2\0")
    kernel.put(users + 4, b"\5\0\0\0")
    found = tracking(slot, page)
    assert found.write_tracked == 2
    assert found.large_page_users == ((2, 5), (3, None))
    assert tracking(slot, L1Phys(0x400_0000)).write_tracked == 0


def test_write_tracking_since_6_6() -> None:
    offsets = debian()
    kernel = FakeKernel(offsets)
    del kernel.types.structs["kvm_arch_memory_slot"].fields["gfn_track"]
    kernel.types.structs["kvm_arch_memory_slot"].fields["gfn_write_track"] = (40, 8)
    vm = new_vm(kernel, [])
    add_slots(kernel, vm, SLOTS[1:2])
    slot = memslots(vm).slots[0]
    counts = kernel.allocate(2 * 1024)
    kernel.poke(slot.value, "arch.gfn_write_track", counts)
    kernel.put(counts, b"\1\0")
    assert tracking(slot, slot.start).write_tracked == 1
