# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's image in physical memory: where an address of it lies, and what its variables say of
the kernel as vmcoreinfo would."""

from __future__ import annotations

from dataclasses import replace

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.target import vmcoreinfo
from gdb_nept.target.kallsyms import SymbolTable
from gdb_nept.target.pagetable import PageTables
from gdb_nept.target.scan import USUAL_TEXT
from gdb_nept.target.vmcoreinfo import KERNEL_MAP, TEXT_ALIGN, Vmcoreinfo

UTS_SIZE = 512


def image_physical(address: int, phys_base: int) -> HostPhys:
    """__pa() of an address of the kernel image (arch/x86/mm/physaddr.c, __phys_addr)."""
    return HostPhys(address - KERNEL_MAP + phys_base)


def page_tables(memory: PhysicalMemory[HostPhys], info: Vmcoreinfo, phys_base: int) -> PageTables:
    root = image_physical(info.top_table, phys_base)
    return PageTables(memory, root, info.levels, info.numbers.get("sme_mask", 0))


def read_vmcoreinfo(memory: PhysicalMemory[HostPhys], place: HostPhys) -> Vmcoreinfo | None:
    try:
        return vmcoreinfo.parse(memory.read(place, vmcoreinfo.LIMIT))
    except MemoryUnreadable:
        return None


def replace_base(info: Vmcoreinfo, phys_base: int) -> Vmcoreinfo:
    return replace(info, numbers={**info.numbers, "phys_base": phys_base})


def info_from_symbols(
    memory: PhysicalMemory[HostPhys], symbols: SymbolTable, phys_base: int
) -> Vmcoreinfo | None:
    """What vmcoreinfo would say, from the symbols and a few variables (CONFIG_CRASH_DUMP=n)."""
    wanted = ("_stext", "init_uts_ns", "init_top_pgt", "init_level4_pgt", "swapper_pg_dir")
    found = {name: symbols.address(name) for name in wanted}
    known = {name: address for name, address in found.items() if address is not None}
    if "_stext" not in known or "init_uts_ns" not in known:
        return None
    levels = symbols.address("__pgtable_l5_enabled")
    try:
        uts = memory.read(image_physical(known["init_uts_ns"], phys_base), UTS_SIZE)
        five = levels and memory.read(image_physical(levels, phys_base), 4)
    except MemoryUnreadable:
        return None
    release = uts_fields(uts)[1]
    offset = max(0, (known["_stext"] & ~(TEXT_ALIGN - 1)) - USUAL_TEXT)
    words = {"OSRELEASE": release, "KERNELOFFSET": f"{offset:x}"}
    numbers = {"pgtable_l5_enabled": int.from_bytes(five or b"", "little")}
    return Vmcoreinfo(words, known, numbers, {})


def uts_fields(data: bytes) -> tuple[str, str, str, str]:
    """sysname, release, version, machine out of a uts_namespace's first bytes; the name of the
    node, in between, is left out.  struct new_utsname: six arrays of 65 characters."""
    start = max(data.find(b"Linux\0"), 0)
    texts = [data[start + 65 * place : start + 65 * place + 65] for place in (0, 2, 3, 4)]
    one, two, three, four = (text.split(b"\0")[0].decode("ascii", "replace") for text in texts)
    return one, two, three, four
