# SPDX-License-Identifier: GPL-2.0-or-later
"""A vmcs12 as a page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gdb_nept.kvm.authority import CURRENT, Situation
from gdb_nept.kvm.vmcs12 import decode
from gdb_nept.kvm.vmcs12_layout import Layout, Place
from gdb_nept.render.vmcs12 import GROUPS, vmcs12_page
from tests.render.drawn import drawn

PLACES = (
    Place("ept_pointer", 0x201A, 0, 8),
    Place("guest_rip", 0x681E, 8, 8),
    Place("host_rip", 0x6C16, 16, 8),
    Place("vm_exit_reason", 0x4402, 24, 4),
    Place("exit_qualification", 0x6400, 28, 8),
    Place("vm_exit_controls", 0x400C, 36, 4),
    Place("vm_entry_controls", 0x4012, 40, 4),
    Place("brand_new", None, 44, 8),
)


DATA = (
    0x105E.to_bytes(8, "little")
    + 0x1234.to_bytes(8, "little")
    + 0x5678.to_bytes(8, "little")
    + (48).to_bytes(4, "little")
    + 0x181.to_bytes(8, "little")
    + bytes(16)
)


VMCS12 = decode(DATA, Layout("a test", 52, PLACES), Situation(loaded=True, l2_active=True))


def test_all_fields_stand_in_their_groups() -> None:
    text = drawn(vmcs12_page(VMCS12, every=True))
    places = [text.index(f"\n{group}, ") for group in GROUPS]
    assert places == sorted(places)
    assert "layout: a test" in text
    names = [field.name for field in VMCS12.fields]
    assert all(text.count(f"  {name}  ") == 1 for name in names)


def test_an_authority_stands_once_over_its_fields() -> None:
    words = " ".join(drawn(vmcs12_page(VMCS12)).split())
    before = words.partition("0x681e guest_rip 0x1234")[0]
    heading = "Guest-state area, stale: L2 runs: the value is in vmcs02"
    assert heading in before
    assert words.count(heading) == 1


def test_fields_that_are_0_are_counted_or_named() -> None:
    zero = replace(VMCS12, data=bytes(len(DATA)))
    text = drawn(vmcs12_page(zero))
    assert "all 0 (--all tells of each): ept_pointer" in " ".join(text.split())
    assert "hardware would" in drawn(vmcs12_page(zero, every=True))
    assert "  guest_rip  " not in text
    old = sum(field.authority not in CURRENT for field in zero.fields)
    assert f"{old} of {len(zero.fields)} fields" in text


def test_chosen_fields_are_decoded() -> None:
    chosen = tuple(VMCS12.field(name) for name in ("ept_pointer", "exit_qualification"))
    text = drawn(vmcs12_page(VMCS12, chosen))
    assert "host_rip" not in text
    assert "enable accessed and dirty flags" in text
    assert "exit qualification of an EPT violation 0x181:" in text


def test_vmcs12_as_data() -> None:
    data: Any = vmcs12_page(VMCS12).data
    first = data["fields"][0]
    assert first["name"] == "ept_pointer"
    assert (first["encoding"], first["value"]) == ("0x201a", "0x105e")
    assert (first["authority"], first["group"]) == ("authoritative", GROUPS[2])
    assert data["fields"][-1]["encoding"] is None
