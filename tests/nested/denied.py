# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that lacks a member, or a symbol: as the next one may, or the last one did.

Types and symbols pass through here on their way from a real kernel's; what is asked for is noted,
and one thing at a time is denied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from gdb_nept.address import KernelVirt
from gdb_nept.errors import MemberMissing, SymbolMissing, TypeMissing
from gdb_nept.target.ports import CType, Member

Name = tuple[str, str]  # a structure and its member; "" and a symbol; a structure and ""


class Denying:
    """`asked` collects names while it is a set; `denied` is there no more."""

    def __init__(self) -> None:
        self.asked: dict[Name, None] | None = None
        self.denied: Name | None = None

    def refuses(self, name: Name) -> bool:
        if self.asked is not None:
            self.asked[name] = None
        return name == self.denied

    @contextmanager
    def recording(self) -> Iterator[dict[Name, None]]:
        self.asked = {}
        yield self.asked
        self.asked = None

    @contextmanager
    def without(self, name: Name) -> Iterator[None]:
        self.denied = name
        try:
            yield
        finally:
            self.denied = None


class Unkept(CType):
    """One whose members are looked up each time they are asked for, since they come and go."""

    def _find(self, name: str) -> Member | None:
        try:
            return self._look_up(name)
        except MemberMissing:
            return None


class DenyingTypes:
    def __init__(self, below: Any, rule: Denying) -> None:
        self._below, self._rule = below, rule
        self._made: dict[int, tuple[CType, CType]] = {}
        self._members: dict[tuple[int, str], Member] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def struct(self, name: str, module: str | None = None) -> CType:
        if self._rule.refuses((name, "")):
            raise TypeMissing(name, self._below.origin)
        return self._wrapped(self._below.struct(name, module))

    def _wrapped(self, found: CType) -> CType:
        known = self._made.get(id(found))
        if known is not None and known[0] is found:
            return known[1]
        made = Unkept(
            found.kind,
            found.name,
            found.size,
            found.signed,
            found.count,
            enumerators=found.enumerators,
            target=found.target and (lambda: self._wrapped(found.element())),
            lookup=found.lookup and (lambda name: self._member(found, name)),
            names=found.names and (lambda: self._names(found)),
        )
        self._made[id(found)] = found, made
        return made

    def _member(self, holder: CType, name: str) -> Member:
        if self._rule.refuses((holder.name, name)):
            raise MemberMissing(holder.name or "(anonymous)", name)
        known = self._members.get((id(holder), name))  # `holder` is kept by _made
        if known is None:
            assert holder.lookup is not None
            found = holder.lookup(name)
            known = replace(found, type=self._wrapped(found.type))
            self._members[id(holder), name] = known
        return known

    def _names(self, holder: CType) -> tuple[str, ...]:
        assert holder.names is not None
        return tuple(n for n in holder.names() if (holder.name, n) != self._rule.denied)


class DenyingSymbols:
    """`read_with` are the names that reading the tables of symbols asks for.  The memory stays as
    it is: the tables are read again only where one of those names goes, and where it comes back."""

    def __init__(self, below: Any, rule: Denying) -> None:
        self._below, self._rule = below, rule
        self.read_with: frozenset[Name] | None = None
        self._reduced = False

    def forget(self) -> None:
        reduced = self.read_with is None or self._rule.denied in self.read_with
        if reduced or self._reduced:
            self._below.forget()
        self._reduced = reduced

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def address(self, name: str, module: str | None = None) -> KernelVirt:
        if self._rule.refuses(("", name)):
            raise SymbolMissing(name, "this kernel")
        found: KernelVirt = self._below.address(name, module)
        return found


MOVED = ("get_guest_pgd", "get_pdptr", "inject_page_fault", "gva_to_gpa", "cpu_role")


class NextTypes:
    """Types as after 7.2: what MOVED names is in struct kvm_pagewalk, to which kvm_mmu.w points.

    The memory is of a kernel before that: `w` lies where get_guest_pgd was, and each kvm_mmu's
    own address must be put there."""

    def __init__(self, below: Any) -> None:
        self._below = below

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def struct(self, name: str, module: str | None = None) -> CType:
        found: CType = self._below.struct(name, module)
        return self._next(found)

    def _next(self, found: CType) -> CType:
        if found.name == "kvm_mmu" and found.lookup:
            walk = replace(found, name="kvm_pagewalk", lookup=lambda name: self._walk(found, name))
            return replace(found, lookup=lambda name: self._mmu(found, walk, name))
        if not found.lookup and not found.target:
            return found
        return replace(
            found,
            target=found.target and (lambda: self._next(found.element())),
            lookup=found.lookup and (lambda name: self._passed(found, name)),
        )

    def _passed(self, holder: CType, name: str) -> Member:
        if holder.name == "kvm_vcpu_arch" and name in ("walk_mmu", "nested_mmu"):
            raise MemberMissing(holder.name, name)
        assert holder.lookup is not None
        found = holder.lookup(name)
        return replace(found, type=self._next(found.type))

    def _mmu(self, mmu: CType, walk: CType, name: str) -> Member:
        if name in MOVED:
            raise MemberMissing("kvm_mmu", name)
        assert mmu.lookup is not None
        if name == "w":
            place = mmu.lookup(MOVED[0]).bit_offset
            return Member("w", place, 0, CType("pointer", "", 8, target=lambda: walk))
        return mmu.lookup(name)

    def _walk(self, mmu: CType, name: str) -> Member:
        if name not in MOVED:
            raise MemberMissing("kvm_pagewalk", name)
        assert mmu.lookup is not None
        return mmu.lookup(name)
