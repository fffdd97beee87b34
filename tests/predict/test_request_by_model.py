# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON lines: what the models of KVM and Xen make of keys that a processor has no use for."""

from __future__ import annotations

import pytest

from gdb_nept.arch.ept import Eptp
from gdb_nept.predict.kvm import KERNELS, Feature
from gdb_nept.predict.model import NAMES, PROCESSORS, RULES
from tests.predict.tables import Path
from tests.predict.test_request import access, answered

#: A write to a page that is R-X, as the processor saw it with advanced information and at an IRET.
SEEN = "0x1faa"


@pytest.mark.parametrize(
    ("name", "qualification", "mask"),
    [
        ("sdm", "0x1aa", None),  # a processor's own exit is what is asked for
        ("kvm-6.1", "0x1aa", "0xffffffffffffffff"),
        ("kvm-7.2", "0x1aa", "0xffffffffffffffff"),
        ("xen", "0x1fab", "0xffffffffffffffff"),
    ],
)
def test_the_processors_qualification(name: str, qualification: str, mask: str | None) -> None:
    found = answered(name, access=access(raw=SEEN))
    assert found["exit_qualification"] == qualification
    assert mask in (None, found["qualification_mask"])
    assert found["ignored"] == []


def test_the_qualification_of_a_misconfiguration_as_it_was_seen() -> None:
    words = {hex(place): hex(word) for place, word in Path(rights={1: 2}).words.items()}
    found = answered("kvm-6.1", access=access(raw=SEEN), memory=words)
    assert (found["exit_reason"], found["exit_qualification"]) == (49, SEEN)


@pytest.mark.parametrize("raw", [-1, 1 << 64, "x", True, [], {}])
def test_a_qualification_that_is_none(raw: object) -> None:
    assert answered("kvm-6.1", access=access(raw=raw))["error"].startswith("raw: ")


@pytest.mark.parametrize("name", NAMES)
def test_controls_that_l1_is_not_offered(name: str) -> None:
    processor = name in PROCESSORS
    for changes in ({"mbec": True}, {"controls": {"ve": True}}):
        found = answered(name, **changes)
        offered = processor or (name == "kvm-7.2" and "mbec" in changes)
        assert (found["entry_failure"] is None) is offered
        if not offered:
            assert "not offered to L1" in found["entry_failure"]
            plain = {**answered(name), "entry_failure": found["entry_failure"]}
            assert found == plain  # the answer is that of a VM entry without the control


def test_each_models_own_rules_for_the_eptp() -> None:
    eptp = hex(Eptp(Path().eptp.value | 1 << 7).value)  # allowed by capability bit 23
    refusals = {name: answered(name, eptp=eptp)["entry_failure"] for name in NAMES}
    checked = {name for name, has in KERNELS.items() if Feature.EPTP_CHECKED in has}
    assert {name for name, said in refusals.items() if said and "11:7" in said} == checked
    assert refusals["sdm"] is refusals["xen"] is None


def test_the_outcomes_that_are_no_exit() -> None:
    absent = {hex(place): hex(word) for place, word in Path(rights={1: 0}).words.items()}
    emulated = access(op="read", stage="pdpte", emulated=True)
    loads = answered("kvm-6.1", access=emulated, memory=absent)
    assert (loads["outcome"], loads["exit_reason"]) == ("general_protection", None)
    assert loads["rules"] == ["EMULATED_PDPTES"]
    xens = answered("xen", access=access(emulated=True), memory=absent)
    assert (xens["outcome"], xens["exit_qualification"]) == ("l0_internal", None)


def test_without_paging_the_emulator_keeps_the_whole_address() -> None:
    for unpaged in (False, True):
        found = answered("kvm-6.1", access=access(emulated=True, unpaged=unpaged))
        lost = int(found["guest_physical_address"], 16) & 0xFFF == 0
        assert lost is not unpaged
        assert ("EMULATED_OFFSET_LOST" in found["rules"]) is lost


def test_each_rule_has_a_text() -> None:
    for name in NAMES:
        for changes in ({}, {"emulated": True}, {"stage": "walk", "emulated": True}):
            assert set(answered(name, access=access(**changes))["rules"]) <= set(RULES)
