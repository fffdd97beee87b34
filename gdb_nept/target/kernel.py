# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux kernel out of nothing but physical memory: the Kernel port over vmcoreinfo, kallsyms,
the kernel's own page tables and BTF.  `linux.py` attaches to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.errors import MemoryUnreadable, NeptError, SymbolMissing
from gdb_nept.memory.reader import PAGE_MASK, PAGE_SIZE, PageCache, PhysicalMemory
from gdb_nept.target.image import image_physical
from gdb_nept.target.kernel_symbols import KernelSymbols, SymbolLookup
from gdb_nept.target.kernel_types import KernelTypes
from gdb_nept.target.locate import Located
from gdb_nept.target.modules import LoadedModule, ModuleList, list_modules, module_symbols
from gdb_nept.target.pagetable import PageTables, Translation
from gdb_nept.target.ports import Module
from gdb_nept.target.type_sources import TypeSources
from gdb_nept.target.vmcoreinfo import KERNEL_MAP

#: Where the direct map starts if no variable tells: Documentation/arch/x86/x86_64/mm.rst, since
#: 4.20 (d52888aa2753, "x86/mm: Move LDT remap out of KASLR region"), and before.
DIRECT_MAPS = {
    4: (0xFFFF888000000000, 0xFFFF880000000000),
    5: (0xFF11000000000000, 0xFF10000000000000),
}
VMALLOC = {4: 0xFFFFC90000000000, 5: 0xFFA0000000000000}


@dataclass(frozen=True)
class Layout:
    """Of the regions that CONFIG_RANDOMIZE_MEMORY moves (arch/x86/mm/kaslr.c): where the direct map
    lies, up to `vmalloc_base`."""

    page_offset_base: KernelVirt
    vmalloc_base: KernelVirt


class LinuxKernel:
    """One kernel.  Symbols of vmlinux are there; modules and types are read when first asked.

    `forget()` after the target ran: what was read of modules, lists and page tables is stale.
    """

    def __init__(
        self,
        memory: PhysicalMemory[HostPhys],
        located: Located,
        build_id: str,
        symbols: SymbolLookup,
        symbols_origin: str,
        sources: TypeSources,
    ) -> None:
        self.physical = memory
        self.release = located.info.release
        self.build_id = build_id
        self.kaslr_offset = located.info.kaslr_offset
        self.phys_base = located.phys_base
        self.levels = located.info.levels
        self.found_by = located.how
        self._tables = memory if isinstance(memory, PageCache) else PageCache(memory)
        self._sme_mask = located.page_tables.sme_mask
        self.page_tables = self._tree(located.page_tables.root)
        self._image = _image(symbols)
        self._pages: dict[int, HostPhys] = {}
        self._modules: ModuleList | None = None
        self.symbols = KernelSymbols(
            symbols, symbols_origin, self.loaded_modules, lambda each: module_symbols(self, each)
        )
        self.types = KernelTypes(
            lambda: sources.vmlinux(self), lambda name, base: sources.module(self, name, base)
        )
        self.layout: Layout = self._find_layout()

    @property
    def origin(self) -> str:
        """Where symbols and types come from, in words."""
        return f"symbols: {self.symbols.origin}; types: {self.types.origin}"

    @property
    def circumstances(self) -> tuple[str, ...]:
        """How the kernel was found, and where it lies."""
        moved = f"KASLR moved it by {self.kaslr_offset:#x}" if self.kaslr_offset else "no KASLR"
        return (f"found by {self.found_by}; {moved}; {self.levels}-level paging",)

    @property
    def notes(self) -> tuple[NeptError, ...]:
        """What is missing or damaged, as far as it was asked for; each with its advice."""
        found = [*self.types.missing.values()]
        found += [NeptError(f"{name}: {why}") for name, why in self.symbols.unreadable.items()]
        if self._modules and self._modules.note:
            found.append(NeptError(self._modules.note, "The target may have stopped in between."))
        return tuple(found)

    def forget(self) -> None:
        """The target ran: drop all that may have changed.  The build's own tables stay."""
        self._tables.drop()
        self._pages.clear()
        self._modules = None
        self.symbols.forget()
        self.types.forget()

    def loaded_modules(self) -> tuple[LoadedModule, ...]:
        if self._modules is None:
            self._modules = list_modules(self)
        return self._modules.modules

    def modules(self) -> tuple[Module, ...]:
        """The loaded modules, newest first; `notes` says if the list is damaged."""
        return tuple(loaded.module for loaded in self.loaded_modules())

    @property
    def module_problem(self) -> str:
        """Why `modules` may be incomplete, or ''."""
        self.loaded_modules()
        return self._modules.note if self._modules else ""

    def translate(self, address: KernelVirt) -> Translation:
        """The walk of a kernel address through the kernel's own tables, every step."""
        return self.page_tables.walk(address)

    def translate_user(self, pgd: KernelVirt, address: HostVirt) -> Translation:
        """The walk of a process's `address` from its `mm->pgd`.  What stands in the way is in
        the result.  Raises MemoryUnreadable only if `pgd` itself is no kernel address."""
        return self._tree(self.to_physical(pgd)).walk(address)

    def _tree(self, root: HostPhys) -> PageTables:
        return PageTables(self._tables, root, self.levels, self._sme_mask)

    def to_physical(self, address: KernelVirt) -> HostPhys:
        """Kernel image and direct map are computed, also where no page of them is mapped: behind
        the RAM, and what the kernel has freed of its image (free_kernel_image_pages(), with KPTI).
        All else is walked, and remembered until `forget`: raises MemoryUnreadable where nothing is
        mapped."""
        if self._image.start <= address < self._image.stop:
            return image_physical(address, self.phys_base)
        if self.layout.page_offset_base <= address < self.layout.vmalloc_base:
            return HostPhys(address - self.layout.page_offset_base)
        page = address & ~PAGE_MASK
        found = self._pages.get(page)
        if found is None:
            found = self._pages[page] = self.page_tables.to_physical(KernelVirt(page))[0]
        return HostPhys(found + (address & PAGE_MASK))

    def read(self, address: KernelVirt, size: int) -> bytes:
        """Kernel virtual memory; raises MemoryUnreadable."""
        if (address & PAGE_MASK) + size <= PAGE_SIZE:
            return self.physical.read(self.to_physical(address), size)
        parts = [self.physical.read(place, length) for place, length in self._runs(address, size)]
        return b"".join(parts)

    def _runs(self, address: int, size: int) -> Iterator[tuple[HostPhys, int]]:
        """The physically contiguous pieces of [address, address + size)."""
        end = address + size
        start, length = self.to_physical(KernelVirt(address)), PAGE_SIZE - (address & PAGE_MASK)
        for page in range((address | PAGE_MASK) + 1, end, PAGE_SIZE):
            place = self.to_physical(KernelVirt(page))
            if place == start + length:
                length += PAGE_SIZE
            else:
                yield start, length
                start, length = place, PAGE_SIZE
        yield start, length - (-end & PAGE_MASK)

    def _find_layout(self) -> Layout:
        self.layout = Layout(KernelVirt(0), KernelVirt(0))  # nothing is computed yet
        base = self._variable("page_offset_base")
        if base is None:
            base = next(filter(self._maps_memory, DIRECT_MAPS[self.levels]), 0)
        return Layout(
            KernelVirt(base),
            KernelVirt(self._variable("vmalloc_base") or VMALLOC[self.levels]),
        )

    def _maps_memory(self, base: int) -> bool:
        """Whether the top page table itself is mapped where a direct map at `base` puts it."""
        root = self.page_tables.root
        return self.page_tables.walk(KernelVirt(base + root)).physical == root

    def _variable(self, name: str) -> int | None:
        address = self.symbols.vmlinux.address(name)
        try:
            return int.from_bytes(self.read(address, 8), "little") if address else None
        except MemoryUnreadable:
            return None


def _image(symbols: SymbolLookup) -> range:
    """Where the kernel image lies; raises SymbolMissing for a table that does not tell."""
    start, end = symbols.address("_stext"), symbols.address("_end")
    if start is None or start < KERNEL_MAP:
        raise SymbolMissing("_stext", "kallsyms")
    return range(start, end) if end is not None and end > start else range(start, start)
