# SPDX-License-Identifier: GPL-2.0-or-later
"""Types and symbols out of a vmlinux with debug info, as a debugger has read them.

gdb itself is behind the Debugger protocol (`target/gdb.py`), so that this file is tested without
one.  vmlinux is linked for no KASLR: its symbols are moved by the offset of the running kernel.
Types of modules, and symbols that vmlinux has not, still come from the running kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.errors import MemberMissing, NeptError, SymbolMissing
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.pagetable import Translation
from gdb_nept.target.ports import CType, Member, Module, Symbols, Types

#: Symbols that every vmlinux and every kallsyms has, far from each other in the image.
ANCHORS = ("_stext", "_etext", "init_task", "init_uts_ns", "jiffies_64")


class DebugType(Protocol):
    """The part of gdb.Type that we use; `fields()` are gdb.Field."""

    name: Any
    tag: Any
    sizeof: int

    def strip_typedefs(self) -> DebugType: ...
    def unqualified(self) -> DebugType: ...
    def target(self) -> DebugType: ...
    def range(self) -> tuple[int, int]: ...
    def fields(self) -> Sequence[Any]: ...


class Debugger(Protocol):
    """A debugger with a vmlinux loaded."""

    file: str  # of the vmlinux

    def struct(self, name: str) -> DebugType | None:
        """struct or union `name` with its members; None if there is none."""
        ...

    def kind(self, found: DebugType) -> str:
        """One of CType's kinds."""
        ...

    def signed(self, found: DebugType) -> bool: ...

    def symbol(self, name: str) -> int | None:
        """Its address as vmlinux was linked."""
        ...

    def name_at(self, address: int) -> str | None:
        """'symbol+0x12', or None."""
        ...


class DwarfMismatch(NeptError):
    """The vmlinux in the debugger is not the kernel that runs."""


@dataclass(frozen=True)
class DwarfTypes:
    """Types of vmlinux from the debugger, the rest from `running`."""

    debugger: Debugger
    running: Types
    _found: dict[str, CType] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"DWARF of {self.debugger.file}; modules: {self.running.origin}"

    def struct(self, name: str, module: str | None = None) -> CType:
        if name not in self._found:
            found = self.debugger.struct(name)
            if found is None:
                return self.running.struct(name, module)
            self._found[name] = ctype(self.debugger, found)
        return self._found[name]


@dataclass(frozen=True)
class DwarfSymbols:
    """Symbols of vmlinux from the debugger, moved by `offset`; the rest from `running`."""

    debugger: Debugger
    running: Symbols
    offset: int

    @property
    def origin(self) -> str:
        moved = f" (KASLR: moved by {self.offset:#x})" if self.offset else ""
        return f"{self.debugger.file}{moved}; modules: {self.running.origin}"

    def address(self, name: str, module: str | None = None) -> KernelVirt:
        if module is not None:
            return self.running.address(name, module)
        found = self.debugger.symbol(name)
        if found is None:
            return self.running.address(name, module)
        return KernelVirt(found + self.offset)

    def name_at(self, address: KernelVirt) -> str | None:
        return self.running.name_at(address)


@dataclass(frozen=True)
class DwarfKernel:
    """A running kernel seen through its vmlinux's debug info."""

    running: LinuxKernel
    types: DwarfTypes
    symbols: DwarfSymbols

    @property
    def release(self) -> str:
        return self.running.release

    @property
    def physical(self) -> PhysicalMemory[HostPhys]:
        return self.running.physical

    def forget(self) -> None:
        self.running.forget()

    def read(self, address: KernelVirt, size: int) -> bytes:
        return self.running.read(address, size)

    def to_physical(self, address: KernelVirt) -> HostPhys:
        return self.running.to_physical(address)

    def translate(self, address: KernelVirt) -> Translation:
        return self.running.translate(address)

    def translate_user(self, pgd: KernelVirt, address: HostVirt) -> Translation:
        return self.running.translate_user(pgd, address)

    def modules(self) -> tuple[Module, ...]:
        return self.running.modules()

    @property
    def module_problem(self) -> str:
        return self.running.module_problem


def with_dwarf(running: LinuxKernel, debugger: Debugger) -> DwarfKernel:
    """`running` with vmlinux's types and symbols; raises DwarfMismatch if it is another build."""
    offset = kaslr_offset(running.symbols, debugger)
    types = DwarfTypes(debugger, running.types)
    return DwarfKernel(running, types, DwarfSymbols(debugger, running.symbols, offset))


def kaslr_offset(running: Symbols, debugger: Debugger) -> int:
    """By how much the running kernel lies behind vmlinux's own addresses: by the same for all."""
    offsets = {}
    for name in ANCHORS:
        linked = debugger.symbol(name)
        try:
            actual = running.address(name)
        except SymbolMissing:
            continue
        if linked is not None:
            offsets[name] = actual - linked
    if len(offsets) < 2 or len(set(offsets.values())) > 1:
        raise DwarfMismatch(
            f"{debugger.file} is not used: it is not the vmlinux of the running kernel",
            "Load the vmlinux of the same build, or none: BTF and kallsyms do.",
        )
    return int(next(iter(offsets.values())))


def ctype(debugger: Debugger, found: DebugType) -> CType:
    """The debugger's type as ours, its members looked up when asked."""
    plain = found.strip_typedefs().unqualified()
    kind = debugger.kind(plain)

    @functools.lru_cache(maxsize=1)
    def members() -> dict[str, Member]:
        return dict(_members(debugger, plain, 0))

    def lookup(name: str) -> Member:
        try:
            return members()[name]
        except KeyError:
            raise MemberMissing(str(plain.tag or plain.name or kind), name) from None

    structured = kind in ("struct", "union")
    return CType(
        kind=kind,
        name=str(plain.tag or plain.name or ""),
        size=plain.sizeof,
        signed=kind in ("int", "enum") and debugger.signed(plain),
        count=_count(debugger, plain),
        target=(lambda: ctype(debugger, plain.target())) if kind in ("pointer", "array") else None,
        lookup=lookup if structured else None,
        names=(lambda: tuple(members())) if structured else None,
        enumerators=tuple((str(one.name), int(one.enumval)) for one in plain.fields())
        if kind == "enum"
        else (),
    )


def _members(debugger: Debugger, found: DebugType, base: int) -> Iterator[tuple[str, Member]]:
    for one in found.fields():
        place = base + int(one.bitpos)
        if one.name:
            inner = ctype(debugger, one.type)
            yield str(one.name), Member(str(one.name), place, int(one.bitsize), inner)
        else:
            yield from _members(debugger, one.type.strip_typedefs().unqualified(), place)


def _count(debugger: Debugger, found: DebugType) -> int:
    """Elements of an array, 0 for a flexible one; parameters of a function."""
    kind = debugger.kind(found)
    if kind == "function":
        return len(found.fields())
    if kind != "array" or not found.sizeof:  # gdb gives a flexible one the range 0 to 0
        return 0
    low, high = found.range()
    return max(0, high - low + 1)
