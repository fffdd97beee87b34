# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON lines with a guest's registers: the whole two-dimensional walk."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gdb_nept.predict.model import model
from gdb_nept.predict.request import answer_lines
from tests.predict.tables import CAP
from tests.schemas import hold, validator

PG, PE, WP = 1 << 31, 1, 1 << 16
PSE, PAE, SMAP, PKE = 1 << 4, 1 << 5, 1 << 21, 1 << 22
LME, LMA, NXE = 1 << 8, 1 << 10, 1 << 11
P, W, U, A, D, LARGE = 1, 2, 4, 0x20, 0x40, 0x80
USER = P | W | U | A | D
EPT_ROOT, EPT_TABLE, EPT_PAGES, EPT_LEAVES = 0x1000, 0x2000, 0x3000, 0x4000
RX = 0x35  # read, execute, WB

#: EPT12 maps the first 2 MiB to themselves, page by page.
EPT = {
    EPT_ROOT: EPT_TABLE | 7,
    EPT_TABLE: EPT_PAGES | 7,
    EPT_PAGES: EPT_LEAVES | 7,
    **{EPT_LEAVES + 8 * page: page << 12 | 0x37 for page in range(512)},
}
TABLES = {0x10000: 0x11000 | USER, 0x11000: 0x12000 | USER, 0x12000: 0x13000 | USER}
LONG = {
    "cr0": hex(PG | PE | WP),
    "cr3": "0x10000",
    "cr4": hex(PAE),
    "efer": hex(LMA | LME | NXE),
    "rflags": "0x2",
    "pdptrs": None,
    "pkru": "0x0",
    "pkrs": None,
    "cpl": 3,
}


def asked(words: dict[int, int], guest: dict[str, Any], **access: Any) -> dict[str, Any]:
    return asked_with({}, words, guest, **access)


def asked_with(
    more: dict[str, Any], words: dict[int, int], guest: dict[str, Any], **access: Any
) -> dict[str, Any]:
    """`more` are other keys of the request."""
    request = {
        "id": "one",
        "eptp": hex(EPT_ROOT | 0x1E),
        "ept_caps": hex(CAP),
        "maxphyaddr": 39,
        "memory": {hex(place): hex(word) for place, word in {**EPT, **words}.items()},
        "guest": guest,
        "access": {"gla": "0x123", "op": "read", **access},
        **more,
    }
    (line,) = answer_lines([json.dumps(request)], model("sdm"))
    found: dict[str, Any] = json.loads(line)
    hold("answers", found)
    if found.get("ignored") == []:
        hold("requests", request)
    return found


def test_the_whole_way() -> None:
    found = asked({**TABLES, 0x13000: 0x20000 | USER}, LONG)
    assert (found["outcome"], found["hpa"], found["ignored"]) == ("translated", "0x20123", [])
    assert [(step["level"], step["address"]) for step in found["guest_steps"]] == [
        (4, "0x10000"),
        (3, "0x11000"),
        (2, "0x12000"),
        (1, "0x13000"),
    ]
    assert found["guest"]["gpa"] == "0x20123"
    assert found["access"] == {"gpa": "0x20123", "op": "read", "stage": "final"}
    assert [one["stage"] for one in found["before"]] == ["walk"] * 4
    assert found["page_fault"] is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, None),
        ({"cr0": hex(PG | WP)}, "L2's CR0 has PG (bit 31) without PE (bit 0)"),
        ({"efer": hex(LMA | NXE)}, "L2's IA32_EFER has LMA (bit 10) without LME (bit 8)"),
        ({"cr4": hex(PAE | 1 << 15)}, "L2's CR4 has reserved bits set (0x8000)"),
        (
            {"efer": "0x0", "pdptrs": ["0x1e7", "0x0", "0x0", "0x0"]},
            "L2's PDPTE register 0 has reserved bits set (0x1e6)",
        ),
        (
            {"cr0": "0x0", "cr4": "0x0", "efer": "0x0"},
            "L2 is at CPL 3 without CR0.PE (bit 0)",
        ),
    ],
)
def test_registers_that_vm_entry_refuses_are_told(changes: dict[str, Any], why: str | None) -> None:
    assert asked(TABLES, {**LONG, **changes})["entry_failure"] == why


@pytest.mark.parametrize("key", ["pkru", "pkrs"])
def test_protection_keys_have_32_bits(key: str) -> None:
    found = asked(TABLES, {**LONG, key: 1 << 32})
    assert found["error"] == f"{key}: 0x100000000 has more than 32 bits"
    assert "error" not in asked(TABLES, {**LONG, key: (1 << 32) - 1})


def test_l2s_own_fault_has_its_error_code() -> None:
    found = asked({**TABLES, 0x13000: 0x20000 | P | A}, LONG, op="write")
    assert found["outcome"] == "page_fault"
    assert found["page_fault"]["error_code"] == "0x7"
    assert (found["page_fault"]["cr2"], found["exit_reason"]) == ("0x123", None)
    assert len(found["guest_steps"]) == 4
    assert found["steps"] == []


def test_a_table_that_ept_does_not_let_be_updated() -> None:
    read_only = {EPT_LEAVES + 8 * 0x12: 0x12000 | RX, 0x12000: 0x13000 | USER & ~A}
    found = asked({**TABLES, **read_only, 0x13000: 0x20000 | USER}, LONG)
    assert (found["outcome"], found["guest_physical_address"]) == ("violation", "0x12000")
    assert found["access"]["stage"] == "walk"
    assert int(found["exit_qualification"], 16) & 0x180 == 0x080  # linear, not its translation
    assert len(found["guest_steps"]) == 4


def test_ept_stops_the_walk_at_the_entry_that_it_hides() -> None:
    found = asked({**TABLES, EPT_LEAVES + 8 * 0x12: 0}, LONG)
    assert (found["outcome"], found["guest_physical_address"]) == ("violation", "0x12000")
    assert [step["level"] for step in found["guest_steps"]] == [4, 3]


def test_keys_and_what_nobody_told() -> None:
    words = {**TABLES, 0x13000: 0x20000 | USER | 5 << 59}
    keys = {**LONG, "cr4": hex(PAE | PKE)}
    found = asked(words, {**keys, "pkru": hex(1 << 10)})
    assert found["page_fault"]["error_code"] == "0x25"
    found = asked(words, {**keys, "pkru": None})
    assert found["outcome"] == "translated"
    assert "PKRU is not known" in found["doubts"][0]


def test_smap_and_implicit_accesses() -> None:
    words = {**TABLES, 0x13000: 0x20000 | USER}
    kernel = {**LONG, "cr4": hex(PAE | SMAP), "cpl": 0, "rflags": hex(1 << 18)}
    assert asked(words, kernel)["outcome"] == "translated"
    assert asked(words, {**kernel, "rflags": 2})["page_fault"]["error_code"] == "0x1"
    assert asked(words, kernel, implicit=True)["page_fault"]["error_code"] == "0x1"
    assert asked(words, {**kernel, "cpl": 3}, implicit=True)["page_fault"]["error_code"] == "0x1"


def test_pae_goes_by_the_registers_and_not_by_memory() -> None:
    guest = {"cr0": PG | PE, "cr3": "0x10000", "cr4": PAE, "efer": 0}
    words = {0x10000: 0x14000 | P, 0x11000: 0x13000 | USER, 0x13000: 0x20000 | USER}
    by_register = asked(words, {**guest, "pdptrs": [0x11000 | P, 0, 0, 0]})
    assert (by_register["hpa"], by_register["doubts"]) == ("0x20123", [])
    assert by_register["guest_steps"][0]["address"] is None
    from_memory = asked(words, guest)
    assert from_memory["outcome"] == "page_fault"
    assert "pdptrs were not given" in from_memory["doubts"][0]
    assert asked(words, {**guest, "pdptrs": [0, 0, 0, 0]})["page_fault"]["error_code"] == "0x0"


def test_32_bit_entries_in_words_of_64_bits() -> None:
    guest = {"cr0": PG | PE, "cr3": "0x10000", "cr4": PSE}
    words = {0x10000: (0x13000 | USER) << 32, 0x13000: (0x20000 | USER) << 32}
    found = asked(words, guest, gla="0x401008")
    assert [step["entry"] for step in found["guest_steps"]] == ["0x13067", "0x20067"]
    assert found["hpa"] == "0x20008"


def test_without_paging_and_not_canonical() -> None:
    assert asked({}, {"cr0": PE, "cr3": 0, "cr4": 0}, gla="0x20123")["hpa"] == "0x20123"
    found = asked({}, LONG, gla=1 << 47)
    assert (found["outcome"], found["guest_steps"]) == ("general_protection", [])
    assert "not canonical" in found["why"]
    assert found["never_run"] == []


def test_lass_which_no_run_has_shown() -> None:
    lass = {**LONG, "cr4": hex(PAE | 1 << 27), "cpl": 0}
    found = asked({}, lass, op="fetch")
    assert (found["outcome"], found["guest_steps"]) == ("general_protection", [])
    assert found["never_run"] == ["linear-address-space separation"]


@pytest.mark.parametrize(
    ("guest", "access", "said"),
    [
        ({**LONG, "cr3": None}, {}, "cr3: None is not a number"),
        ({"cr0": 0, "cr3": 0}, {}, "cr4: missing"),
        ({**LONG, "cpl": 4}, {}, "cpl: 4 is not 0 to 3"),
        ({**LONG, "pdptrs": [1, 2]}, {}, "pdptrs: [1, 2] is not a list of 4 numbers"),
        (LONG, {"size": 0}, "size: 0 is not 1 to 65536"),
        (LONG, {"gla": None}, "gla: None is not a number"),
        ({"cr0": 0, "cr3": 0, "cr4": 0}, {"gla": 1 << 32}, "L2 has no linear address"),
    ],
)
def test_bad_requests(guest: dict[str, Any], access: dict[str, Any], said: str) -> None:
    assert said in asked({}, guest, **access)["error"]


def test_keys_that_have_no_say_are_named() -> None:
    found = asked({**TABLES, 0x13000: 0x20000 | USER}, {**LONG, "cr2": 1}, stage="walk")
    assert found["ignored"] == ["access.stage", "guest.cr2"]
    found = asked({}, LONG, gpa="0x20123")
    assert (found["hpa"], found["ignored"]) == ("0x20123", ["guest"])
    assert "guest_steps" not in found


def test_one_gbyte_pages_are_there_unless_it_is_said_that_not() -> None:
    """SDM vol. 3, 5.5.4, table 5-16: bit 7 of a PDPTE is reserved without them."""
    large = {**TABLES, 0x11000: USER | LARGE}
    for guest in (LONG, {**LONG, "pages_1g": None}, {**LONG, "pages_1g": True}):
        found = asked(large, guest)
        assert (found["outcome"], found["hpa"], found["ignored"]) == ("translated", "0x123", [])
        assert found["guest"]["page_size"] == 1 << 30
    found = asked(large, {**LONG, "pages_1g": False})
    assert found["outcome"] == "page_fault"
    assert found["page_fault"]["error_code"] == "0xd"  # P, U/S and RSVD
    assert "reserved" in found["page_fault"]["why"]


def test_the_schema_of_requests_refuses_what_is_misspelt_or_lacks_a_key() -> None:
    whole = {"eptp": 0x105E, "ept_caps": "0x1", "maxphyaddr": 39, "memory": {"0x1000": "7"}}
    linear = {**whole, "guest": LONG, "access": {"gla": "0x123", "op": "read"}}
    physical = {**whole, "access": {"gpa": 0, "op": "rmw", "stage": "walk"}, "note": "ignored"}
    for good in (linear, physical):
        assert not list(validator("requests").iter_errors(good))
    for bad in (
        {**linear, "guest": {**LONG, "pages_1gb": False}},
        {**linear, "guest": {**LONG, "pages_1g": 0}},
        {**linear, "guest": {**LONG, "pdptrs": [0, 0, 0]}},
        {**physical, "access": {"gpa": 0, "op": "execute"}},
        {**physical, "eptp": -1},
        {key: value for key, value in physical.items() if key != "memory"},
    ):
        assert list(validator("requests").iter_errors(bad)), bad
