# SPDX-License-Identifier: GPL-2.0-or-later
"""How each kernel writes its SPTEs: found by its masks and members."""

from __future__ import annotations

import pytest

from gdb_nept.kvm.spte import AdType, SpteKind, decode_spte
from gdb_nept.kvm.spte_format import SpteFormat, SpteFormatUnknown, spte_format
from gdb_nept.target.ports import Value
from tests.kvm.fake import FakeKernel, new_vm
from tests.kvm.offsets import DEBIAN_6_12, debian, oldest
from tests.kvm.test_spte import PRESENT, WB, short


def vm_of(kernel: FakeKernel) -> Value:
    return new_vm(kernel, [])


def set_masks(kernel: FakeKernel, host: int, mmu: int, tracked: int) -> None:
    kernel.variable("shadow_host_writable_mask", host)
    kernel.variable("shadow_mmu_writable_mask", mmu)
    kernel.variable("shadow_acc_track_mask", tracked)


def test_format_of_6_1() -> None:
    kernel = FakeKernel(debian())
    set_masks(kernel, 1 << 57, 1 << 58, 7)
    kernel.variable("shadow_mmio_mask", 7)
    kernel.variable("shadow_mmio_value", 6)
    kernel.variable("shadow_nonpresent_or_rsvd_mask", 0xF800000000)
    kernel.variable("shadow_nonpresent_or_rsvd_lower_gfn_mask", 0x7FFFFF000)
    kernel.variable("enable_mmio_caching", 1)
    form = spte_format(kernel, vm_of(kernel))
    assert (form.name, form.mmio_value, form.rsvd_mask) == ("5.13 to 6.9", 6, 0xF800000000)
    assert (form.lower_gfn_mask, form.caches_mmio, form.notes) == (0x7FFFFF000, True, ())


@pytest.mark.parametrize(
    ("host", "mmu", "tracked", "why"),
    [
        (1 << 9, 1 << 10, 0, "no EPT at all"),
        (1 << 56, 1 << 58, 7, "of no kernel that we know"),
        (1 << 57, 1 << 58, 0x407, "0x407"),
        (1 << 53, 1 << 55, 7, "mmu_writable_mask 0x80000000000000"),
    ],
)
def test_masks_of_no_known_format_are_refused(host: int, mmu: int, tracked: int, why: str) -> None:
    kernel = FakeKernel(debian())
    set_masks(kernel, host, mmu, tracked)
    with pytest.raises(SpteFormatUnknown, match=why) as raised:
        spte_format(kernel, vm_of(kernel))
    assert raised.value.advice


def test_format_of_6_12_is_one_of_the_vm() -> None:
    kernel = FakeKernel(debian(DEBIAN_6_12))
    vm = vm_of(kernel)
    kernel.poke(vm, "arch.shadow_mmio_value", 1 << 63 | 6)
    with pytest.raises(SpteFormatUnknown, match="no symbol"):
        spte_format(kernel, vm)  # 6.10 and 7.2 cannot be told apart
    set_masks(kernel, 1 << 57, 1 << 58, 7)
    form = spte_format(kernel, vm)
    assert (form.name, form.mmio_value, form.empty) == (
        "6.10 and later",
        1 << 63 | 6,
        1 << 63,
    )


def of_7_2() -> SpteFormat:
    """With the masks of Debian's 7.2.13."""
    kernel = FakeKernel(debian(DEBIAN_6_12))
    set_masks(kernel, 1 << 53, 1 << 55, 0x407)
    kernel.variable("enable_mmio_caching", 1)
    kernel.variable("shadow_mmio_mask", 1 << 63 | 7)
    vm = vm_of(kernel)
    kernel.poke(vm, "arch.shadow_mmio_value", 6)
    return spte_format(kernel, vm)


def test_format_of_7_2_is_told_by_the_masks() -> None:
    form = of_7_2()
    assert (form.name, form.rights, form.mmio_value, form.notes) == ("7.2", 0x407, 6, ())
    assert form.frozen == 0x80000000000001A0
    assert decode_spte(0x80000000000001A0, 1, form).kind is SpteKind.FROZEN
    assert decode_spte(1 << 63, 1, form).kind is SpteKind.EMPTY


def test_sptes_of_7_2() -> None:
    """Values of EPT01 and EPT02 of a real host."""
    form = of_7_2()
    own = decode_spte(0x80A00000031CAF77, 1, form)
    assert (own.kind, own.ad_type, own.user_execute) == (SpteKind.LEAF, AdType.ENABLED, True)
    assert (own.host_writable, own.mmu_writable, own.address) == (True, True, 0x31CA000)
    nested = decode_spte(0xA020000007026874, 1, form)
    assert (nested.kind, nested.ad_type) == (SpteKind.LEAF, AdType.WRPROT_ONLY)
    assert (nested.read, nested.write, nested.execute, nested.user_execute) == (
        False,
        False,
        True,
        False,
    )
    assert (nested.host_writable, nested.mmu_writable) == (True, False)
    assert "saved" not in " ".join(short(nested))


def test_access_tracking_of_7_2_saves_bit_10() -> None:
    """0x405 << 52 are the saved rights: mark_spte_for_access_track()."""
    form = of_7_2()
    base = PRESENT | WB | 1 << 60 | 1 << 53 | 1 << 55
    tracked = decode_spte(base | 1 << 52 | 1 << 54 | 1 << 62, 1, form)
    assert tracked.kind is SpteKind.ACCESS_TRACKED
    assert (tracked.read, tracked.write, tracked.execute, tracked.user_execute) == (
        True,
        False,
        True,
        True,
    )
    alive = decode_spte(base | 1 << 10, 1, form)  # bit 10 alone is a right here
    assert (alive.kind, alive.user_execute) == (SpteKind.LEAF, True)


def test_the_generation_of_7_2_leaves_bit_10_alone() -> None:
    value = 6 | 0x7F << 3 | 1 << 52 | 0x12345000  # make_mmio_spte(): generation bits 6:0 and 17:7
    found = decode_spte(value, 1, of_7_2())
    assert found.mmio
    assert (found.mmio.address, found.mmio.generation) == (0x12345000, 0xFF)


def test_format_without_symbols_of_variables() -> None:
    kernel = FakeKernel(debian())
    form = spte_format(kernel, vm_of(kernel))
    assert form.name == "5.13 to 6.9"
    assert "deduced" in form.notes[0]
    del kernel.types.structs["kvm_mmu_page"].fields["tdp_mmu_root_count"]
    assert spte_format(kernel, vm_of(kernel)).name == "5.4 to 5.12"


def test_format_of_5_10_which_brings_no_types_of_modules() -> None:
    kernel = FakeKernel(debian())
    del kernel.types.structs["kvm_mmu_page"]
    with pytest.raises(SpteFormatUnknown, match="neither symbols"):
        spte_format(kernel, vm_of(kernel))
    kernel.variable("shadow_acc_track_mask", 7)
    kernel.variable("shadow_mmio_value", 0x30000000000006)
    form = spte_format(kernel, vm_of(kernel))
    assert (form.name, form.notes) == ("5.4 to 5.12", ())
    spte = decode_spte(0x620000006020B77, 1, form)
    assert spte.ad_type is AdType.WRPROT_ONLY


def test_formats_of_old_kernels() -> None:
    kernel = FakeKernel(oldest())
    with pytest.raises(SpteFormatUnknown, match="or older"):
        spte_format(kernel, vm_of(kernel))
    kernel.variable("shadow_mmio_mask", 3 << 62 | 6)
    assert spte_format(kernel, vm_of(kernel)).name == "up to 4.10"
    kernel.variable("shadow_acc_track_mask", 7)
    kernel.variable("shadow_mmio_mask", 1 << 62 | 6)
    form = spte_format(kernel, vm_of(kernel))
    assert (form.name, form.mmio_value) == ("4.12 to 5.3", 1 << 62 | 6)
    kernel.variable("shadow_mmio_value", 1 << 62 | 6)  # 4.14 and later
    del kernel.types.structs["kvm_mmu_page"]
    assert spte_format(kernel, vm_of(kernel)).name == "4.12 to 5.3"
