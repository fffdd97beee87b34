# SPDX-License-Identifier: GPL-2.0-or-later
"""vmcs12: its layouts, and which fields are current when."""

from __future__ import annotations

import json
from typing import cast

import pytest

from gdb_nept.arch.controls import EntryControls, PinControls
from gdb_nept.arch.vmcs import field_names
from gdb_nept.errors import NeptError, NoGuest
from gdb_nept.kvm.authority import Authority, Situation, judge
from gdb_nept.kvm.nested_vmx import read_nested
from gdb_nept.kvm.vmcs12 import decode, read_vmcs12
from gdb_nept.kvm.vmcs12_layout import (
    Layout,
    built_in,
    built_in_layouts,
    by_content,
    from_table,
    from_type,
    layout_of,
    rol16,
)
from tests.kvm.fake import FakeKernel, new_vcpu
from tests.kvm.offsets import DATA, Struct, debian

COMMON, AT_4_12, AT_4_14 = built_in_layouts()
SEEN = json.loads((DATA / "vmcs12_offsets.json").read_text())["layouts"]
L2_RUNS = Situation(loaded=True, l2_active=True)
L1_RUNS = Situation(loaded=True, l2_active=False)


def offsets(layout: Layout) -> dict[str, int]:
    return {f"{place.encoding:04x}": place.offset for place in layout.places}


def seen(name: str) -> dict[str, int]:
    row = next(row for row in SEEN if row["id"] == name)
    return cast("dict[str, int]", row["fields"])


@pytest.mark.parametrize("name", ["v4.9", "v4.18", "v5.8", "v5.12", "v6.18"])
def test_the_common_layout_holds_every_field_of_these_kernels(name: str) -> None:
    assert seen(name).items() <= offsets(COMMON).items()


def test_the_odd_layouts() -> None:
    # CR3-target values went later, so the odd layouts have them
    assert offsets(AT_4_12) == seen("v4.12")
    assert offsets(AT_4_14) == seen("v4.14")


def test_all_fields_have_a_name_of_the_sdm() -> None:
    assert {field.encoding for field in built_in().fields} <= set(field_names())


@pytest.mark.parametrize("layout", [COMMON, AT_4_12, AT_4_14], ids=["common", "4.12", "4.14"])
def test_no_two_fields_overlap(layout: Layout) -> None:
    for low, high in zip(layout.places, layout.places[1:]):
        assert low.offset + low.size <= high.offset
    assert layout.places[-1].offset + layout.places[-1].size <= layout.size


def content(layout: Layout, **fields: int) -> bytes:
    """A vmcs12 in this layout that VM entry would accept, as far as its controls go."""
    fields.setdefault("pin_based_vm_exec_control", PinControls.default1)
    fields.setdefault("vm_entry_controls", EntryControls.default1 | 1 << 9)
    data = bytearray(4096)
    data[0:4] = built_in().revision.to_bytes(4, "little")
    for name, number in fields.items():
        place = layout.place(name)
        assert place, name
        data[place.offset : place.offset + place.size] = number.to_bytes(place.size, "little")
    return bytes(data)


@pytest.mark.parametrize("layout", [COMMON, AT_4_12, AT_4_14], ids=["common", "4.12", "4.14"])
def test_layouts_are_told_apart_by_content(layout: Layout) -> None:
    assert by_content(content(layout)) == layout


def test_an_empty_vmcs12_tells_nothing() -> None:
    with pytest.raises(NeptError, match="no built-in layout fits"):
        by_content(bytes(4096))


def table_kernel(name: str, rotated: bool, layout: str) -> FakeKernel:
    """A kernel that has no type vmcs12, but the table of kvm-intel.ko."""
    kernel = FakeKernel(debian())
    table = kernel.allocate(2 * 0x7000)
    kernel.symbols.addresses[name] = table
    for encoding, offset in seen(layout).items():
        number = int(encoding, 16)
        index = rol16(number, 6) if rotated else number
        kernel.put(table + 2 * index, offset.to_bytes(2, "little"))
    return kernel


@pytest.mark.parametrize(
    ("name", "rotated", "layout"),
    [
        ("vmcs12_field_offsets", True, "v5.12"),
        ("vmcs12_field_offsets", True, "v6.18"),
        ("vmcs_field_to_offset_table", True, "v4.18"),
        ("vmcs_field_to_offset_table", False, "v4.14"),
        ("vmcs_field_to_offset_table", False, "v4.9"),
    ],
)
def test_layout_by_the_table_of_the_module(name: str, rotated: bool, layout: str) -> None:
    kernel = table_kernel(name, rotated, layout)
    found = from_table(kernel)
    assert found
    assert offsets(found) == seen(layout)
    assert name in layout_of(kernel, lambda: b"").origin


def test_layout_by_the_type() -> None:
    kernel = FakeKernel(debian())
    kernel.types.structs["vmcs12"] = Struct(
        998,
        {
            "hdr": (0, 4),
            "padding": (12, 28),
            "ept_pointer": (120, 8),
            "brand_new": (730, 2),
            "host_rip": (672, 8),
        },
    )
    found = layout_of(kernel, lambda: b"")
    assert [place.name for place in found.places] == ["ept_pointer", "host_rip", "brand_new"]
    assert found.places[2].encoding is None
    assert found == from_type(kernel.types.struct("vmcs12"))


@pytest.mark.parametrize(
    ("size", "fields"),
    [(1 << 31, {"ept_pointer": (120, 8)}), (998, {"ept_pointer": (996, 8)})],
)
def test_a_type_that_no_vmcs12_can_have_is_not_believed(
    size: int, fields: dict[str, tuple[int, int]]
) -> None:
    kernel = table_kernel("vmcs12_field_offsets", True, "v6.18")
    kernel.types.structs["vmcs12"] = Struct(size, fields)
    found = layout_of(kernel, lambda: b"")
    assert found == from_table(kernel)


def test_fields_controls_and_eptp() -> None:
    data = content(
        COMMON,
        ept_pointer=0x1234505E,
        cpu_based_vm_exec_control=1 << 31,
        secondary_vm_exec_control=1 << 1,
        virtual_processor_id=7,
    )
    vmcs12 = decode(data, COMMON, L2_RUNS)
    assert vmcs12.ept_enabled
    assert (vmcs12.eptp.address, vmcs12.eptp.levels) == (0x12345000, 4)
    assert vmcs12.field("EPT pointer") == vmcs12.field("0x201a") == vmcs12.field("ept_pointer")
    assert vmcs12.field("VPID").value == 7
    assert vmcs12.entry.ia32e_guest
    assert not vmcs12.problems
    with pytest.raises(NoGuest, match="no field 'eptp'"):
        vmcs12.field("eptp")


def test_secondary_controls_that_are_not_activated() -> None:
    vmcs12 = decode(content(COMMON, secondary_vm_exec_control=2), COMMON, L2_RUNS)
    assert not vmcs12.ept_enabled
    assert vmcs12.number("secondary_vm_exec_control") == 2


def test_a_wrong_revision_is_told() -> None:
    vmcs12 = decode(b"\1" + content(COMMON)[1:], COMMON, Situation(False, False))
    assert "revision" in vmcs12.problems[0]
    assert "no vmcs12 is loaded" in vmcs12.problems[1]


@pytest.mark.parametrize(
    ("name", "now", "authority"),
    [
        ("ept_pointer", L2_RUNS, Authority.AUTHORITATIVE),
        ("host_rip", L2_RUNS, Authority.AUTHORITATIVE),
        ("vm_entry_controls", L2_RUNS, Authority.AUTHORITATIVE),
        ("guest_rip", L2_RUNS, Authority.STALE),
        ("guest_es_base", L2_RUNS, Authority.STALE),
        ("guest_ia32_pat", L2_RUNS, Authority.MAYBE_STALE),
        ("exit_qualification", L2_RUNS, Authority.LAST_EXIT),
        ("guest_linear_address", L1_RUNS, Authority.LAST_EXIT),
        ("guest_rip", Situation(True, True, run_pending=True), Authority.AUTHORITATIVE),
        ("guest_rip", L1_RUNS, Authority.AUTHORITATIVE),
        ("guest_rip", Situation(True, False, shadowing=True), Authority.MAYBE_STALE),
        (
            "guest_rip",
            Situation(True, False, shadowing=True, newer_in_cache=True),
            Authority.AUTHORITATIVE,
        ),
        ("ept_pointer", Situation(True, False, shadowing=True), Authority.AUTHORITATIVE),
        ("guest_es_base", L1_RUNS, Authority.AUTHORITATIVE),
        ("guest_es_base", Situation(True, False, rare_sync_pending=True), Authority.STALE),
        ("ept_pointer", Situation(True, False, evmcs=True), Authority.MAYBE_STALE),
        ("ept_pointer", Situation(True, True, evmcs=True), Authority.AUTHORITATIVE),
        ("ept_pointer", Situation(False, False), Authority.STALE),
        ("brand_new", L2_RUNS, Authority.MAYBE_STALE),
    ],
)
def test_who_is_right(name: str, now: Situation, authority: Authority) -> None:
    found = judge(name, now)
    assert found.authority is authority
    assert found.why


def test_reading_the_cache_of_a_vcpu() -> None:
    kernel = table_kernel("vmcs12_field_offsets", True, "v5.12")
    vmx = new_vcpu(kernel)
    with pytest.raises(NoGuest, match="no cached vmcs12"):
        read_vmcs12(kernel, read_nested(vmx))
    cache = kernel.allocate(4096)
    kernel.put(cache, content(COMMON, ept_pointer=0x505E))
    kernel.poke(vmx, "nested.cached_vmcs12", cache)
    kernel.poke(vmx, "nested.current_vmptr", 0x9000)
    vmcs12 = read_vmcs12(kernel, read_nested(vmx))
    assert (vmcs12.address, vmcs12.pointer, len(vmcs12.fields)) == (cache, 0x9000, 141)
    assert vmcs12.eptp.value == 0x505E


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ept_pointer", "KVM changes it here"),  # nested_vmx_eptp_switching()
        ("guest_pml_index", "KVM changes it here"),  # nested_vmx_write_pml_buffer()
        ("vm_entry_intr_info_field", "KVM changes it here"),  # prepare_vmcs12()
        ("pml_address", "L1 alone writes it"),
        ("guest_physical_address", "because of EPT"),  # nested_ept_inject_page_fault()
        ("vm_instruction_error", "failed last"),  # nested_vmx_failValid()
        ("vm_exit_reason", "the last exit to L1"),
    ],
)
def test_who_else_writes_a_field(name: str, says: str) -> None:
    assert says in judge(name, Situation(loaded=True, l2_active=True)).why
