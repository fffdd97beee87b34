# SPDX-License-Identifier: GPL-2.0-or-later
"""Features told from types: real sets of members of two kernels, and of one older than all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.judge.features import WITH_FROM_HARDWARE, Probe, is_attached, model_names, probe
from gdb_nept.kvm.nested_vmx import Nested, read_nested
from gdb_nept.predict.kvm import KERNELS, Feature
from gdb_nept.predict.model import model
from gdb_nept.target.ports import CType, Member
from tests.kvm.fake import FakeKernel, FakeTypes, new_vcpu
from tests.kvm.offsets import DEBIAN_6_12, Offsets, Struct, debian, oldest

# From the BTF of kvm.ko: x86_exception, kvm_x86_nested_ops, and inject_page_fault()'s parameters;
# from arch/x86/include/asm/kvm_host.h which kernels have translate_gpa and governed_features.
OLD_FAULT = {"vector": (0, 1), "error_code": (2, 2), "address": (8, 8)}
NEW_FAULT = {**OLD_FAULT, "exit_qualification": (24, 8)}
OLDEST_OPS = {"check_events": (0, 8), "write_log_dirty": (8, 8)}
OLD_OPS = {**OLDEST_OPS, "triple_fault": (16, 8)}
NEW_OPS = {**OLD_OPS, "translate_nested_gpa": (24, 8)}


class Types(FakeTypes):
    """With the prototype of kvm_mmu.inject_page_fault(); None: the source does not tell."""

    def __init__(self, offsets: Offsets, parameters: int) -> None:
        super().__init__(offsets)
        self.parameters = parameters

    def struct(self, name: str, module: str | None = None) -> CType:
        found = super().struct(name, module)
        if name != "kvm_mmu":
            return found
        function = CType("function", "", 0, count=self.parameters)
        pointer = CType("pointer", "", 8, target=lambda: function)
        prototype = Member("inject_page_fault", 0, 0, pointer)
        return replace(
            found,
            lookup=lambda member: prototype if member == prototype.name else found.member(member),
        )


def kernel(
    offsets: Offsets,
    fault: dict[str, tuple[int, int]],
    ops: dict[str, tuple[int, int]] | None,
    parameters: int,
) -> FakeKernel:
    """Without `ops`, kvm_x86_nested_ops is not there: older than 5.8."""
    offsets["x86_exception"] = Struct(64, fault)
    if ops is not None:
        offsets["kvm_x86_nested_ops"] = Struct(64, ops)
    made = FakeKernel(offsets)
    made.types = Types(offsets, parameters)
    return made


def with_member(offsets: Offsets, struct: str, name: str) -> Offsets:
    offsets[struct].fields[name] = (0, 8)
    return offsets


def with_translate_gpa(offsets: Offsets) -> Offsets:
    return with_member(offsets, "kvm_mmu", "translate_gpa")


def probed(made: FakeKernel, nested: Nested | None = None) -> dict[Feature, Probe]:
    found = {each.feature: each for each in probe(made, nested)}
    assert set(found) == set(Feature)
    return found


def taken(found: dict[Feature, Probe]) -> set[Feature]:
    return {feature for feature, each in found.items() if each.taken}


@pytest.mark.parametrize(
    ("release", "made"),
    [
        ("kvm-5.10", kernel(with_translate_gpa(debian()), OLD_FAULT, OLDEST_OPS, 2)),
        ("kvm-5.13", kernel(with_translate_gpa(debian()), OLD_FAULT, OLD_OPS, 2)),
        ("kvm-6.1", kernel(debian(), OLD_FAULT, OLD_OPS, 2)),
        (
            "kvm-6.6",
            kernel(
                with_member(debian(), "kvm_vcpu_arch", "governed_features"), OLD_FAULT, OLD_OPS, 2
            ),
        ),
        ("kvm-6.10", kernel(debian(DEBIAN_6_12), NEW_FAULT, OLD_OPS, 2)),
        ("kvm-6.12.117", kernel(debian(DEBIAN_6_12), NEW_FAULT, OLD_OPS, 3)),
    ],
)
def test_the_sets_of_known_kernels(release: str, made: FakeKernel) -> None:
    nested = read_nested(new_vcpu(made))
    found = probed(made, nested)
    assert taken(found) == KERNELS[release]
    assert all(each.present is not None for each in found.values())


def test_what_l1_is_offered_decides_about_mbec_and_advanced_information() -> None:
    made = kernel(debian(DEBIAN_6_12), NEW_FAULT, NEW_OPS, 3)
    vmx = new_vcpu(made)
    made.poke(vmx, "nested.msrs.secondary_ctls_high", 1 << 22)
    made.poke(vmx, "nested.msrs.ept_caps", 1 << 22)
    assert taken(probed(made, read_nested(vmx))) == KERNELS["kvm-7.2"]


def test_what_nothing_tells_is_said() -> None:
    made = kernel(with_translate_gpa(oldest()), OLD_FAULT, None, 0)
    found = probed(made)
    unknown = {feature for feature, each in found.items() if each.present is None}
    assert unknown == {
        Feature.EMULATED_TOLD,
        Feature.READ_TRACKED,
        Feature.LINEAR_COPIED,
        Feature.KIND_OF_WALK,
        Feature.TRIPLE_FAULT_TOLD,  # of kvm_x86_nested_ops, which came with 5.8
        Feature.LINEAR_SYNTHESISED,
        Feature.ONE_KIND,
        Feature.MBEC,
        Feature.ADVANCED,
    }
    # the invented kernel has the role of a shadow page in today's form, and so of 4.14
    assumed = {Feature.EMULATED_TOLD, Feature.READ_TRACKED, Feature.LINEAR_COPIED}
    of_4_14 = {Feature.WALK_AS_MADE, Feature.EPTP_CHECKED}
    assert taken(found) == {*assumed, *of_4_14}
    assert all(each.how for each in found.values())


def test_a_kernel_of_5_7_by_the_name_of_one_member() -> None:
    for name, five in (("get_cr3", False), ("get_guest_pgd", True)):
        offsets = with_member(with_translate_gpa(debian()), "kvm_mmu", name)
        found = probed(kernel(offsets, OLD_FAULT, None, 2))
        assert taken(found) == KERNELS["kvm-5.7" if five else "kvm-4.17"]
        assert found[Feature.FIVE_LEVELS].present is five


def test_five_levels_are_known_by_struct_kvm_pagewalk_too() -> None:
    """After 7.2 get_guest_pgd is there; without check_events the name alone tells."""
    made = kernel(with_translate_gpa(debian()), OLD_FAULT, None, 2)
    plain = made.types
    walk = CType("struct", "kvm_pagewalk", 8, lookup=lambda name: Member(name, 0, 0, pointer))
    pointer = CType("pointer", "", 8, target=lambda: walk)

    class Next(FakeTypes):
        def struct(self, name: str, module: str | None = None) -> CType:
            found = plain.struct(name, module)
            if name != "kvm_mmu":
                return found
            moved = Member("w", 0, 0, pointer)
            return replace(found, lookup=lambda one: moved if one == "w" else found.member(one))

    made.types = Next(debian())
    found = probed(made)[Feature.FIVE_LEVELS]
    assert (found.present, found.how) == (True, "kvm_pagewalk.get_guest_pgd is there")


def test_missing_types_are_unknown_not_absent() -> None:
    found = probed(FakeKernel(debian()))
    for feature in (Feature.MISCONFIG_CLEARED, Feature.ONE_KIND, Feature.TRIPLE_FAULT_TOLD):
        assert found[feature].present is None
        assert "no type" in found[feature].how


def test_names_of_models() -> None:
    names = model_names()
    assert len(set(names)) == len(names)
    assert {"kvm", "kvm@bochs-2.7", "sdm", "v2-2012", "kvm-6.1@bochs-2.7"} <= set(names)
    assert [name for name in names if is_attached(name)] == [
        *("kvm", "kvm@bochs-2.7", "kvm@bochs-3.0")
    ]
    for name in names:
        assert is_attached(name) or model(name).name == name
    assert WITH_FROM_HARDWARE == 3
