# SPDX-License-Identifier: GPL-2.0-or-later
"""EPTP and the entries of the EPT paging structures.

SDM vol. 3, June 2026 (325384-092), chapter 31.3: "The Extended Page-Table Mechanism"; the EPTP in
27.6.11.  (2016 edition: 28.2 and 24.6.11.)  Pure functions of integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache, cached_property

from gdb_nept.arch.bits import Word, bit, bits
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.errors import BadArgument

INDEX_BITS = 9
PAGE_SHIFT = 12
ENTRIES = 1 << INDEX_BITS
ENTRY_SIZE = 8
WIDEST = 52  # bits of the widest physical address
WALK_LENGTHS = (4, 5)  # levels that an EPT can have

LARGEST_LEAF = 3  # the highest level whose entries can map a page
LEVEL_NAMES = {5: "PML5E", 4: "PML4E", 3: "PDPTE", 2: "PDE", 1: "PTE"}

UC, WC, WT, WP, WB = 0, 1, 4, 5, 6
MEMORY_TYPES = {UC: "UC", WC: "WC", WT: "WT", WP: "WP", WB: "WB"}


def check_physical(address: int) -> None:
    """Raises BadArgument for a number that no physical address can be."""
    if address >> WIDEST:
        advice = f"They have {WIDEST} bits at most."
        raise BadArgument(f"{address:#x} is no physical address", advice)


class Eptp(Word):
    """Extended-page-table pointer, VMCS field 201AH (27.6.11)."""

    title = "EPTP"
    zero_says = ("memory_type",)

    memory_type = bits(2, 0, "memory type of the EPT structures: 0 UC, 6 WB", "type")
    walk_length = bits(5, 3, "page-walk length minus 1", "PWL-1")
    accessed_dirty = bit(6, "enable accessed and dirty flags", "AD")
    shadow_stack = bit(7, "enforce rights of supervisor shadow-stack pages", "SSS")
    address = bits(51, 12, "physical address of the top table", shift=PAGE_SHIFT)

    @cached_property
    def levels(self) -> int:
        return self.walk_length + 1

    @cached_property
    def reach(self) -> int:
        """The first guest-physical address that it cannot translate."""
        return 1 << min(PAGE_SHIFT + INDEX_BITS * self.levels, WIDEST)

    def problem(self, cpu: Capabilities, rule: EptpRule | None = None) -> str:
        """Why VM entry would refuse this EPTP, or ''; without a `rule`, by the SDM's (29.2.1.1)."""
        rule = rule or SDM_EPTP
        cap = rule.capabilities(cpu.ept_vpid_cap)
        for refused in (
            self._bad_memory_type(cap),
            self._bad_walk_length(cap),
            self._reserved(cap, rule, cpu.maxphyaddr),
        ):
            if refused:
                return refused + (f" ({rule.source})" if rule.source else "")
        return ""

    def refusal(self, cpu: Capabilities, rule: EptpRule | None = None) -> str:
        """The same with the EPTP's name, among what else VM entry refuses."""
        problem = self.problem(cpu, rule)
        return f"the EPTP {self.value:#x}: {problem}" if problem else ""

    def _bad_memory_type(self, cap: EptVpidCap) -> str:
        if self.memory_type not in (UC, WB):
            return f"memory type {self.memory_type} is neither UC (0) nor WB (6)"
        supported = cap.memory_type_uc if self.memory_type == UC else cap.memory_type_wb
        return "" if supported else f"memory type {MEMORY_TYPES[self.memory_type]} is not supported"

    def _bad_walk_length(self, cap: EptVpidCap) -> str:
        if self.levels not in WALK_LENGTHS:
            return f"page-walk length {self.levels} is neither 4 nor 5"
        supported = cap.walk_length_4 if self.levels == 4 else cap.walk_length_5
        return "" if supported else f"page-walk length {self.levels} is not supported"

    def _reserved(self, cap: EptVpidCap, rule: EptpRule, maxphyaddr: int) -> str:
        if reserved := self.value & rule.reserved:
            return f"bits 11:{rule.reserved_from} are reserved, and set: {reserved:#x}"
        if self.accessed_dirty and not cap.accessed_dirty:
            return "accessed and dirty flags are not supported"
        if self.shadow_stack and not cap.shadow_stack:
            return "bit 7 is reserved: supervisor shadow-stack control is not supported"
        beyond = self.value >> maxphyaddr << maxphyaddr
        return f"bits beyond MAXPHYADDR ({maxphyaddr}) are set: {beyond:#x}" if beyond else ""


@dataclass(frozen=True)
class EptpRule:
    """How strictly one that enters a guest checks its EPTP.

    Bits 11:`reserved_from` must be 0 whatever the processor can do.  Of IA32_VMX_EPT_VPID_CAP it
    never offers what is in `withheld`, and it does not ask for what is in `unasked`.
    """

    reserved_from: int
    withheld: int = 0
    unasked: int = 0
    source: str = ""  # where its check is, if not in the SDM

    @property
    def reserved(self) -> int:
        return (1 << PAGE_SHIFT) - (1 << self.reserved_from)

    def capabilities(self, cap: EptVpidCap) -> EptVpidCap:
        return EptVpidCap((cap.value & ~self.withheld) | self.unasked)


#: 29.2.1.1; bit 7 is reserved only if supervisor shadow-stack control is not supported.
SDM_EPTP = EptpRule(reserved_from=8)


class EptEntry(Word):
    """An entry of any EPT paging structure (tables 31-1 to 31-6).

    A field means what is said here where its level has it: `EptEntry.leaf_at` and `misconfigured`
    know which.
    """

    title = "EPT entry"

    read = bit(0, "read access", "R")
    write = bit(1, "write access", "W")
    execute = bit(2, "execute access (supervisor-mode linear addresses, if MBEC)", "X")
    memory_type = bits(5, 3, "EPT memory type, of a leaf", "type")
    ignore_pat = bit(6, "ignore PAT memory type, of a leaf", "IPAT")
    large = bit(7, "maps a page, in a PDPTE or PDE", "large")
    accessed = bit(8, "accessed, if EPTP bit 6", "A")
    dirty = bit(9, "dirty, of a leaf, if EPTP bit 6", "D")
    user_execute = bit(10, "execute access, user-mode linear addresses, if MBEC", "XU")
    address = bits(51, 12, "physical address of the next table or of the page", shift=PAGE_SHIFT)
    verify_guest_paging = bit(57, "verify guest paging, of a leaf, if that control", "VGP")
    paging_write = bit(58, "paging-write access, of a leaf, if that control", "PW")
    supervisor_shadow_stack = bit(60, "supervisor shadow stack, of a leaf, if EPTP bit 7", "SSS")
    sub_page_write = bit(61, "sub-page write permissions, of a PTE, if that control", "SPP")
    suppress_ve = bit(63, "suppress #VE", "SVE")

    _rights = read.mask | write.mask | execute.mask
    _rights_mbec = _rights | user_execute.mask
    _large = large.mask

    def leaf_at(self, level: int) -> bool:
        """Whether it maps a page when found at `level` (1 is the PTE)."""
        return level == 1 or (level <= LARGEST_LEAF and self.value & self._large != 0)

    def page(self, level: int) -> int:
        """The physical address of the page that this leaf at `level` maps."""
        return self.address & ~(page_size(level) - 1)

    def present(self, mbec: bool = False) -> bool:
        """31.3.2: an entry is present if any of its rights is."""
        return bool(self.value & (self._rights_mbec if mbec else self._rights))


ADDRESS = EptEntry.address.mask
READ, WRITE = EptEntry.read.mask, EptEntry.write.mask
RIGHTS = READ | WRITE | EptEntry.execute.mask


class Misconfiguration(Enum):
    """The conditions of 31.3.3.1, in its order."""

    WRITE_WITHOUT_READ = "W is set without R"
    EXECUTE_WITHOUT_READ = "X is set without R, and execute-only is not supported"
    RESERVED_BIT = "a reserved bit is set"
    MEMORY_TYPE = "the memory type is reserved"
    PAGING_WRITE_WITHOUT_READ = "paging-write is set without R"


def page_size(level: int) -> int:
    """Bytes that one entry of `level` covers: 4096 for a PTE."""
    return 1 << (PAGE_SHIFT + INDEX_BITS * (level - 1))


def index(address: int, level: int) -> int:
    """Which entry of its table at `level` translates `address`."""
    return (address >> (PAGE_SHIFT + INDEX_BITS * (level - 1))) & (ENTRIES - 1)


def reserved_above(maxphyaddr: int) -> int:
    """Bits 51:MAXPHYADDR."""
    return ((1 << WIDEST) - 1) & ~((1 << maxphyaddr) - 1)


#: Bits that mean something in a leaf and are reserved in an entry that references a table.
OF_LEAVES = EptEntry.memory_type.mask | EptEntry.ignore_pat.mask | EptEntry.large.mask


def reserved_bits(entry: EptEntry, level: int, cpu: Capabilities) -> int:
    """The mask of the bits that must be 0 in this present entry at `level`."""
    maps = entry.leaf_at(level) and large_page_supported(level, cpu)
    return _reserved(level, maps, cpu.maxphyaddr)


@cache  # a few dozen masks at most
def _reserved(level: int, maps: bool, maxphyaddr: int) -> int:
    """Of an entry that maps a page, or references a table."""
    reserved = reserved_above(maxphyaddr)
    if maps:
        return reserved | ((page_size(level) - 1) >> PAGE_SHIFT << PAGE_SHIFT)
    return reserved | OF_LEAVES


def large_page_supported(level: int, cpu: Capabilities) -> bool:
    if level == 1:
        return True
    cap = cpu.ept_vpid_cap
    return bool(cap.page_2m if level == 2 else cap.page_1g if level == LARGEST_LEAF else 0)


def misconfigured(
    entry: EptEntry, level: int, cpu: Capabilities
) -> tuple[Misconfiguration, int] | None:
    """Why this present entry is an EPT misconfiguration, and the bits at fault; or None."""
    value = entry.value
    if not value & READ:
        if value & WRITE:
            return Misconfiguration.WRITE_WITHOUT_READ, WRITE
        executes = EptEntry.execute.mask | (EptEntry.user_execute.mask if cpu.mbec else 0)
        executes &= value
        if executes and not cpu.ept_vpid_cap.execute_only:
            return Misconfiguration.EXECUTE_WITHOUT_READ, executes
    leaf = entry.leaf_at(level)
    maps = leaf and large_page_supported(level, cpu)
    if reserved := value & _reserved(level, maps, cpu.maxphyaddr):
        return Misconfiguration.RESERVED_BIT, reserved
    if not leaf:
        return None
    if entry.memory_type not in MEMORY_TYPES:
        return Misconfiguration.MEMORY_TYPE, EptEntry.memory_type.mask
    if cpu.paging_write and entry.paging_write and not value & READ:
        return Misconfiguration.PAGING_WRITE_WITHOUT_READ, EptEntry.paging_write.mask
    return None
