# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM's own EPTs: the MMUs of a vCPU, and the roots of EPT01 and EPT02.

arch/x86/include/asm/kvm_host.h: struct kvm_mmu, union kvm_mmu_page_role.
EPT01 is what L1 runs on (`root_mmu`); EPT02, KVM's shadow of EPT12, what L2 runs on (`guest_mmu`).
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.address import HostPhys, KernelVirt
from gdb_nept.errors import MemberMissing, MemoryUnreadable
from gdb_nept.kvm.lost import Lost
from gdb_nept.kvm.variables import variable_address
from gdb_nept.target.ports import Kernel, Value

INVALID = (1 << 64) - 1  # INVALID_PAGE


@dataclass(frozen=True)
class RoleBit:
    """One field of the union, and the number that it holds."""

    name: str
    number: int
    size: int = 1  # in bits


@dataclass(frozen=True)
class Role:
    """union kvm_mmu_page_role (or kvm_mmu_extended_role), by the names of this kernel."""

    word: int
    bits: tuple[RoleBit, ...]

    def number(self, name: str) -> int:
        """The field `name`, 0 if this kernel's role has none."""
        return next((bit.number for bit in self.bits if bit.name == name), 0)

    def has(self, name: str) -> bool:
        return any(bit.name == name for bit in self.bits)

    def size(self, name: str) -> int:
        """How many bits the field `name` has, 0 if this kernel's role has none."""
        return next((bit.size for bit in self.bits if bit.name == name), 0)


@dataclass(frozen=True)
class Root:
    """One root: `pgd` is the guest's root that it stands for (guest_mmu: EPTP12), `hpa` None
    where KVM has none now."""

    pgd: int | None
    hpa: HostPhys | None


@dataclass(frozen=True)
class Mmu:
    """A struct kvm_mmu.  `guest_level` is the guest's number of levels, `level` KVM's own."""

    name: str
    address: KernelVirt
    current: bool  # vcpu->arch.mmu points to it
    root: Root
    why_no_root: str
    level: int
    guest_level: int
    prev_roots: tuple[Root, ...]
    role: Role  # of KVM's tables
    cpu_role: Role  # of the guest's
    ext_role: Role | None
    lost: tuple[str, ...] = ()  # what this kernel has no member for

    @property
    def accessed_dirty(self) -> bool:
        """Whether the guest's tables (EPT12) have A/D flags on, as KVM believes."""
        return not self.cpu_role.number("ad_disabled")

    @property
    def execute_only(self) -> bool | None:
        """Whether KVM takes an execute-only entry of EPT12 as valid; None if it does not say."""
        if self.ext_role is None or not self.ext_role.has("execonly"):
            return None
        return bool(self.ext_role.number("execonly"))


def mmus(vcpu: Value) -> tuple[Mmu, ...]:
    """The MMUs of a struct kvm_vcpu that have tables: root_mmu and guest_mmu since 5.0; before,
    the one `mmu`, which is EPT02 while L2 runs with nested EPT and EPT01 otherwise."""
    arch = vcpu.member("arch")
    if not arch.has("root_mmu"):
        only = arch.member("mmu")
        if not (only.has("root_hpa") or only.has("root")):
            arch.member("root_mmu")  # `mmu` is a pointer, as since 5.0: this is what is missing
        return (_mmu(only, "mmu", True),)
    current = arch.member("mmu").pointer()
    members = [(name, arch.member(name)) for name in ("root_mmu", "guest_mmu")]
    return tuple(_mmu(value, name, value.address == current) for name, value in members)


def mmu(vcpu: Value, name: str) -> Mmu:
    """MMU `name`; on kernels before 5.0 the only one, whatever the name."""
    found = mmus(vcpu)
    return next((one for one in found if one.name == name), found[0])


def _mmu(value: Value, name: str, current: bool) -> Mmu:
    root = _root(value)
    lost = Lost()
    role, cpu_role, ext_role = _roles(value, lost)
    old = value.has("shadow_root_level")  # ..5.17; later a part of the roles
    if not old:
        require(role, "level")
    return Mmu(
        name=name,
        address=value.address,
        current=current,
        root=_usable(value.kernel, root),
        why_no_root=_why_no_root(value.kernel, root),
        level=value.member("shadow_root_level").number() if old else role.number("level"),
        guest_level=value.member("root_level").number() if old else cpu_role.number("level"),
        prev_roots=lost.or_else((), lambda: _prev_roots(value)),
        role=role,
        cpu_role=cpu_role,
        ext_role=ext_role,
        lost=lost.messages,
    )


def _root(value: Value) -> Root:
    """5.18+: struct kvm_mmu_root_info root; before: root_hpa, with root_pgd, root_cr3 or none."""
    if value.has("root"):
        return _root_info(value.member("root"))
    names = [name for name in ("root_pgd", "root_cr3") if value.has(name)]
    pgd = value.member(names[0]).number() if names else None
    return _make_root(pgd, value.member("root_hpa").number())


def _root_info(info: Value) -> Root:
    return _make_root(info.first("pgd", "cr3").number(), info.member("hpa").number())


def _make_root(pgd: int | None, hpa: int) -> Root:
    known = None if pgd is None or pgd & INVALID == INVALID else pgd & INVALID
    return Root(known, None if hpa & INVALID == INVALID else HostPhys(hpa & INVALID))


def _prev_roots(value: Value) -> tuple[Root, ...]:
    """4.19+: the roots used before, kept for a switch back; only those that are valid."""
    if not value.has("prev_roots"):
        return ()
    array = value.member("prev_roots")
    roots = (_root_info(array.index(place)) for place in range(array.type.count))
    return tuple(root for root in roots if root.hpa is not None)


def _usable(kernel: Kernel, root: Root) -> Root:
    return Root(root.pgd, None) if _why_no_root(kernel, root) else root


def _why_no_root(kernel: Kernel, root: Root) -> str:
    if root.hpa is None:
        return "KVM has no root now (INVALID_PAGE): not built yet, or dropped"
    if root.hpa == _zero_page(kernel):
        return "a dummy root (the zero page): the guest's root lies in no memslot"
    return ""


def _zero_page(kernel: Kernel) -> HostPhys | None:
    """6.6+ uses ZERO_PAGE as the root of a guest whose root is in no memslot."""
    address = variable_address(kernel, "empty_zero_page", "kvm")
    try:
        return None if address is None else kernel.to_physical(address)
    except MemoryUnreadable:
        return None


NO_ROLE = Role(0, ())


def _roles(value: Value, lost: Lost) -> tuple[Role, Role, Role | None]:
    """KVM's own role, the guest's, and its extension: cpu_role and root_role since 5.18; mmu_role
    from 5.0; base_role before.  After 7.2 cpu_role is in the struct kvm_pagewalk that `w` points
    to."""
    if value.has("root_role"):
        own = read_role(value.member("root_role"))
        holder = value.member("w").deref() if value.has("w") else value
        base = lost.or_else(NO_ROLE, lambda: read_role(holder.member("cpu_role.base")))
        return own, base, lost.or_else(None, lambda: read_role(holder.member("cpu_role.ext")))
    if value.has("mmu_role"):
        both = value.member("mmu_role")
        base = read_role(both.member("base"))
        return base, base, lost.or_else(None, lambda: read_role(both.member("ext")))
    if not value.has("base_role") and value.has("shadow_root_level"):
        return NO_ROLE, NO_ROLE, None
    base = read_role(value.first("root_role", "base_role"))
    return base, base, None


def require(role: Role, *names: str) -> None:
    """Raises MemberMissing for a role without one of its fields: 0 would be a wrong answer."""
    for name in names:
        if not role.has(name):
            raise MemberMissing("kvm_mmu_page_role", name)


def read_role(value: Value) -> Role:
    """A role union, its bit fields by the names that this kernel gives them."""
    names = value.type.names() if value.type.names else ROLE_NAMES
    fields = [value.type.member(name) for name in names if name != "word" and value.has(name)]
    fields = [one for one in fields if one.bit_size]
    ordered = sorted(fields, key=lambda one: one.bit_offset)
    bits = tuple(
        RoleBit(one.name, value.member(one.name).number(), one.bit_size) for one in ordered
    )
    return Role(value.member("word").number() & 0xFFFFFFFF, bits)


ROLE_NAMES = (
    "level", "cr4_pae", "gpte_is_8_bytes", "has_4_byte_gpte", "quadrant", "direct", "access",
    "invalid", "nxe", "efer_nx", "cr0_wp", "smep_andnot_wp", "smap_andnot_wp", "ad_disabled",
    "guest_mode", "passthrough", "is_mirror", "cr4_smep", "smm", "valid", "execonly", "cr4_pse",
    "cr4_pke", "cr4_smap", "cr4_la57", "efer_lma", "maxphyaddr",
)  # fmt: skip
