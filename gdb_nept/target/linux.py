# SPDX-License-Identifier: GPL-2.0-or-later
"""Attach to the Linux kernel in a physical memory.

    kernel = attach(memory, ram=memory.size)
    kernel.symbols.address("vm_list", "kvm")

In order: find the kernel (`locate.py`), its symbols (cache, tables that vmcoreinfo names, search),
its layout; types and modules wait until they are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Union

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable, NoKernel
from gdb_nept.memory.budget import Progress, tell
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.target import symbol_file, vmcoreinfo
from gdb_nept.target.cache import BuildCache, default_directory
from gdb_nept.target.elf import build_id_among
from gdb_nept.target.fingerprint import fingerprint
from gdb_nept.target.image import UTS_SIZE, image_physical, uts_fields
from gdb_nept.target.kallsyms import INDEX_SIZE, NotKallsyms, SymbolTable, Tables, decode
from gdb_nept.target.kallsyms_search import digit_runs, search_back, token_table
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.kernel_symbols import SymbolLookup
from gdb_nept.target.locate import Located, Ranges, Search
from gdb_nept.target.recent import known_build, remember
from gdb_nept.target.scan import LARGEST_IMAGE, readable
from gdb_nept.target.type_sources import TypeSources, checked_files

Ram = Union[int, Ranges]
PIECE = 1 << 20
TAIL = 64
LARGEST_NOTES = 1 << 16


def attach(
    memory: PhysicalMemory[HostPhys],
    ram: Ram = (),
    *,
    btf_files: Sequence[Path] = (),
    cr3s: Sequence[int] = (),
    vmcoreinfo_text: bytes = b"",
    progress: Progress | None = None,
    cache: Path | str | None = "",
    near: bool = False,
) -> LinuxKernel:
    """The kernel that `memory` holds; the debugger has stopped it, or it is a dump.

    `ram` is the size of RAM, or its physical ranges, or what tells these when a search needs them;
    () if not known.  `btf_files` are raw BTF, .ko and vmlinux files that the user named.  `cr3s`,
    of the machine's CPUs, and `vmcoreinfo_text`, of a dump's note, spare most of the search.
    `cache` is the cache's directory: "" for the usual one, None for none.  With `near` memory is
    read at no cost, and what the cache holds is held against all of it, not against a few pages.
    Raises NoKernel, and BadInput for a file that is not of this kernel.
    """
    ranges = [range(ram)] if isinstance(ram, int) else ram
    root = default_directory() if cache == "" else _path(cache)
    search = Search(memory, ranges, cr3s, progress or tell, far=not near)
    located = _locate(search, vmcoreinfo_text, root)
    build_id = located.info.build_id or build_of_uts(memory, located)
    store = BuildCache(root, build_id)
    symbols, origin = _symbols(memory, located, store, near)
    known = located.info.build_id or build_of_notes(memory, located, symbols)
    given = checked_files(btf_files, located.info.release, known)
    sources = TypeSources(given, store, near)
    return LinuxKernel(
        memory=memory,
        located=located,
        build_id=build_id,
        symbols=symbols,
        symbols_origin=origin,
        sources=sources,
    )


def _path(cache: Path | str | None) -> Path | None:
    return None if cache is None else Path(cache)


def _locate(search: Search, text: bytes, cache: Path | None) -> Located:
    info = vmcoreinfo.parse(text) if text else None
    found = search.prove(info, "the dump's vmcoreinfo note") if info else None
    return found or known_build(search, cache) or search.find()


def build_of_uts(memory: PhysicalMemory[HostPhys], located: Located) -> str:
    """A name for the build where vmcoreinfo has no BUILD-ID: release, version ("#1 SMP ...") and
    machine, as in the kernel's banner, hashed."""
    place = image_physical(located.info.symbols["init_uts_ns"], located.phys_base)
    words = "\n".join(uts_fields(memory.read(place, UTS_SIZE)))
    return "uts-" + hashlib.sha1(words.encode()).hexdigest()  # no secret, a name


def build_of_notes(
    memory: PhysicalMemory[HostPhys], located: Located, symbols: SymbolLookup
) -> str:
    """vmlinux' build ID out of its notes in memory (include/asm-generic/vmlinux.lds.h, NOTES), or
    '' if it is not there."""
    bounds = symbols.address("__start_notes"), symbols.address("__stop_notes")
    if not bounds[0] or not bounds[1] or not 0 < bounds[1] - bounds[0] <= LARGEST_NOTES:
        return ""
    place = image_physical(bounds[0], located.phys_base)
    return build_id_among(memory.read(place, bounds[1] - bounds[0]))


def _symbols(
    memory: PhysicalMemory[HostPhys], located: Located, store: BuildCache, near: bool
) -> tuple[SymbolLookup, str]:
    """The symbols of vmlinux and their origin in words.  Raises NoKernel."""
    info = located.info
    stext = image_physical(info.symbols["_stext"], located.phys_base)
    others = []

    def read(offset: int, size: int) -> bytes:
        return memory.read(HostPhys(stext + offset), size)

    for data in store.contents("kallsyms"):
        cached = symbol_file.unpack(data, info.kaslr_offset)
        if cached is None or cached.symbols.address("_stext") != info.symbols["_stext"]:
            continue
        if cached.made_of.fits(read, near):
            remember(store, cached.symbols, info.kaslr_offset)
            count = len(cached.symbols)
            return cached.symbols, f"kallsyms ({count} symbols, from the cache of this build)"
        others.append(cached)
    try:
        symbols, tables, how = _decoded(memory, located)
    except (NoKernel, MemoryUnreadable):
        if not others:
            raise
        why = "the table in memory is damaged"
        return others[0].symbols, f"kallsyms (from the cache of this build: {why})"
    made_of = fingerprint(read, _extents(tables, stext))
    store.store("kallsyms", symbol_file.pack(symbols, info.kaslr_offset, made_of))
    remember(store, symbols, info.kaslr_offset)
    doubt = "; what the cache has of this build does not fit this memory" if others else ""
    return symbols, f"kallsyms in memory ({len(symbols)} symbols, {how}{doubt})"


def _extents(tables: Tables, stext: int) -> list[tuple[int, int]]:
    """All that symbols are decoded from, but for what KASLR changes: offsets from `_stext`."""
    found = [
        (tables.names, tables.tokens - tables.names),
        (tables.tokens, tables.token_index - tables.tokens),
        (tables.token_index, INDEX_SIZE),
    ]
    if tables.relative_base is not None or tables.offsets_virtual:
        found.append((tables.entries, 4 * tables.count))
    return [(place - stext, size) for place, size in found]


def _decoded(memory: PhysicalMemory[HostPhys], located: Located) -> tuple[SymbolTable, Tables, str]:
    if located.blind:
        blind = located.blind
        return blind.symbols, blind.tables, f"{blind.tables.order}, found by search"
    try:
        tables = named_tables(memory, located)
        if tables:
            symbols = decode(memory, tables, located.info.symbols["_stext"])[0]
            return symbols, tables, tables.order
    except (NotKallsyms, MemoryUnreadable):
        pass  # the names in vmcoreinfo may be of an order to come: the search may still do
    symbols, tables = searched_tables(memory, located)
    return symbols, tables, f"{tables.order}, found by search"


def named_tables(memory: PhysicalMemory[HostPhys], located: Located) -> Tables | None:
    """kallsyms' tables as vmcoreinfo names them, since 6.0 (f09bddbd8661, "vmcoreinfo: add
    kallsyms_num_syms symbol", and its neighbours); else None."""
    names = ("names", "num_syms", "token_table", "token_index", "offsets", "relative_base")
    symbols = [located.info.symbols.get(f"kallsyms_{name}") for name in names]
    if None in symbols[:5]:
        return None
    places = [image_physical(each or 0, located.phys_base) for each in symbols]
    count = int.from_bytes(memory.read(places[1], 4), "little")
    base = places[5] if symbols[5] else None
    order = order_of(places[0], places[4], base)
    virtual = symbols[4] or 0
    return Tables(
        count=count,
        names=places[0],
        tokens=places[2],
        token_index=places[3],
        entries=places[4],
        relative_base=base,
        offsets_virtual=virtual,
        order=order,
    )


def order_of(names: int, offsets: int, base: int | None) -> str:
    if base is None:
        return "order of 7.1 on"
    return "order up to 6.3" if offsets < names else "order of 6.4 on"


def searched_tables(
    memory: PhysicalMemory[HostPhys], located: Located
) -> tuple[SymbolTable, Tables]:
    """kallsyms' tables found by what they look like, in the kernel's image alone.  Raises
    NoKernel."""
    start = image_physical(located.info.symbols["_stext"], located.phys_base)
    for piece in range(start, start + LARGEST_IMAGE, PIECE):
        for place, data in readable(memory, piece, PIECE + TAIL):
            for run in digit_runs(data):
                try:
                    table = token_table(memory, HostPhys(place + run))
                    found = search_back(memory, table, located.info.symbols["_stext"])
                except (NotKallsyms, MemoryUnreadable):
                    continue
                return found[0], found[1]
    raise NoKernel(
        f"Linux {located.info.release} is there, but no symbol table (kallsyms) in its image",
        "Was it built with CONFIG_KALLSYMS=n?  Then load its vmlinux with debug information.",
    )
