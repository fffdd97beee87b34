# SPDX-License-Identifier: GPL-2.0-or-later
"""The same states under a kvm_intel without VMCS shadowing, and without unrestricted guests.

Then KVM sees each VMWRITE of L1's, and has memslots of its own for a TSS and an identity map.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bochs_lab import snapshot as lab
from bochs_lab.options import LabOptions

from gdb_nept.nested.agreement import Agreement, Fault
from tests.states.opened import APIC, DATA_GPA, TSS, State, opened

pytestmark = pytest.mark.bochs

WORDS = "kvm_intel.enable_shadow_vmcs=0 kvm_intel.unrestricted_guest=0"
POINTS = ("composing", "eptp-written", "apic-page")


@pytest.fixture(scope="module")
def otherwise(kernel_line: str) -> dict[str, Path]:
    options = LabOptions(kernel=kernel_line, states=True, park="done", append=WORDS)
    return lab.series(options, (*POINTS, "done"))


@pytest.fixture(params=POINTS)
def state(request: pytest.FixtureRequest, otherwise: dict[str, Path]) -> State:
    return opened(request.param, otherwise[request.param], otherwise["done"])


def test_the_parameters_are_in_force(otherwise: dict[str, Path], state: State) -> None:
    assert state.told.facts("kvm_intel")[0]["shadow_vmcs"] == "N"
    nested = state.chosen.vcpu.nested
    assert nested is not None
    assert nested.shadow.address is None


def test_what_l2_does_next_is_predicted(state: State) -> None:
    """Also where L1 is composing a VMCS: KVM has all of it."""
    probes = state.told.probes(state.name)
    assert probes
    differences = {probe.name: probe.differences(state.foretold(probe)) for probe in probes}
    assert {name: wrong for name, wrong in differences.items() if wrong} == {}


def test_all_of_vmcs12_is_what_l1_reads(otherwise: dict[str, Path]) -> None:
    state = opened("composing", otherwise["composing"], otherwise["done"])
    read = state.told.vmcs("composing")
    fields = {
        each.encoding: each
        for each in state.session.vmcs12(state.chosen).fields
        if each.encoding in read
    }
    assert {encoding: each.value for encoding, each in fields.items()} == read
    assert not any("shadow VMCS" in each.why for each in fields.values())


def test_kvms_own_pages_are_not_l2s(otherwise: dict[str, Path]) -> None:
    state = opened("apic-page", otherwise["apic-page"], otherwise["done"])
    for gpa in (APIC, TSS):
        found = state.verdict(gpa)
        assert (found.agreement, found.fault) == (Agreement.HIDDEN_SLOT, Fault.NOBODY), found
    assert state.verdict(DATA_GPA).agreement is Agreement.AGREE
