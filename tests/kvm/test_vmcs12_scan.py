# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pages are taken for vmcs12s, and what is doubted of them."""

from __future__ import annotations

from gdb_nept.address import HostPhys
from gdb_nept.arch.controls import EntryControls, PinControls
from gdb_nept.kvm.vmcs12 import SHADOW_INDICATOR
from gdb_nept.kvm.vmcs12_layout import built_in, built_in_layouts
from gdb_nept.kvm.vmcs12_scan import PIECE, Vmcs12Page, page_of, vmcs12_pages
from gdb_nept.memory.sparse import SparseMemory

COMMON = built_in_layouts()[0]
REVISION = built_in().revision
EPT_ON = {
    "cpu_based_vm_exec_control": 1 << 31,
    "secondary_vm_exec_control": 1 << 1,
    "ept_pointer": 0x10501E,
}
ENTERED = {
    "pin_based_vm_exec_control": PinControls(0).reserved_one(),
    "vm_entry_controls": EntryControls(0).reserved_one(),
    "vmcs_link_pointer": (1 << 64) - 1,
    "vm_exit_reason": 48,
    "host_rip": 0xFFFFFFFF81000000,
    "host_cr3": 0x1000,
    **EPT_ON,
}


def page(revision: int = REVISION, **fields: int) -> bytes:
    data = bytearray(4096)
    data[0:4] = revision.to_bytes(4, "little")
    for name, number in fields.items():
        place = COMMON.place(name)
        assert place
        data[place.offset : place.offset + place.size] = number.to_bytes(place.size, "little")
    return bytes(data)


def seen(**changes: int) -> Vmcs12Page:
    return page_of(HostPhys(0x5000), page(**{**ENTERED, **changes}))


def test_one_that_l1_has_entered() -> None:
    found = seen()
    assert found.doubts == ()
    assert found.layout == COMMON
    assert found.eptp is not None
    assert found.eptp.value == 0x10501E
    assert (found.empty, found.shadow, found.launched) == (False, False, False)


def test_one_without_ept_has_no_eptp() -> None:
    assert seen(cpu_based_vm_exec_control=0).eptp is None
    assert seen(secondary_vm_exec_control=0).eptp is None


def test_a_vmxon_region_is_empty_and_not_doubtful() -> None:
    found = page_of(HostPhys(0), page())
    assert found.empty
    assert found.doubts == ()


def test_each_doubt() -> None:
    assert seen(ept_pointer=0x105000 | 7).doubts[0].startswith("EPTP: ")
    assert seen(vmcs_link_pointer=0x1001).doubts == ("VMCS link pointer 0x1001 is no page",)
    assert seen(guest_activity_state=4).doubts == ("activity state 0x4",)
    assert seen(vm_exit_reason=0x7FFF).doubts == ("exit reason 0x7fff",)
    assert seen(host_rip=0, host_cr3=0).doubts == ("host_rip is 0", "host_cr3 is 0")
    assert seen(pin_based_vm_exec_control=0).doubts == ("its controls lack bits that are always 1",)


def memory(*places: int, revision: int = REVISION) -> SparseMemory[HostPhys]:
    return SparseMemory(dict.fromkeys(places, revision), missing=((0x8000, 0xA000),))


def found_in(where: SparseMemory[HostPhys], *ranges: range) -> list[int]:
    return [int(one.place) for one in vmcs12_pages(where, ranges)]


def test_pages_are_found_at_the_edges_of_pieces_and_around_holes() -> None:
    places = [0, 0x7000, 0xA000, PIECE - 0x1000, PIECE, 2 * PIECE - 0x1000]
    assert found_in(memory(*places), range(2 * PIECE)) == places


def test_what_cannot_be_read_is_told() -> None:
    unread: list[range] = []
    list(vmcs12_pages(memory(0), [range(2 * PIECE)], unread=unread))
    assert unread == [range(0x8000, 0xA000)]
    list(vmcs12_pages(memory(0), [range(0x9000, 0xB000), range(0x9000, 0xA000)], unread=unread))
    assert unread[1:] == [range(0x9000, 0xA000)] * 2


def test_only_the_beginning_of_a_page_counts() -> None:
    assert found_in(memory(0x1008, 0x2FF8), range(PIECE)) == []


def test_a_shadow_vmcs_is_told() -> None:
    where = memory(0x3000, revision=REVISION | SHADOW_INDICATOR)
    (found,) = vmcs12_pages(where, [range(0x10000)])
    assert found.shadow


def test_ranges_that_are_no_pages_are_widened() -> None:
    assert found_in(memory(0x3000), range(0x3004, 0x3005)) == [0x3000]
