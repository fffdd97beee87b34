# SPDX-License-Identifier: GPL-2.0-or-later
"""Accesses to the APIC-access page: which are exits, what these tell, and what comes before."""

from __future__ import annotations

from typing import Any

import pytest

from gdb_nept.predict.model import model
from gdb_nept.predict.request import answer

PAGE, GPA, LAST = 0x7000, 0x6000, 0x4030
MEMORY = {"0x1000": "0x2007", "0x2000": "0x3007", "0x3000": "0x4007", hex(LAST): hex(PAGE | 0x37)}
MODELS = ("sdm", "bochs-2.7", "kvm-3.12", "kvm-5.10", "kvm-6.1", "kvm-7.2", "xen")
KIND, OFFSET, ASYNCHRONOUS = 0xF << 12, 0xFFF, 1 << 16


def asked(
    name: str,
    access: dict[str, Any],
    controls: dict[str, Any] | None = None,
    memory: dict[str, str] | None = None,
) -> dict[str, Any]:
    request = {
        "eptp": "0x101e",
        "ept_caps": "0xf0106334141",
        "maxphyaddr": 40,
        "memory": {**MEMORY, **(memory or {})},
        "access": {"gpa": hex(GPA + 0x30), "op": "read", **access},
        "controls": {"apic_access_address": hex(PAGE), **(controls or {})},
    }
    return answer(request, model(name))


def told(found: dict[str, Any]) -> tuple[int, int]:
    return int(found["exit_qualification"], 16), int(found["qualification_mask"], 16)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("access", "kind", "mask"),
    [
        ({}, 0, KIND | OFFSET | ASYNCHRONOUS),
        ({"op": "write"}, 1, KIND | OFFSET | ASYNCHRONOUS),
        ({"op": "fetch"}, 2, KIND | OFFSET | ASYNCHRONOUS),
        ({"op": "rmw"}, 0, (KIND | OFFSET | ASYNCHRONOUS) & ~(1 << 12)),
        ({"event_delivery": True}, 3, KIND | OFFSET | ASYNCHRONOUS),
        ({"stage": "walk"}, 15, KIND | ASYNCHRONOUS),
        ({"stage": "pdpte"}, 15, KIND | ASYNCHRONOUS),
        ({"stage": "walk", "event_delivery": True}, 10, KIND | ASYNCHRONOUS),
    ],
)
def test_the_exit_tells_kind_and_offset(
    name: str, access: dict[str, Any], kind: int, mask: int
) -> None:
    found = asked(name, access)
    assert (found["outcome"], found["exit_reason"]) == ("apic_access", 44)
    assert (found["guest_physical_address"], found["guest_linear_address"]) == (None, None)
    assert found["hpa"] is None
    offset = 0x30 if mask & OFFSET else 0
    assert told(found) == (kind << 12 | offset, mask)
    assert (found["ignored"], found["entry_failure"]) == ([], None)


@pytest.mark.parametrize("name", MODELS)
def test_what_ept_has_against_the_access_comes_first(name: str) -> None:
    for word, op, reason in (
        (0, "read", 48),
        (PAGE | 0x31, "write", 48),
        (PAGE | 0x32, "read", 49),
    ):
        assert asked(name, {"op": op}, memory={hex(LAST): hex(word)})["exit_reason"] == reason


@pytest.mark.parametrize("name", ["sdm", "kvm-6.1"])
def test_the_log_comes_first(name: str) -> None:
    """The flags of EPT are set before."""
    request = {
        "eptp": "0x105e",
        "ept_caps": "0xf0106334141",
        "maxphyaddr": 40,
        "memory": MEMORY,
        "access": {"gpa": hex(GPA), "op": "write"},
        "controls": {"apic_access_address": hex(PAGE), "pml": True, "pml_index": "0xffff"},
    }
    assert answer(request, model(name))["exit_reason"] == 62


@pytest.mark.parametrize("name", MODELS)
def test_another_page_is_no_exit(name: str) -> None:
    found = asked(name, {}, {"apic_access_address": hex(PAGE + 0x1000)})
    assert (found["outcome"], found["hpa"]) == ("translated", hex(PAGE + 0x30))
    assert asked(name, {}, {"apic_access_address": None})["outcome"] == "translated"


@pytest.mark.parametrize("name", ["kvm-6.1", "xen"])
def test_an_emulated_access_reaches_the_page(name: str) -> None:
    """L0's emulator reads and writes L1's memory, and no processor sees an access of L2's."""
    assert asked(name, {"emulated": True})["outcome"] == "translated"


@pytest.mark.parametrize(
    ("offset", "op", "controls", "certain"),
    [
        (0x80, "read", {}, True),
        (0x80, "read", {"tpr_shadow": True}, False),
        (0x80, "fetch", {"tpr_shadow": True}, True),
        (0x84, "read", {"tpr_shadow": True}, True),
        (0x30, "read", {"tpr_shadow": True}, True),
        (0x30, "read", {"tpr_shadow": True, "apic_register_virtualization": True}, False),
        (0x30, "write", {"tpr_shadow": True, "apic_register_virtualization": True}, True),
        (0x300, "write", {"tpr_shadow": True}, True),
        (0x300, "write", {"tpr_shadow": True, "virtual_interrupt_delivery": True}, False),
        (0x390, "read", {"tpr_shadow": True, "apic_register_virtualization": True}, True),
    ],
)
def test_an_offset_that_is_virtualized_leaves_it_open(
    offset: int, op: str, controls: dict[str, Any], certain: bool
) -> None:
    for name in ("sdm", "kvm-7.2"):
        found = asked(name, {"gpa": hex(GPA + offset), "op": op}, controls)
        assert found["outcome"] == ("apic_access" if certain else "unknown"), name
        assert certain or f"{offset:#x}" in found["why"]


def test_a_large_page_leaves_it_open_for_linear_accesses() -> None:
    large = {"0x3000": "0xb7"}  # of 2 MBytes, one to one
    for stage, outcome in (("final", "unknown"), ("walk", "apic_access")):
        access = {"gpa": hex(PAGE), "stage": stage}
        assert asked("sdm", access, memory=large)["outcome"] == outcome


@pytest.mark.parametrize("name", ["sdm", "kvm-5.10", "kvm-7.2"])
def test_vm_entry_checks_the_address(name: str) -> None:
    assert (
        "not that of a page" in asked(name, {}, {"apic_access_address": "0x7008"})["entry_failure"]
    )
    beyond = asked(name, {}, {"apic_access_address": hex(1 << 40)})
    assert "beyond 40 bits" in beyond["entry_failure"]


@pytest.mark.parametrize("name", ["sdm", "kvm-5.10", "kvm-7.2"])
@pytest.mark.parametrize("control", ["apic_register_virtualization", "virtual_interrupt_delivery"])
def test_vm_entry_wants_a_tpr_shadow(name: str, control: str) -> None:
    # 29.2.1.1; vmx/nested.c nested_vmx_check_apicv_controls()
    assert "needs the TPR shadow" in asked(name, {}, {control: True})["entry_failure"]
    shadowed = {control: True, "tpr_shadow": True}
    assert asked(name, {}, shadowed)["entry_failure"] is None


@pytest.mark.parametrize("access", [{}, {"stage": "walk"}, {"op": "write"}])
def test_of_an_asynchronous_access_with_no_linear_address_the_kind_is_open(
    access: dict[str, Any],
) -> None:
    # trace output is 11, a guest-physical access for monitoring or trace; PEBS can be linear
    found = asked("sdm", {"asynchronous": True, **access})
    assert (found["outcome"], told(found)) == ("apic_access", (ASYNCHRONOUS, ASYNCHRONOUS))
    linear = asked("sdm", {"asynchronous": True, "gla": "0x1030", "op": "write"})
    assert told(linear) == (0x11030, KIND | OFFSET | ASYNCHRONOUS)
