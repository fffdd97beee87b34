# SPDX-License-Identifier: GPL-2.0-or-later
"""Roots, and the kvm_mmu_page of a table."""

from __future__ import annotations

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.kvm.shadow import mmu, mmus
from gdb_nept.kvm.shadow_page import (
    NotShadowPage,
    ShadowPage,
    shadow_mmu_pages,
    shadow_page,
    shadowed_translation,
    tdp_mmu_roots,
)
from gdb_nept.target.ports import Value
from tests.kvm.fake import DIRECT_MAP, NONE, FakeKernel, link, new_vcpu, new_vm
from tests.kvm.offsets import debian, oldest


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
    vm, page = new_vm(kernel, []), shadow(kernel)
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
    vm, page = new_vm(kernel, []), shadow(kernel)
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
    vm, page = new_vm(kernel, []), shadow(kernel)
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
    vm, page = new_vm(kernel, []), shadow(kernel)
    struct = kernel.types.struct("page")
    entry = 0xFFFFEA0000000000 + 0x555 * struct.size + struct.member("private").offset
    kernel.put_u64(entry, page.address if private is None else private)
    found = shadow_page(kernel, vm, HostPhys(0x555000))
    assert isinstance(found, NotShadowPage)
    assert why in found.why


def test_vmemmap_that_was_moved_or_is_unreadable() -> None:
    kernel = FakeKernel(debian())
    kernel.variable("vmemmap_base", 0xFFFFD00000000000)
    found = shadow_page(kernel, new_vm(kernel, []), HostPhys(0x555000))
    assert isinstance(found, NotShadowPage)
    assert "0xffffd00000015568" in found.why


def test_the_lists_of_shadow_pages() -> None:
    kernel = FakeKernel(debian())
    vm = new_vm(kernel, [])
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
