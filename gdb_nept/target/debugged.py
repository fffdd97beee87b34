# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that is seen through a debugger alone: the Kernel port over a vmlinux that the debugger
has loaded and a stub that reads kernel addresses, as kgdb.

Nothing of it is searched for, and no table of symbols or types is read over the link: such a link
is a serial line, and gives about 4 KiB a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.errors import MemoryUnreadable, NeptError, SymbolMissing
from gdb_nept.memory.reader import PageCache
from gdb_nept.memory.stub import Stub
from gdb_nept.target.debugger import DebuggedSymbols, DebuggedTypes, Debugger
from gdb_nept.target.kernel import DIRECT_MAPS, VMALLOC
from gdb_nept.target.modules import LoadedModule, ModuleList, list_modules, module_sections
from gdb_nept.target.pagetable import PageTables, Translation
from gdb_nept.target.ports import Module, object_at
from gdb_nept.target.vmcoreinfo import KERNEL_MAP

SAME_VMLINUX = (
    "Load the vmlinux of the very build.  If KASLR moved the kernel, load it where that lies now: "
    "symbol-file -o OFFSET vmlinux (OFFSET: _text in /proc/kallsyms less _text in vmlinux)."
)
BANNER = b"Linux version "
#: A symbol of each of KVM's modules: gdb has it if the module's symbols are loaded.
OF_MODULE = {"kvm": "vm_list", "kvm_intel": "vmx_vcpu_run"}
#: Those of a module's sections that have symbols which we ask for.
SECTIONS = (
    *(".text", ".text.unlikely", ".noinstr.text", ".rodata"),
    *(".data", ".data..read_mostly", ".data..ro_after_init", ".bss"),
)


class OtherKernel(NeptError):
    """The vmlinux in the debugger is not the kernel that runs, or not where it runs."""


@dataclass(frozen=True)
class KernelAddresses:
    """The stub's memory at kernel addresses, little more of it than is asked for: what we want of
    KVM's large structures lies far apart."""

    stub: Stub
    grain: int = 32

    def read(self, address: KernelVirt, size: int) -> bytes:
        return self.stub.read(address, size)


class DebuggedKernel:
    """One running kernel.  `forget()` after it ran."""

    def __init__(self, debugger: Debugger, stub: Stub, physical: PageCache[HostPhys]) -> None:
        """`physical` is memory through the direct map.  Raises OtherKernel."""
        self.types = DebuggedTypes(debugger)
        self.symbols = DebuggedSymbols(debugger)
        self.physical = physical
        self._virtual = PageCache(KernelAddresses(stub))
        self.release = self._release()
        self.levels = 5 if self._variable("__pgtable_l5_enabled", 4) else 4
        self.page_offset = self._variable("page_offset_base", 8) or DIRECT_MAPS[self.levels][0]
        self._direct_map = range(
            self.page_offset, self._variable("vmalloc_base", 8) or VMALLOC[self.levels]
        )
        self._image = range(self.symbols.address("_text"), self.symbols.address("_end"))
        self._phys_base = self._variable("phys_base", 8) or 0
        self._modules: ModuleList | None = None

    @property
    def circumstances(self) -> tuple[str, ...]:
        return (f"seen through the debugger alone; {self.levels}-level paging",)

    @property
    def notes(self) -> tuple[NeptError, ...]:
        """What is missing or damaged, as far as it was asked for."""
        damaged = (NeptError(self.module_problem),) if self.module_problem else ()
        return (*damaged, *self._modules_without_symbols())

    def forget(self) -> None:
        """The kernel ran: drop all that was read."""
        self._virtual.drop()
        self._modules = None

    def read(self, address: KernelVirt, size: int) -> bytes:
        """Kernel virtual memory; raises MemoryUnreadable."""
        return self._virtual.read(address, size)

    def to_physical(self, address: KernelVirt) -> HostPhys:
        """Raises MemoryUnreadable where nothing is mapped."""
        if address in self._direct_map:
            return HostPhys(address - self._direct_map.start)
        if address in self._image:
            return HostPhys(address - KERNEL_MAP + self._phys_base)
        root = self.to_physical(self.symbols.address("init_top_pgt"))
        return self._tree(root).to_physical(address)[0]

    def translate_user(self, pgd: KernelVirt, address: HostVirt) -> Translation:
        """The walk of a process's `address` from its `mm->pgd`.  Raises MemoryUnreadable only if
        `pgd` itself is no kernel address."""
        return self._tree(self.to_physical(pgd)).walk(address)

    def modules(self) -> tuple[Module, ...]:
        """The loaded modules, newest first.  Raises NeptError where that cannot be told."""
        if self._modules is None:
            self._modules = list_modules(self)
        return tuple(loaded.module for loaded in self._modules.modules)

    @property
    def module_problem(self) -> str:
        """Why `modules` may be incomplete, or ''."""
        self.modules()
        return self._modules.note if self._modules else ""

    def _modules_without_symbols(self) -> Iterator[NeptError]:
        for loaded in self._modules.modules if self._modules else ():
            name = loaded.module.name
            if name in OF_MODULE and self.types.debugger.symbol(OF_MODULE[name]) is None:
                told = f"gdb has no symbols of the module {name}"
                yield NeptError(told, _add_symbol_file(loaded))

    def _tree(self, root: HostPhys) -> PageTables:
        return PageTables(self.physical, root, self.levels)

    def _release(self) -> str:
        """uname -r, if the kernel's banner says the same: then its symbols are where we look."""
        try:
            banner = self.read(self.symbols.address("linux_banner"), 64)
            names = object_at(self, self.symbols.address("init_uts_ns"), "uts_namespace")
            release = names.member("name.release").string()
        except MemoryUnreadable as error:
            raise OtherKernel(f"{self._mismatch()} ({error.message})", SAME_VMLINUX) from None
        if not release or not banner.startswith(BANNER + release.encode()[:40] + b" "):
            raise OtherKernel(self._mismatch(), SAME_VMLINUX)
        return release

    def _mismatch(self) -> str:
        file = self.symbols.origin
        return f"{file} is not the vmlinux of the running kernel, or not loaded where that lies"

    def _variable(self, name: str, size: int) -> int | None:
        """Raises MemoryUnreadable; None for a kernel without it."""
        try:
            address = self.symbols.address(name)
        except SymbolMissing:
            return None
        return int.from_bytes(self.read(address, size), "little")


def _add_symbol_file(loaded: LoadedModule) -> str:
    """What to type into gdb, in lines that can be pasted; the module's file as a build tree has it,
    in gdb's directory."""
    name = loaded.module.name
    file = f"{name.replace('_', '-')}.ko"
    try:
        sections = module_sections(loaded)
    except NeptError:
        return (
            f"Type: add-symbol-file {file} and -s SECTION ADDRESS, of /sys/module/{name}/sections"
        )
    placed = [f"-s {one} {sections[one]:#x}" for one in SECTIONS if one in sections]
    pairs = [" ".join(placed[number : number + 2]) for number in range(0, len(placed), 2)]
    return " \\\n".join([f"add-symbol-file {file}", *pairs])
