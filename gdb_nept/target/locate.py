# SPDX-License-Identifier: GPL-2.0-or-later
"""Find the Linux kernel in physical memory, knowing nothing of it.

Memory is read once, in pieces, until a vmcoreinfo or kallsyms' token table proves itself: its
page tables must lead from `_stext` to where it says that the image is, and `init_uts_ns` there must
hold its release.  A guest's kernel, or a stale one of before a kexec, fails that.
The pieces that the page tables of a given CR3 map as kernel image come first; so with KASLR, too,
a few MiB are enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Callable, Union

from gdb_nept.address import HostPhys, KernelVirt
from gdb_nept.errors import MemoryUnreadable, NoKernel
from gdb_nept.memory.budget import Progress
from gdb_nept.memory.reader import PAGE_SIZE, PhysicalMemory
from gdb_nept.target import kallsyms_search, vmcoreinfo
from gdb_nept.target.image import (
    UTS_SIZE,
    image_physical,
    info_from_symbols,
    page_tables,
    read_vmcoreinfo,
    replace_base,
)
from gdb_nept.target.kallsyms import NotKallsyms, Rule, SymbolTable, Tables
from gdb_nept.target.pagetable import PageTables
from gdb_nept.target.scan import (
    GUESSED_END,
    LARGEST_IMAGE,
    each_once,
    readable,
    search_order,
)
from gdb_nept.target.vmcoreinfo import KERNEL_MAP, TEXT_ALIGN, Vmcoreinfo

Ranges = Union[Sequence[range], Callable[[], Sequence[range]]]  # asked for when first needed
PIECE = 1 << 20
TAIL = 64  # bytes of the piece before that are looked at again
WIDEST_HOLE = 2 << 30  # then RAM ends where nothing was readable for so long
MOST_TEXTS = 4096  # vmcoreinfos looked at, of which a guest's memory may hold any number
MOST_REFUSALS = 1 << 14  # a machine whose RAM is not known has some 6,000 at its end
MOST_BLIND = 4 << 30  # bytes searched over a slow link where the size of RAM is not known
MOST_TABLES = 32  # token tables before which names were sought
MOST_NAMES = 1 << 23  # looked at before all of them
MOST_BASES = 1 << 16  # places of the image tried for a kernel that does not tell its own (4.9)
MOST_DOUBTS = 4  # told


@dataclass(frozen=True)
class Blind:
    """What a search without vmcoreinfo decoded."""

    symbols: SymbolTable
    tables: Tables
    rule: Rule


@dataclass(frozen=True)
class Located:
    """A proven kernel.  `how` tells the user how it was found."""

    info: Vmcoreinfo
    phys_base: int
    page_tables: PageTables
    how: str
    blind: Blind | None = None


class Search:
    """One search of `memory`; `ranges` are the physical ranges that are RAM, if known."""

    def __init__(
        self,
        memory: PhysicalMemory[HostPhys],
        ranges: Ranges,
        cr3s: Sequence[int] = (),
        progress: Progress | None = None,
        far: bool = False,
    ) -> None:
        """`far`: over a link where each read takes its time, and each refusal too."""
        self.memory = memory
        self._refused = 0
        self._far = far
        self._ranges = ranges
        self.cr3s = cr3s
        self.progress = progress
        self.doubts: list[str] = []  # what was found, but did not prove itself
        self._texts, self._tables, self._bases = MOST_TEXTS, MOST_TABLES, MOST_BASES
        self._names = MOST_NAMES

    @cached_property
    def ranges(self) -> Sequence[range]:
        return self._ranges() if callable(self._ranges) else self._ranges

    def find(self) -> Located:
        """Raises NoKernel."""
        for start, data in self._pieces():
            found = self._vmcoreinfo_in(start, data) or self._kallsyms_in(start, data)
            if found:
                return found
        told = "; ".join(self.doubts)
        raise NoKernel(
            "no Linux kernel in the target's physical memory" + (f" ({told})" if told else ""),
            "If the machine is still in its firmware or boot loader, let it boot first.  A dump "
            "must be of physical memory, whole, of an x86-64 Linux host.",
        )

    def read(self, address: HostPhys, size: int) -> bytes:
        """Memory that is searched.  Raises MemoryUnreadable, and NoKernel where it is not worth
        while any more."""
        try:
            return self.memory.read(address, size)
        except MemoryUnreadable:
            self._refused += 1
            if self._far and self._refused > MOST_REFUSALS:
                raise NoKernel(
                    "no Linux kernel was found before the target had refused "
                    f"{MOST_REFUSALS} reads of its physical memory",
                    "Is it a stub that answers memory packets with errors?",
                ) from None
            raise

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        ranges = list(each_once(search_order(self.memory, self.ranges, self.cr3s)))
        total, done, hole = sum(map(len, ranges)), 0, 0
        for each in ranges:
            tail = b""
            for start in range(each.start, each.stop, PIECE):
                size = min(PIECE, each.stop - start)
                read = False
                for place, data in readable(self, start, size):
                    if place != start or not tail:
                        tail = b""
                    yield place - len(tail), tail + data
                    tail, read = data[-TAIL:], True
                done, hole = done + size, 0 if read else hole + size
                if self.progress:
                    self.progress("searching for the kernel", done, total)
                if not self.ranges and hole > WIDEST_HOLE:
                    return
                if self._far and not self.ranges and done >= MOST_BLIND:
                    raise NoKernel(
                        f"no Linux kernel in {done >> 30} GiB of the target's physical memory, and "
                        "nothing tells where that ends",
                        "Stop a CPU in the host's kernel, whose page tables lead to it, and ask "
                        "again; or let a monitor tell (QEMU's or Bochs'), or use a dump.",
                    )

    def _vmcoreinfo_in(self, start: int, data: bytes) -> Located | None:
        skew = start % PAGE_SIZE  # a tail shifts the pages
        for place in vmcoreinfo.starts(data, skew):
            self._texts -= 1
            if self._texts < 0:
                self._give_up("more texts that begin like vmcoreinfo than any kernel writes")
                return None
            found = self.vmcoreinfo_at(HostPhys(start + place))
            if found:
                return found
        return None

    def vmcoreinfo_at(self, place: HostPhys) -> Located | None:
        info = read_vmcoreinfo(self.memory, place)
        if info is None:
            self._doubt(f"a damaged vmcoreinfo at {place:#x}")
            return None
        return self.prove(info, f"vmcoreinfo at {place:#x}")

    def prove(self, info: Vmcoreinfo, how: str, blind: Blind | None = None) -> Located | None:
        """The kernel that `info` tells of, if this memory is really its own."""
        for phys_base in self._phys_bases(info):
            tables = page_tables(self.memory, info, phys_base)
            stext = info.symbols["_stext"]
            if tables.walk(stext).physical != image_physical(stext, phys_base):
                continue
            if self._release_fits(info, phys_base):
                return Located(info, phys_base, tables, how, blind)
        self._doubt(f"{how} tells of Linux {info.release}, but this memory is not its own")
        return None

    def _doubt(self, words: str) -> None:
        if len(self.doubts) < MOST_DOUBTS and words not in self.doubts:
            self.doubts.append(words)

    def _give_up(self, words: str) -> None:
        if words not in self.doubts:
            self.doubts.insert(0, words)

    def _phys_bases(self, info: Vmcoreinfo) -> Iterator[int]:
        if info.phys_base is not None:
            yield info.phys_base
        elif "phys_base" in info.symbols:  # 4.9
            image = info.symbols["_stext"] & ~(TEXT_ALIGN - 1)
            ends = [each.stop for each in self.ranges] or [GUESSED_END]
            loads = range(0, min(max(ends), 64 << 30), TEXT_ALIGN)
            candidates = (load - (image - KERNEL_MAP) for load in loads)
            yield from self._confirmed(info.symbols["phys_base"], candidates)

    def _confirmed(self, variable: int, candidates: Iterator[int]) -> Iterator[int]:
        """The values of phys_base that the variable of that name confirms."""
        for each in candidates:
            self._bases -= 1
            if self._bases < 0:
                return
            try:
                data = self.memory.read(image_physical(variable, each), 8)
            except MemoryUnreadable:
                continue
            if int.from_bytes(data, "little", signed=True) == each:
                yield each

    def _release_fits(self, info: Vmcoreinfo, phys_base: int) -> bool:
        place = info.symbols.get("init_uts_ns")
        if place is None:
            return False
        try:
            data = self.memory.read(image_physical(place, phys_base), UTS_SIZE)
        except MemoryUnreadable:
            return False
        return info.release.encode() + b"\0" in data

    def _kallsyms_in(self, start: int, data: bytes) -> Located | None:
        for place in kallsyms_search.digit_runs(data):
            try:
                table = kallsyms_search.token_table(self.memory, HostPhys(start + place))
                self._tables -= 1
                if self._tables < 0 or self._names < 0:
                    self._give_up("more tables that look like kallsyms' than any kernel has")
                    return None
                found = kallsyms_search.search_back(self.memory, table, None)
            except NotKallsyms as error:
                self._names -= error.names
                continue
            except MemoryUnreadable:
                continue
            located = self._from_symbols(Blind(*found))
            if located:
                return located
        return None

    def _from_symbols(self, blind: Blind) -> Located | None:
        """With the symbols, vmcoreinfo's page is one pointer away; else they stand in for it."""
        variable = blind.symbols.address("phys_base")
        if variable is None:
            return None
        for phys_base in self._confirmed(variable, _bases_around(blind)):
            how = f"kallsyms' tables at {blind.tables.names:#x}"
            info = self._pointed_vmcoreinfo(blind.symbols, phys_base)
            info = info or info_from_symbols(self.memory, blind.symbols, phys_base)
            if info:
                return self.prove(replace_base(info, phys_base), how, blind)
        return None

    def follow(self, symbols: SymbolTable, phys_base: int) -> Located | None:
        """The kernel of which `symbols` has the few variables that lead to its vmcoreinfo."""
        variable = symbols.address("phys_base") or KernelVirt(0)
        if phys_base not in self._confirmed(variable, iter((phys_base,))):
            return None
        info = self._pointed_vmcoreinfo(symbols, phys_base)
        return self.prove(info, "its build ID, which the cache knows") if info else None

    def _pointed_vmcoreinfo(self, symbols: SymbolTable, phys_base: int) -> Vmcoreinfo | None:
        pointer = symbols.address("vmcoreinfo_data")
        base = symbols.address("page_offset_base")
        if pointer is None or base is None:
            return None
        try:
            page = _u64(self.memory, image_physical(pointer, phys_base))
            page -= _u64(self.memory, image_physical(base, phys_base))
        except MemoryUnreadable:
            return None
        return read_vmcoreinfo(self.memory, HostPhys(page)) if page > 0 else None


def _bases_around(blind: Blind) -> Iterator[int]:
    """phys_base, as far as it can be, with the token table inside .rodata."""
    start = blind.symbols.address("__start_rodata") or blind.symbols.address("_stext") or KERNEL_MAP
    end = blind.symbols.address("__end_rodata") or start + LARGEST_IMAGE
    physical = blind.tables.tokens
    high = physical - (start - KERNEL_MAP) + TEXT_ALIGN
    low = physical - (end - KERNEL_MAP) - TEXT_ALIGN
    return iter(range(low & ~(TEXT_ALIGN - 1), high, TEXT_ALIGN))


def _u64(memory: PhysicalMemory[HostPhys], place: HostPhys) -> int:
    return int.from_bytes(memory.read(place, 8), "little")
