# SPDX-License-Identifier: GPL-2.0-or-later
"""CR3 and the entries of the processor's own paging structures.

SDM vol. 3, June 2026 (325384-092), chapter 5 "Paging": 4-level and 5-level paging in 5.5, PAE in
5.4, 32-bit in 5.3.  (2016 edition: chapter 4, with 4.5, 4.4 and 4.3.)  Pure functions of integers.
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.arch.bits import Word, bit, bits
from gdb_nept.arch.ept import PAGE_SHIFT


class Cr3(Word):
    """CR3 with 4-level or 5-level paging (tables 5-12 and 5-13)."""

    title = "CR3"

    write_through = bit(3, "page-level write-through of the top table, if not PCIDs", "PWT")
    cache_disable = bit(4, "page-level cache disable of the top table, if not PCIDs", "PCD")
    address = bits(51, 12, "physical address of the top table", shift=PAGE_SHIFT)
    lam_u57 = bit(61, "linear-address masking of user pointers, 57 bits", "LAM57")
    lam_u48 = bit(62, "linear-address masking of user pointers, 48 bits", "LAM48")
    keep_tlb = bit(63, "of MOV to CR3 only: keep the TLB's entries, if PCIDs", "noflush")


class PagingFlags(Word):
    """The low bits that an entry has in every paging mode (5.3 to 5.5).

    A field means what is said here where its level has it: `Entry.leaf_at` knows.
    """

    present = bit(0, "present", "P")
    write = bit(1, "write access", "W")
    user = bit(2, "user-mode access", "U")
    write_through = bit(3, "page-level write-through", "PWT")
    cache_disable = bit(4, "page-level cache disable", "PCD")
    accessed = bit(5, "accessed", "A")
    dirty = bit(6, "dirty, of a leaf", "D")
    global_ = bit(8, "global, of a leaf", "G")


class Entry(PagingFlags):
    """A 64-bit entry of any paging structure (5-, 4-level and PAE; tables 5-14 to 5-20)."""

    title = "paging-structure entry"

    large = bit(7, "maps a page, in a PDPTE or PDE (PAT, in a PTE)", "PS")
    address = bits(51, 12, "physical address of the next table or of the page", shift=PAGE_SHIFT)
    protection_key = bits(62, 59, "protection key, of a leaf", "PK")
    execute_disable = bit(63, "execute disable", "XD")

    def leaf_at(self, level: int) -> bool:
        """Whether it maps a page when found at `level` (1 is the PTE)."""
        return level == 1 or (level in (2, 3) and bool(self.large))


class Entry32(PagingFlags):
    """A 32-bit entry of 32-bit paging (tables 5-4 to 5-6)."""

    title = "32-bit paging-structure entry"

    large = bit(7, "maps a 4-MByte page, in a PDE if CR4.PSE (PAT, in a PTE)", "PS")
    address = bits(31, 12, "physical address of the next table or of the page", shift=PAGE_SHIFT)


@dataclass(frozen=True)
class Mode:
    """How one paging mode divides a linear address: data for a loop over levels."""

    name: str
    levels: int
    entry_size: int
    index_bits: int  # of each level, but the top one of PAE
    top_index_bits: int

    def page_size(self, level: int) -> int:
        """Bytes that one entry of `level` covers."""
        return 1 << (PAGE_SHIFT + self.index_bits * (level - 1))

    def index(self, address: int, level: int) -> int:
        """Which entry of its table at `level` translates `address`."""
        width = self.top_index_bits if level == self.levels else self.index_bits
        return address >> (PAGE_SHIFT + self.index_bits * (level - 1)) & ((1 << width) - 1)

    def canonical(self, address: int) -> bool:
        """Whether the bits above the linear address repeat its top bit (vol. 1, 3.3.7.1)."""
        width = PAGE_SHIFT + self.index_bits * (self.levels - 1) + self.top_index_bits
        if self.levels < 4:
            return address >> 32 == 0
        return address >> (width - 1) in (0, (1 << (65 - width)) - 1)


PAGING_32 = Mode("32-bit", 2, 4, 10, 10)
PAGING_PAE = Mode("PAE", 3, 8, 9, 2)
PAGING_4 = Mode("4-level", 4, 8, 9, 9)
PAGING_5 = Mode("5-level", 5, 8, 9, 9)
