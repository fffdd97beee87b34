# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers that decide how a guest translates linear addresses, and an access to one.

SDM vol. 3, June 2026 (325384-092): 2.2.1 IA32_EFER, 2.5 control registers, 5.1.1 paging modes,
5.6.2 protection keys, 5.7 the error code of a page fault.  (2016 edition: chapter 4, not 5.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from gdb_nept.address import L2Phys, L2Virt
from gdb_nept.arch.bits import Word, bit
from gdb_nept.arch.paging import (
    PAGING_4,
    PAGING_5,
    PAGING_32,
    PAGING_PAE,
    Cr3,
    Entry,
    Entry32,
    Mode,
)

AnyEntry = Union[Entry, Entry32]
ALIGNMENT_CHECK = 1 << 18  # RFLAGS.AC
PAE_ROOT = ~0x1F  # CR3 bits 31:5 with PAE paging


class Cr0(Word):
    """CR0, as far as paging depends on it (2.5)."""

    title = "CR0"

    protection = bit(0, "protection enable", "PE")
    write_protect = bit(16, "supervisor writes need R/W too", "WP")
    paging = bit(31, "paging", "PG")


class Cr4(Word):
    """CR4, as far as paging depends on it (2.5)."""

    title = "CR4"

    page_size_extensions = bit(4, "4-MByte pages with 32-bit paging", "PSE")
    physical_address_extension = bit(5, "64-bit entries", "PAE")
    la57 = bit(12, "57-bit linear addresses", "LA57")
    pcids = bit(17, "process-context identifiers in CR3 bits 11:0", "PCIDE")
    smep = bit(20, "no supervisor fetches from user pages", "SMEP")
    smap = bit(21, "no supervisor data accesses to user pages", "SMAP")
    user_keys = bit(22, "protection keys for user pages", "PKE")
    cet = bit(23, "control-flow enforcement: shadow stacks", "CET")
    supervisor_keys = bit(24, "protection keys for supervisor pages", "PKS")
    lass = bit(27, "linear-address-space separation by bit 63", "LASS")
    lam_supervisor = bit(28, "linear-address masking of supervisor pointers", "LAM_SUP")


class Efer(Word):
    """IA32_EFER (2.2.1)."""

    title = "IA32_EFER"

    long_mode = bit(8, "IA-32e mode enable", "LME")
    long_mode_active = bit(10, "IA-32e mode active", "LMA")
    no_execute = bit(11, "execute-disable bit enable", "NXE")


class PageFault(Word):
    """The error code of a page fault (5.7)."""

    title = "page-fault error code"

    present = bit(0, "a protection violation; clear: an entry is not present", "P")
    write = bit(1, "the access was a write", "W")
    user = bit(2, "the access was a user-mode access", "U")
    reserved = bit(3, "a reserved bit is set in an entry", "RSVD")
    fetch = bit(4, "the access was an instruction fetch", "I/D")
    protection_key = bit(5, "protection key", "PK")
    shadow_stack = bit(6, "shadow-stack access", "SS")


@dataclass(frozen=True)
class GuestPaging:
    """The registers that decide how L2 translates linear addresses.

    `pdptrs` are the PDPTE registers, which PAE paging uses instead of the entries in memory.
    `ac` is RFLAGS.AC, which lifts SMAP.  `pkru` and `pkrs` are None where they are not known.
    `pages_1g`: CPUID tells of 1-GByte pages; without them bit 7 of a PDPTE is reserved.
    `keys_by_access`: a processor, not the SDM's, that asks the mode of the access which protection
    keys count, where 5.6.2 asks the page's U/S.
    """

    cr0: Cr0
    cr3: int
    cr4: Cr4
    efer: Efer
    maxphyaddr: int
    pdptrs: tuple[int, ...] = ()
    ac: bool = False
    pkru: int | None = None
    pkrs: int | None = None
    pages_1g: bool = True
    keys_by_access: bool = False

    @property
    def mode(self) -> Mode | None:
        """The paging mode (5.1.1); None if paging is off."""
        if not self.cr0.paging:
            return None
        if not self.cr4.physical_address_extension:
            return PAGING_32
        if not self.efer.long_mode_active:
            return PAGING_PAE
        return PAGING_5 if self.cr4.la57 else PAGING_4

    @property
    def root(self) -> L2Phys:
        if self.mode is PAGING_32:
            return L2Phys(Entry32(self.cr3).address)
        if self.mode is PAGING_PAE:
            return L2Phys(self.cr3 & PAE_ROOT & 0xFFFFFFFF)
        return L2Phys(Cr3(self.cr3).address)

    @property
    def execute_disable(self) -> bool:
        """Whether bit 63 of an entry means anything (5.6.1): 32-bit entries have none."""
        return bool(self.efer.no_execute and self.cr4.physical_address_extension)


@dataclass(frozen=True)
class Reference:
    """An access to L2's memory that the processor makes on its way."""

    linear: L2Virt
    write: bool
    fetch: bool = False
    user: bool = False  # CPL 3; WRUSS too
    implicit: bool = False  # to a system structure (GDT, LDT, IDT, TSS): a supervisor's at any CPL
    shadow_stack: bool = False

    @property
    def user_mode(self) -> bool:
        """Whether it is a user-mode access (5.6)."""
        return self.user and not self.implicit


@dataclass(frozen=True)
class GuestStep:
    """One entry used.  `gpa` is None for a PDPTE register."""

    level: int
    gpa: L2Phys | None
    entry: AnyEntry
    leaf: bool
    index: int = 0
