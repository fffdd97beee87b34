# SPDX-License-Identifier: GPL-2.0-or-later
"""The loaded modules: where they lie, their symbols, their BTF (kernel/module/, kernel/bpf/btf.c).

What is read here comes out of `struct module` of vmlinux' own BTF.  Lists are bounded; a damaged
one gives what was found, and a note.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from gdb_nept.address import KernelVirt
from gdb_nept.errors import MemberMissing, MemoryUnreadable, NeptError, TypeMissing
from gdb_nept.memory.budget import charge
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.target.elf import note_build_id
from gdb_nept.target.kallsyms import SymbolTable
from gdb_nept.target.ports import Kernel, Module, Value, container_of, read_pointer

MOST_MODULES = 4096
MOST_SYMBOLS = 1 << 20
SYMBOLS_A_FIELD = 16  # which cost as much as a field that is read by itself
MOST_NOTES = 16
MOST_SECTIONS = 256
LONGEST_SECTION_NAME = 32  # of those that somebody asks for
LONGEST_NAME = 512  # KSYM_NAME_LEN, since 6.1
LARGEST_BTF = 1 << 28
LARGEST_STRINGS = 1 << 24  # the names of one module's symbols
ELF_SYMBOL = struct.Struct("<IBBHQQ")


@dataclass(frozen=True)
class LoadedModule:
    """A module with its `struct module`, and the areas (address, bytes) that it occupies."""

    module: Module
    value: Value
    areas: tuple[tuple[KernelVirt, int], ...]

    def holds(self, address: int) -> bool:
        return any(base <= address < base + size for base, size in self.areas)


@dataclass(frozen=True)
class ModuleList:
    """The loaded modules, newest first."""

    modules: tuple[LoadedModule, ...]
    note: str = ""  # why the list may be incomplete, or ''


class LoadedKernel(Kernel, Protocol):
    """A Kernel that can tell each module's `struct module`."""

    def loaded_modules(self) -> tuple[LoadedModule, ...]: ...


def list_modules(kernel: Kernel) -> ModuleList:
    """The list `modules`, newest first; a kernel with another struct module than is known is no
    reason to lose more than its modules.  Raises SymbolMissing."""
    head = kernel.symbols.address("modules")
    found: list[LoadedModule] = []
    try:
        for node in list_nodes(kernel, head):
            value = container_of(kernel, node, "module", "list")
            name = value.member("name").string()
            areas = tuple(_areas(value))
            base, size = areas[0][0], sum(length for _, length in areas)
            found.append(LoadedModule(Module(name, base, size), value, areas))
    except BrokenList as broken:
        return ModuleList(tuple(found), f"the list 'modules' is damaged: {broken}")
    except (MemberMissing, TypeMissing) as error:
        return ModuleList(tuple(found), f"the list 'modules' is not known: {error.message}")
    except (MemoryUnreadable, IndexError) as error:
        return ModuleList(tuple(found), f"the list 'modules' cannot be followed: {error}")
    return ModuleList(tuple(found))


class BrokenList(NeptError):
    """A list that does not come back to its head."""


def list_nodes(kernel: Kernel, head: KernelVirt) -> Iterator[KernelVirt]:
    """The nodes of a struct list_head's list; raises BrokenList, MemoryUnreadable."""
    seen = {head}
    node = read_pointer(kernel, head)
    while node != head:
        if node in seen:
            raise BrokenList(f"it runs in a circle at {node:#x} after {len(seen)} entries")
        if len(seen) > MOST_MODULES:
            raise BrokenList(f"it goes on after {MOST_MODULES} entries")
        seen.add(node)
        yield node
        node = read_pointer(kernel, node)


def _areas(value: Value) -> Iterator[tuple[KernelVirt, int]]:
    """mem[] since 6.4 (ac3b43283923, "module: replace module_layout with module_memory"),
    core_layout since 4.5; without what is freed after init."""
    if value.has("mem"):
        memory = value.member("mem")
        for number in range(min(memory.type.count, 4)):  # MOD_TEXT to MOD_RO_AFTER_INIT
            area = memory.index(number)
            if number == 0 or area.member("size").number():
                yield area.member("base").pointer(), area.member("size").number()
        return
    layout = value.member("core_layout")
    yield layout.member("base").pointer(), layout.member("size").number()


def module_sections(loaded: LoadedModule) -> dict[str, KernelVirt]:
    """Where the sections of the module's file lie, as /sys/module/NAME/sections tells root (struct
    module_sect_attrs, kernel/module/sysfs.c).  Raises MemberMissing, MemoryUnreadable."""
    table = loaded.value.member("sect_attrs").deref()
    files = table.member("grp").first("bin_attrs_new", "bin_attrs").pointer()
    sections = table.member("attrs")
    found = {}
    for number in range(MOST_SECTIONS):
        if not read_pointer(loaded.value.kernel, KernelVirt(files + 8 * number)):
            break
        section = sections.index(number)
        # up to 6.13 an address beside the bin_attribute, then within it
        where = section.first("private", "address").pointer()
        name = section.first("attr", "battr.attr").member("name").pointer()
        text = loaded.value.kernel.read(name, LONGEST_SECTION_NAME).split(b"\0", 1)[0]
        found[text.decode("utf-8", "replace")] = where
    return found


def module_symbols(kernel: Kernel, loaded: LoadedModule) -> SymbolTable:
    """mod->kallsyms (struct mod_kallsyms, since 4.5): an ELF symbol table whose st_value are run
    time addresses.  Without CONFIG_KALLSYMS_ALL it has functions only."""
    table = loaded.value.member("kallsyms").deref()
    count = min(table.member("num_symtab").number(), MOST_SYMBOLS)
    place = table.member("symtab").pointer()
    charge(place, count * ELF_SYMBOL.size, count // SYMBOLS_A_FIELD)
    data = kernel.read(place, count * ELF_SYMBOL.size)
    rows = [row for row in ELF_SYMBOL.iter_unpack(data) if 0 < row[0] < LARGEST_STRINGS and row[3]]
    last = max((row[0] for row in rows), default=0)
    strings = _strings(kernel, table.member("strtab").pointer(), last)
    names = [
        strings[row[0] : strings.find(b"\0", row[0])].decode("utf-8", "replace") for row in rows
    ]
    return SymbolTable(names, array("Q", [row[4] for row in rows]))


def _strings(kernel: Kernel, start: KernelVirt, last: int) -> bytes:
    """The string table up to the end of the name at offset `last`."""
    end = start + last + LONGEST_NAME
    sure = (start + last + PAGE_SIZE) & ~(PAGE_SIZE - 1)  # the page that the last name starts in
    data = kernel.read(start, min(end, sure) - start)
    if end > sure and b"\0" not in data[last:]:
        data += kernel.read(KernelVirt(sure), end - sure)
    return data + b"\0"


def module_btf(kernel: Kernel, loaded: LoadedModule) -> tuple[KernelVirt, int] | None:
    """Where the module's BTF lies and its size, out of the list `btf_modules` (since 5.11), or
    None if it has none there.  `mod->btf_data` is no help: do_init_module() sets it to NULL.
    Raises SymbolMissing (no CONFIG_KALLSYMS_ALL), TypeMissing, BrokenList, MemoryUnreadable."""
    head = kernel.symbols.address("btf_modules")
    for node in list_nodes(kernel, head):
        entry = container_of(kernel, node, "btf_module", "list")
        if entry.member("module").pointer() == loaded.value.address:
            btf = entry.member("btf").deref()
            size = btf.member("data_size").number()
            return (btf.member("data").pointer(), size) if 0 < size <= LARGEST_BTF else None
    return None


def module_build_id(loaded: LoadedModule) -> str:
    """As read_build_id(), and '' also where it cannot be read."""
    try:
        return read_build_id(loaded)
    except NeptError:
        return ""


def read_build_id(loaded: LoadedModule) -> str:
    """Hexadecimal, or '' if the module has none: `build_id` (5.14, CONFIG_STACKTRACE_BUILD_ID),
    else out of the notes that sysfs shows (struct module_notes_attrs).  Raises MemoryUnreadable,
    MemberMissing."""
    value = loaded.value
    if value.has("build_id"):
        return value.member("build_id").raw().hex()
    return _build_id_of_notes(value)


def _build_id_of_notes(value: Value) -> str:
    pointer = value.member("notes_attrs")
    if not pointer.pointer():
        return ""
    notes = pointer.deref()
    for number in range(_notes(notes)):
        attribute = notes.member("attrs").index(number)
        place = attribute.member("private").pointer()
        size = attribute.member("size").number()
        found = note_build_id(value.kernel.read(place, size)) if 0 < size <= PAGE_SIZE else ""
        if found:
            return found
    return ""


def _notes(notes: Value) -> int:
    """`notes` counts them up to 6.13; later the group of attributes ends with NULL, and the first
    few are looked at."""
    if notes.has("notes"):
        return min(notes.member("notes").number(), MOST_NOTES)
    return 1
