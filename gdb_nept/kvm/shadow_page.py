# SPDX-License-Identifier: GPL-2.0-or-later
"""The struct kvm_mmu_page behind a table page of EPT01 or EPT02.

A table page's struct page has the pointer in page->private: to_shadow_page() of
arch/x86/kvm/mmu/mmu_internal.h (page_header() up to 5.8).  The list kvm->arch.active_mmu_pages
has all pages of the shadow MMU; those of the TDP MMU hang on their roots alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gdb_nept.address import HostPhys, KernelVirt, L1Phys
from gdb_nept.arch.ept import PAGE_SHIFT, page_size
from gdb_nept.errors import MemberMissing, MemoryUnreadable, TypeMissing
from gdb_nept.kvm.containers import LIMIT, list_nodes
from gdb_nept.kvm.lost import Lost
from gdb_nept.kvm.shadow import Role, read_role, require
from gdb_nept.kvm.variables import variable
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.target.ports import Kernel, Value, container_of, object_at

VMEMMAP_DEFAULT = 0xFFFF_EA00_0000_0000  # without KASLR of memory regions, 4-level paging


@dataclass(frozen=True)
class ShadowPage:
    """One table of KVM's.  `gfn_address`: for a shadowed table (not `direct`) the L1 physical
    address of the guest's table; otherwise the first guest physical address that it maps."""

    address: KernelVirt
    table: HostPhys
    role: Role
    gfn_address: L1Phys
    unsync: bool
    tdp_mmu: bool
    obsolete: bool
    shadowed: KernelVirt | None
    value: Value = field(repr=False, compare=False)
    lost: tuple[str, ...] = ()  # what this kernel has no member for

    @property
    def level(self) -> int:
        return self.role.number("level")

    @property
    def direct(self) -> bool:
        return bool(self.role.number("direct"))

    @property
    def guest_mode(self) -> bool:
        """Built for L2 (4.18+)."""
        return bool(self.role.number("guest_mode"))

    @property
    def what(self) -> str:
        """What the page is, in words."""
        if self.guest_mode:
            return "EPT02, part of a large page of EPT12" if self.direct else "EPT02, shadows EPT12"
        return "EPT01" if self.direct else "a shadow page"


@dataclass(frozen=True)
class NotShadowPage:
    """Why a physical page is no table of KVM's."""

    page: HostPhys
    why: str


@dataclass(frozen=True)
class ShadowPages:
    """All of a list; `problems` say what of it could not be read."""

    pages: tuple[ShadowPage, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Shadowed:
    """What an SPTE of a shadowed table stands for: the L1 physical page, and KVM's ACC_* bits, as
    many as role.access has (up to 7.1: 1 execute, 2 write, 4 user; for EPT: read), None where the
    kernel keeps none (up to 5.19)."""

    address: L1Phys
    access: int | None


def shadow_page(kernel: Kernel, vm: Value, table: HostPhys) -> ShadowPage | NotShadowPage:
    """The kvm_mmu_page of the table at `table`.

    That page->private is such a pointer is believed only if the page that it describes is this
    one.
    """
    page = HostPhys(table & ~(PAGE_SIZE - 1))
    try:
        private = _page_private(kernel, page)
    except (MemoryUnreadable, MemberMissing, TypeMissing) as error:
        return NotShadowPage(page, f"its struct page tells nothing: {error.message}")
    if private < 1 << 63:
        return NotShadowPage(page, f"page->private {private:#x} is no kernel pointer")
    try:
        found = read_shadow_page(object_at(kernel, private, "kvm_mmu_page", "kvm"), vm)
    except (MemberMissing, TypeMissing) as error:
        return NotShadowPage(page, f"what KVM keeps of it is not known: {error.message}")
    except MemoryUnreadable as error:
        return NotShadowPage(page, f"page->private leads nowhere: {error.message}")
    if found.table != page:
        why = f"page->private describes another page ({found.table:#x})"
        return NotShadowPage(page, why)
    return found


def _page_private(kernel: Kernel, page: HostPhys) -> KernelVirt:
    base = variable(kernel, "vmemmap_base", 8, "kvm") or VMEMMAP_DEFAULT
    struct = kernel.types.struct("page")
    address = KernelVirt(base + (page >> PAGE_SHIFT) * struct.size)
    return Value(kernel, struct, address).member("private").pointer()


def read_shadow_page(value: Value, vm: Value) -> ShadowPage:
    """One struct kvm_mmu_page of the struct kvm `vm`.  Raises MemoryUnreadable also where `spt`
    points to nothing."""
    lost = Lost()
    shadowed = lost.or_else(None, lambda: _shadowed_array(value))
    role = read_role(value.member("role"))
    require(role, "level", "direct", "access", "invalid")
    return ShadowPage(
        address=value.address,
        table=value.kernel.to_physical(value.member("spt").pointer()),
        role=role,
        gfn_address=L1Phys(value.member("gfn").number() << PAGE_SHIFT),
        unsync=lost.or_else(False, lambda: bool(value.member("unsync").number())),
        tdp_mmu=value.has("tdp_mmu_page") and bool(value.member("tdp_mmu_page").number()),
        obsolete=bool(role.number("invalid")) or _old_generation(value, vm),
        shadowed=shadowed,
        value=value,
        lost=lost.messages,
    )


def _shadowed_array(value: Value) -> KernelVirt | None:
    """6.0+: shadowed_translation; before: gfns.  Null for a direct page."""
    return value.first("shadowed_translation", "gfns").pointer() or None


def _old_generation(value: Value, vm: Value) -> bool:
    """mmu_valid_gen of the shadow MMU's pages (absent in 5.1 and 5.2); the TDP MMU uses the same
    byte for something else."""
    arch = vm.member("arch")
    if not value.has("mmu_valid_gen") or not arch.has("mmu_valid_gen"):
        return False
    if value.has("tdp_mmu_page") and value.member("tdp_mmu_page").number():
        return False
    return value.member("mmu_valid_gen").number() != arch.member("mmu_valid_gen").number()


def shadowed_translation(page: ShadowPage, index: int) -> Shadowed | None:
    """What entry `index` (0 to 511) of a shadowed table maps, as KVM noted it; None if it notes
    nothing: a direct page.  Raises MemoryUnreadable."""
    if page.shadowed is None:
        return None
    raw = page.value.kernel.read(KernelVirt(page.shadowed + 8 * index), 8)
    number = int.from_bytes(raw, "little")
    if not page.value.has("shadowed_translation"):
        return Shadowed(L1Phys(number << PAGE_SHIFT), None)
    return Shadowed(
        L1Phys(number & ~(PAGE_SIZE - 1)), number & ((1 << page.role.size("access")) - 1)
    )


def leaf_stands_for(page: ShadowPage, index: int) -> L1Phys | None:
    """Which L1 physical page entry `index` of the table is for: kvm_mmu_page_get_gfn().  Raises as
    shadowed_translation()."""
    if page.direct:
        return L1Phys(page.gfn_address + index * page_size(page.level))
    found = shadowed_translation(page, index)
    return None if found is None else found.address


def shadow_mmu_pages(vm: Value, limit: int = LIMIT) -> ShadowPages:
    """All pages of the shadow MMU: active_mmu_pages, which has all of EPT02's."""
    return _listed(vm, "arch.active_mmu_pages", limit)


def tdp_mmu_roots(vm: Value, limit: int = LIMIT) -> ShadowPages:
    """The roots of the TDP MMU (5.10+): EPT01 where it is in use.  Empty on older kernels."""
    if not vm.member("arch").has("tdp_mmu_roots"):
        return ShadowPages((), ())
    return _listed(vm, "arch.tdp_mmu_roots", limit)


def _listed(vm: Value, member: str, limit: int) -> ShadowPages:
    kernel = vm.kernel
    found = list_nodes(kernel, vm.member(member).address, limit)
    problems = [found.problem] if found.problem else []
    pages = []
    for node in found.addresses:
        value = container_of(kernel, node, "kvm_mmu_page", "link", "kvm")
        try:
            pages.append(read_shadow_page(value, vm))
        except (MemoryUnreadable, MemberMissing) as error:
            problems.append(f"kvm_mmu_page {value.address:#x}: {error.message}")
    return ShadowPages(tuple(pages), tuple(problems))
