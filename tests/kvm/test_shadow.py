# SPDX-License-Identifier: GPL-2.0-or-later
"""SPTEs in all formats, roots, and the kvm_mmu_page of a table."""

from __future__ import annotations

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.kvm import spte_format as formats
from gdb_nept.kvm.shadow import mmu, mmus
from gdb_nept.kvm.shadow_page import (
    NotShadowPage,
    ShadowPage,
    shadow_mmu_pages,
    shadow_page,
    shadowed_translation,
    tdp_mmu_roots,
)
from gdb_nept.kvm.spte import AdType, Spte, SpteKind, decode_spte
from gdb_nept.kvm.spte_format import SpteFormat, SpteFormatUnknown, spte_format
from gdb_nept.kvm.spte_words import MmioWord, Software
from gdb_nept.target.ports import Value
from tests.kvm.fake import (
    DEBIAN_6_12,
    DIRECT_MAP,
    NONE,
    FakeKernel,
    debian,
    link,
    new_vcpu,
    new_vm,
    oldest,
)

PRESENT, WB, IPAT, LARGE, A, D = 1 << 11, 6 << 3, 1 << 6, 1 << 7, 1 << 8, 1 << 9
HOST_W, MMU_W = 1 << 57, 1 << 58
FORMATS = [
    formats.SINCE_7_2,
    formats.SINCE_6_10,
    formats.SINCE_5_13,
    formats.SINCE_5_4,
    formats.SINCE_4_12,
    formats.OLDEST,
]
NAMES = [form.name for form in FORMATS]


def short(spte: Spte) -> list[str]:
    return [part.short for part in spte.parts]


@pytest.mark.parametrize("form", FORMATS, ids=NAMES)
def test_no_two_software_bits_overlap(form: SpteFormat) -> None:
    for word in (form.software, form.mmio):
        taken = 0
        for field in word.fields():
            assert not taken & field.mask
            taken |= field.mask


@pytest.mark.parametrize("form", FORMATS, ids=NAMES)
def test_empty(form: SpteFormat) -> None:
    assert decode_spte(form.empty, 1, form).kind is SpteKind.EMPTY
    assert decode_spte(0, 4, form).kind is SpteKind.EMPTY


def test_a_leaf_of_5_13() -> None:
    # seen in EPT01 of a Debian 6.1
    spte = decode_spte(0x6000000_03603B77, 1, formats.SINCE_5_13)
    assert (spte.kind, spte.address) == (SpteKind.LEAF, 0x3603000)
    assert (spte.read, spte.write, spte.execute) == (True, True, True)
    assert (spte.accessed, spte.dirty) == (True, True)
    assert (spte.host_writable, spte.mmu_writable, spte.protection) == (True, True, "")
    assert (spte.memory_type, spte.ad_type) == ("WB IPAT", AdType.ENABLED)
    assert short(spte)[-3:] == ["MMU-present", "host-writable", "MMU-writable"]


def test_a_table() -> None:
    spte = decode_spte(0x550E907, 4, formats.SINCE_5_13)
    assert (spte.kind, spte.address, spte.memory_type) == (SpteKind.TABLE, 0x550E000, "")
    assert spte.present


def test_a_large_page_has_no_low_address_bits() -> None:
    value = 0x40000000 | PRESENT | LARGE | WB | 7 | 1 << 63
    spte = decode_spte(value, 2, formats.SINCE_6_10)
    assert (spte.kind, spte.address) == (SpteKind.LEAF, 0x40000000)


def test_an_access_tracked_leaf_keeps_its_rights_aside() -> None:
    value = 0x5000 | PRESENT | WB | HOST_W | MMU_W | 1 << 52 | 5 << 54
    spte = decode_spte(value, 1, formats.SINCE_5_13)
    assert spte.kind is SpteKind.ACCESS_TRACKED
    assert (spte.read, spte.write, spte.execute) == (True, False, True)
    assert not spte.entry.present()
    assert (spte.accessed, spte.ad_type) == (False, AdType.DISABLED)
    assert "access-tracked" in spte.protection


def test_an_access_tracked_leaf_of_older_formats() -> None:
    spte = decode_spte(0x5000 | 1 << 62 | 5 << 52, 1, formats.SINCE_4_12)
    assert (spte.kind, spte.read, spte.execute) == (SpteKind.ACCESS_TRACKED, True, True)
    spte = decode_spte(0x5000 | 1 << 52 | 1 << 54, 1, formats.SINCE_5_4)
    assert (spte.kind, spte.read, spte.execute) == (SpteKind.ACCESS_TRACKED, True, False)


@pytest.mark.parametrize(
    ("bits", "why"),
    [
        (0, "not writable on the host"),
        (HOST_W, "shadowed table"),
        (HOST_W | MMU_W, "next write"),
        (HOST_W | MMU_W | 2, ""),
    ],
)
def test_why_a_leaf_is_not_writable(bits: int, why: str) -> None:
    spte = decode_spte(0x5000 | PRESENT | WB | 5 | bits, 1, formats.SINCE_5_13)
    assert why in spte.protection
    assert bool(spte.protection) == bool(why)


def test_write_protection_instead_of_pml() -> None:
    spte = decode_spte(0x5000 | PRESENT | 2 << 52 | A | 5, 1, formats.SINCE_5_13)
    assert (spte.ad_type, spte.accessed) == (AdType.WRPROT_ONLY, True)


@pytest.mark.parametrize(
    ("form", "value", "generation"),
    [
        (formats.SINCE_7_2, 1 << 63 | 6 | 0xFEE00000 | 5 << 3 | 3 << 52, 5 | 3 << 7),
        (formats.SINCE_6_10, 1 << 63 | 6 | 0xFEE00000 | 5 << 3 | 3 << 52, 5 | 3 << 8),
        (formats.SINCE_5_13, 6 | 0xFEE00000 | 5 << 3 | 3 << 52, 5 | 3 << 8),
        (formats.SINCE_5_4, 3 << 52 | 6 | 0xFEE00000 | 5 << 3 | 1 << 54, 5 | 1 << 9),
        (formats.SINCE_4_12, 1 << 62 | 6 | 0xFEE00000 | 5 << 3, 5),
        (formats.OLDEST, 3 << 62 | 6 | 0xFEE00000 | 5 << 3, 5),
    ],
    ids=NAMES,
)
def test_mmio(form: SpteFormat, value: int, generation: int) -> None:
    spte = decode_spte(value, 1, form)
    assert spte.kind is SpteKind.MMIO
    assert spte.mmio
    assert (spte.mmio.address, spte.mmio.generation) == (0xFEE00000, generation)
    assert not spte.present


def test_mmio_with_the_address_split_against_l1tf() -> None:
    lower, reserved = 0x7FFFFF000, 0xF800000000  # 40 bits, as on the lab's processor
    form = SpteFormat("", Software, MmioWord, 7, 6, rsvd_mask=reserved, lower_gfn_mask=lower)
    gpa = 0x12_3456_7000
    value = 6 | gpa | reserved | (gpa & reserved) << 5
    spte = decode_spte(value, 1, form)
    assert spte.mmio
    assert spte.mmio.address == gpa


def test_frozen_and_other_non_present_values() -> None:
    assert decode_spte(0x5A0, 1, formats.SINCE_5_13).kind is SpteKind.FROZEN
    assert decode_spte(1 << 63 | 0x5A0, 1, formats.SINCE_6_10).kind is SpteKind.FROZEN
    odd = decode_spte(0x5007, 1, formats.SINCE_5_13)  # hardware would use it, KVM does not know it
    assert odd.kind is SpteKind.OTHER
    assert odd.entry.present()


def test_mmio_is_not_cached_where_kvm_does_not() -> None:
    form = SpteFormat("", Software, MmioWord, 7, 6, caches_mmio=False)
    assert decode_spte(6, 1, form).kind is SpteKind.OTHER


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


def test_roots_while_l2_runs() -> None:
    kernel = FakeKernel(debian())
    vmx = new_vcpu(kernel)
    arch = vmx.member("vcpu.arch")
    guest = arch.member("guest_mmu")
    kernel.poke(arch, "root_mmu.root.hpa", 0x111000)
    kernel.poke(arch, "mmu", guest.address)
    kernel.poke(guest, "root.hpa", 0x222000)
    kernel.poke(guest, "root.pgd", 0x505E)
    kernel.poke(guest, "root_role.level", 4)
    kernel.poke(guest, "cpu_role.base.level", 5)
    kernel.poke(guest, "cpu_role.ext.execonly", 1)
    kernel.poke(guest.member("prev_roots").index(1), "hpa", 0x333000)
    root, ept02 = mmus(vmx.member("vcpu"))
    assert (root.name, root.root.hpa, root.current) == ("root_mmu", 0x111000, False)
    assert (ept02.name, ept02.root.hpa, ept02.root.pgd) == ("guest_mmu", 0x222000, 0x505E)
    assert (ept02.level, ept02.guest_level, ept02.current) == (4, 5, True)
    assert (ept02.execute_only, ept02.accessed_dirty) == (True, True)
    assert [one.hpa for one in ept02.prev_roots] == [0x333000]
    assert ept02.prev_roots[0].pgd is None


def test_a_root_that_is_not_there_and_a_dummy() -> None:
    kernel = FakeKernel(debian())
    vcpu = new_vcpu(kernel).member("vcpu")
    assert mmu(vcpu, "guest_mmu").root.hpa is None
    assert "INVALID_PAGE" in mmu(vcpu, "guest_mmu").why_no_root
    kernel.symbols.addresses["empty_zero_page"] = DIRECT_MAP + 0x3000
    kernel.poke(vcpu, "arch.guest_mmu.root.hpa", 0x3000)
    assert mmu(vcpu, "guest_mmu").root.hpa is None
    assert "dummy" in mmu(vcpu, "guest_mmu").why_no_root


def test_the_one_mmu_of_old_kernels() -> None:
    kernel = FakeKernel(oldest())
    vmx = new_vcpu(kernel)
    kernel.poke(vmx, "vcpu.arch.mmu.root_hpa", 0x111000)
    kernel.poke(vmx, "vcpu.arch.mmu.shadow_root_level", 4)
    (only,) = mmus(vmx.member("vcpu"))
    assert (only.name, only.root.hpa, only.root.pgd, only.level) == ("mmu", 0x111000, None, 4)
    assert only.execute_only is None
    assert mmu(vmx.member("vcpu"), "guest_mmu") == only


def shadow(kernel: FakeKernel, direct: int = 0, guest_mode: int = 1) -> Value:
    """A table page, its struct page and its kvm_mmu_page."""
    page = kernel.new("kvm_mmu_page")
    spt = kernel.allocate(4096)
    kernel.poke(page, "spt", spt)
    kernel.poke(page, "gfn", 0x77)
    kernel.poke(page, "role.level", 2)
    kernel.poke(page, "role.direct", direct)
    kernel.poke(page, "role.guest_mode", guest_mode)
    table = spt - DIRECT_MAP
    struct = kernel.types.struct("page")
    entry = 0xFFFFEA0000000000 + (table >> 12) * struct.size
    kernel.put_u64(entry + struct.member("private").offset, page.address)
    return page


def test_the_shadow_page_of_a_table() -> None:
    kernel = FakeKernel(debian())
    vm, page = vm_of(kernel), shadow(kernel)
    translations = kernel.allocate(4096)
    kernel.poke(page, "shadowed_translation", translations)
    kernel.put_u64(translations + 8 * 3, 0x123000 | 7)
    table = HostPhys(page.member("spt").pointer() - DIRECT_MAP)
    found = shadow_page(kernel, vm, HostPhys(table + 0x18))
    assert isinstance(found, ShadowPage)
    assert (found.address, found.table) == (page.address, table)
    assert (found.level, found.direct, found.guest_mode) == (2, False, True)
    assert (found.gfn_address, found.what, found.obsolete) == (
        0x77000,
        "EPT02, shadows EPT12",
        False,
    )
    shadowed = shadowed_translation(found, 3)
    assert shadowed
    assert (shadowed.address, shadowed.access) == (0x123000, 7)


def test_gfns_of_kernels_before_6_0() -> None:
    kernel = FakeKernel(oldest())
    vm, page = vm_of(kernel), shadow(kernel)
    gfns = kernel.allocate(4096)
    kernel.poke(page, "gfns", gfns)
    kernel.put_u64(gfns, 0x123)
    found = shadow_page(kernel, vm, HostPhys(page.member("spt").pointer() - DIRECT_MAP))
    assert isinstance(found, ShadowPage)
    shadowed = shadowed_translation(found, 0)
    assert shadowed
    assert (shadowed.address, shadowed.access) == (0x123000, None)


def test_obsolete_by_generation_and_by_role() -> None:
    kernel = FakeKernel(debian())
    vm, page = vm_of(kernel), shadow(kernel)
    table = HostPhys(page.member("spt").pointer() - DIRECT_MAP)
    kernel.poke(vm, "arch.mmu_valid_gen", 1)
    found = shadow_page(kernel, vm, table)
    assert isinstance(found, ShadowPage)
    assert found.obsolete
    kernel.poke(page, "tdp_mmu_page", 1)  # the byte means something else there
    found = shadow_page(kernel, vm, table)
    assert isinstance(found, ShadowPage)
    assert not found.obsolete
    kernel.poke(page, "role.invalid", 1)
    found = shadow_page(kernel, vm, table)
    assert isinstance(found, ShadowPage)
    assert found.obsolete


@pytest.mark.parametrize(
    ("private", "why"),
    [
        (0, "no kernel pointer"),
        (0x1234, "no kernel pointer"),
        (0xFFFF888F00000000, "leads nowhere"),
        (None, "describes another page"),
    ],
)
def test_a_page_that_is_no_table(private: int | None, why: str) -> None:
    kernel = FakeKernel(debian())
    vm, page = vm_of(kernel), shadow(kernel)
    struct = kernel.types.struct("page")
    entry = 0xFFFFEA0000000000 + 0x555 * struct.size + struct.member("private").offset
    kernel.put_u64(entry, page.address if private is None else private)
    found = shadow_page(kernel, vm, HostPhys(0x555000))
    assert isinstance(found, NotShadowPage)
    assert why in found.why


def test_vmemmap_that_was_moved_or_is_unreadable() -> None:
    kernel = FakeKernel(debian())
    kernel.variable("vmemmap_base", 0xFFFFD00000000000)
    found = shadow_page(kernel, vm_of(kernel), HostPhys(0x555000))
    assert isinstance(found, NotShadowPage)
    assert "0xffffd00000015568" in found.why


def test_the_lists_of_shadow_pages() -> None:
    kernel = FakeKernel(debian())
    vm = vm_of(kernel)
    pages = [shadow(kernel), shadow(kernel, direct=1)]
    nodes = [page.member("link").address for page in pages]
    link(kernel, vm.member("arch.active_mmu_pages").address, list(nodes))
    root = shadow(kernel, direct=1, guest_mode=0)
    kernel.poke(root, "tdp_mmu_page", 1)
    link(kernel, vm.member("arch.tdp_mmu_roots").address, [root.member("link").address])
    found = shadow_mmu_pages(vm)
    assert [page.what for page in found.pages] == [
        "EPT02, shadows EPT12",
        "EPT02, part of a large page of EPT12",
    ]
    assert [page.what for page in tdp_mmu_roots(vm).pages] == ["EPT01"]
    kernel.poke(pages[0], "spt", NONE)
    damaged = shadow_mmu_pages(vm)
    assert len(damaged.pages) == 1
    assert len(damaged.problems) == 1
