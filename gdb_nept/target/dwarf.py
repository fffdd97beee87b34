# SPDX-License-Identifier: GPL-2.0-or-later
"""A running kernel whose vmlinux, with debug info, a debugger has loaded.

vmlinux is linked for no KASLR: its symbols are moved by the offset of the running kernel.  Types of
modules, and symbols that vmlinux has not, still come from the running kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.errors import NeptError, SymbolMissing, TypeMissing
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.target.debugger import DebuggedTypes, Debugger
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.pagetable import Translation
from gdb_nept.target.ports import CType, Module, Symbols, Types

#: Symbols that every vmlinux and every kallsyms has, far from each other in the image.
ANCHORS = ("_stext", "_etext", "init_task", "init_uts_ns", "jiffies_64")


class DwarfMismatch(NeptError):
    """The vmlinux in the debugger is not the kernel that runs."""


@dataclass(frozen=True)
class DwarfTypes:
    """Types of `vmlinux`, the rest from `running`."""

    vmlinux: DebuggedTypes
    running: Types

    @property
    def origin(self) -> str:
        return f"{self.vmlinux.origin}; modules: {self.running.origin}"

    def struct(self, name: str, module: str | None = None) -> CType:
        try:
            return self.vmlinux.struct(name, module)
        except TypeMissing:
            return self.running.struct(name, module)


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
    types = DwarfTypes(DebuggedTypes(debugger), running.types)
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
