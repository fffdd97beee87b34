# SPDX-License-Identifier: GPL-2.0-or-later
"""EPTPs that VM entry refuses: by the SDM (29.2.1.1), by Bochs (bochs/cpu/vmx.cc
is_eptptr_valid()), and by KVM (vmx/nested.c nested_vmx_check_eptp())."""

from __future__ import annotations

import pytest

from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.predict.access import Controls
from gdb_nept.predict.model import NAMES, model
from tests.predict.tables import CPU, with_cap

ALL = with_cap(memory_type_uc=1)
BARE = Capabilities(39, type(ALL.ept_vpid_cap)(0))
PROCESSORS, KVMS = ("sdm", "bochs-2.7"), ("kvm-5.10", "kvm-6.1", "kvm-6.12.117", "kvm-7.2")
EVERYBODY = PROCESSORS + KVMS
FOUR, FIVE = 3 << 3 | 6, 4 << 3 | 6

#: EPTP, capabilities, and who refuses it.
ROWS = (
    (0x1000 | FOUR, ALL, ()),
    (0x1000 | FOUR | 1 << 6, ALL, ()),
    (0x1000 | FOUR | 1 << 6, with_cap(accessed_dirty=0), EVERYBODY),
    (0x1000 | FOUR | 1 << 7, ALL, KVMS),
    (0x1000 | FOUR | 1 << 7, with_cap(shadow_stack=0), EVERYBODY),
    *((0x1000 | FOUR | 1 << place, ALL, EVERYBODY) for place in (8, 9, 10, 11)),
    (0x1000 | FOUR, with_cap(walk_length_4=0), ("sdm", *KVMS)),  # Bochs has no other length
    (0x1000 | FIVE, ALL, ("bochs-2.7",)),
    (0x1000 | FIVE, with_cap(walk_length_5=0), EVERYBODY),
    *((0x1000 | length << 3 | 6, ALL, EVERYBODY) for length in (0, 1, 2, 5, 6, 7)),
    (0x1000 | 3 << 3, ALL, KVMS),  # UC: offered to no L1
    (0x1000 | 3 << 3, with_cap(memory_type_uc=0), ("sdm", *KVMS)),
    (0x1000 | FOUR, with_cap(memory_type_wb=0), ("sdm", *KVMS)),
    *((0x1000 | 3 << 3 | kind, ALL, EVERYBODY) for kind in (1, 2, 3, 4, 5, 7)),
    (1 << 38 | FOUR, ALL, ()),
    *((1 << place | FOUR, ALL, EVERYBODY) for place in (39, 51, 52, 63)),
    (0x1000 | FOUR, BARE, ("sdm", *KVMS)),
)


@pytest.mark.parametrize("by", EVERYBODY)
@pytest.mark.parametrize(("value", "cpu", "refusing"), ROWS)
def test_who_refuses_an_eptp(
    value: int, cpu: Capabilities, refusing: tuple[str, ...], by: str
) -> None:
    found = model(by).refuses(Eptp(value), cpu, Controls())
    assert bool(found) is (by in refusing), found


@pytest.mark.parametrize("by", ["kvm-3.12", "kvm-4.12", "xen"])
def test_who_checks_no_eptp(by: str) -> None:
    assert not model(by).refuses(Eptp(0xFFF), BARE, Controls())


def test_a_kvm_before_5_7_knows_4_levels_alone() -> None:
    old = model("kvm-4.17")
    assert "length 5 is not supported" in old.refuses(Eptp(0x1000 | FIVE), ALL, Controls())
    assert not old.refuses(Eptp(0x1000 | FOUR), with_cap(walk_length_4=0), Controls())


@pytest.mark.parametrize(
    ("by", "checks"), [("sdm", True), ("kvm-5.10", True), ("kvm-7.2", True), ("kvm-4.12", False)]
)
def test_virtual_nmis_need_nmi_exiting(by: str, checks: bool) -> None:
    # 29.2.1.1; vmx/nested.c nested_vmx_check_nmi_controls(), by the source of 5.10
    found = model(by).refuses(Eptp(0x101E), CPU, Controls(virtual_nmis=True))
    assert ("need NMI exiting" in found) is checks
    for controls in (Controls(nmi_exiting=True), Controls(nmi_exiting=True, virtual_nmis=True)):
        assert not model(by).refuses(Eptp(0x101E), CPU, controls)


@pytest.mark.parametrize("by", NAMES)
def test_everybody_takes_the_plainest(by: str) -> None:
    assert model(by).refuses(Eptp(0x101E), CPU, Controls()) == ""


def test_a_refusal_of_kvm_names_its_function() -> None:
    says = model("kvm-6.1").refuses(Eptp(0x109E), ALL, Controls())
    assert says == (
        "the EPTP 0x109e: bits 11:7 are reserved, and set: 0x80 "
        "(vmx/nested.c nested_vmx_check_eptp())"
    )
    assert "bits 11:8" in model("sdm").refuses(Eptp(0x111E), ALL, Controls())
