# SPDX-License-Identifier: GPL-2.0-or-later
"""What VM entry under KVM takes from L1, and the names of KVMs.  Functions are in arch/x86/kvm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.arch.ept import Eptp
from gdb_nept.predict.access import Controls, Op
from gdb_nept.predict.kvm import KERNELS, Feature, Habit, features_of
from gdb_nept.predict.model import model
from tests.predict.tables import CPU, WB, Path, R, ask, to, with_cap

EPTP = Eptp(0x1000 | WB >> 3 | 3 << 3)


@pytest.mark.parametrize(
    ("by", "bits", "refused"),
    [
        ("kvm-4.12", 1 << 8, False),  # nested_ept_init_mmu_context() checked nothing of the kind
        ("kvm-4.14", 1 << 8, True),
        ("kvm-6.1", 1 << 7, True),  # (new_eptp >> 7) & 0x1f, with capability bit 23 or without
        ("kvm-7.2", 1 << 7, True),
        ("kvm-7.2", 1 << 39, True),
        ("kvm-7.2", 0, False),
    ],
)
def test_eptps_that_vm_entry_refuses(by: str, bits: int, refused: bool) -> None:
    cpu = with_cap(shadow_stack=1)
    assert bool(model(by).refuses(Eptp(EPTP.value | bits), cpu, Controls())) is refused


def test_five_levels_since_5_7() -> None:
    # up to 5.6 valid_ept_address() takes a page-walk length of 4 alone, and before 4.14 nothing
    # looks: kvm_init_shadow_ept_mmu() walks PT64_ROOT_4LEVEL
    five = Path(levels=5)
    for by, refused, steps in (
        ("kvm-4.12", False, 4),
        ("kvm-4.17", True, 4),
        ("kvm-5.7", False, 5),
        ("kvm-7.2", False, 5),
    ):
        assert bool(model(by).refuses(five.eptp, CPU, Controls())) is refused
        four = Eptp(five.eptp.value & ~0xFFF_F000 | 0x2000)
        found = model(by).predict(
            five.memory, five.eptp if steps == 5 else four, to(), CPU, Controls()
        )
        assert len(found.walk.steps) == steps


@pytest.mark.parametrize("by", sorted(KERNELS))
def test_controls_that_l1_is_not_offered(by: str) -> None:
    # nested_vmx_setup_secondary_ctls(): PML since 4.12, MODE_BASED_EPT_EXEC since 7.2
    cases = (
        (replace(CPU, mbec=True), Controls(), Feature.MBEC),
        (CPU, Controls(pml=True), Feature.PML),
        (CPU, Controls(ve=True), None),
        (CPU, Controls(sppt_pointer=0x7000), None),
        (replace(CPU, paging_write=True), Controls(), None),
        (replace(CPU, verify_guest_paging=True), Controls(), None),
    )
    for cpu, controls, needs in cases:
        refused = model(by).refuses(EPTP, cpu, controls)
        assert bool(refused) is (needs not in KERNELS[by]), refused
    assert not model(by).refuses(EPTP, CPU, Controls())


@pytest.mark.parametrize("by", ["kvm-6.1", "kvm-7.2"])
def test_controls_that_l1_is_not_offered_change_nothing(by: str) -> None:
    path = Path(rights={1: R}, extra={1: 1 << 58 | 1 << 57 | 1 << 60}, sss=True)
    cpu = replace(CPU, paging_write=True, verify_guest_paging=True, sub_page=True)
    asked = Controls(ve=True, sppt_pointer=0x7000)
    found = ask(path, to(Op.WRITE, shadow_stack=True), cpu, by, asked)
    assert (found.reason, found.qualification) == (48, 0x182 | R << 3)


# -- names ---------------------------------------------------------------------------------------


def test_each_kernel_has_the_rules_of_those_before_it() -> None:
    sets = list(KERNELS.values())
    assert all(old <= new for old, new in zip(sets, sets[1:]))
    assert sets[-1] == set(Feature)


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("kvm-3.13", "kvm-3.12"),
        ("kvm-4.4", "kvm-3.18"),
        ("kvm-4.13", "kvm-4.12"),
        ("kvm-4.14.336", "kvm-4.14"),
        ("kvm-5.4", "kvm-4.17"),
        ("kvm-5.15", "kvm-5.13"),
        ("kvm-6.9", "kvm-6.6"),
        ("kvm-6.12", "kvm-6.10"),
        ("kvm-6.12.116", "kvm-6.10"),
        ("kvm-6.12.130", "kvm-6.12.117"),
        ("kvm-6.13", "kvm-6.10"),  # nothing of a stable release follows for those after it
        ("kvm-7.1", "kvm-6.10"),
        ("kvm-7.2.13", "kvm-7.2"),
        ("kvm-3.11", None),
        ("kvm-7.3", None),
        ("kvm-6", None),
        ("kvm-6.x", None),
        ("kvm-6.12.117.1", None),
    ],
)
def test_a_release_between(name: str, like: str | None) -> None:
    assert features_of(name) == (KERNELS[like] if like else None)
    if like:
        assert model(f"{name}@bochs-2.7").name == f"{name}@bochs-2.7"


def test_each_rule_names_its_function() -> None:
    for rule in (*Feature, *Habit):
        assert "()" in rule.value or "PT_INDEX" in rule.value
    for feature in Feature:
        by_hash = any(len(word.strip("();,")) == 12 for word in feature.value.split())
        assert by_hash or "by the source of" in feature.value, feature
