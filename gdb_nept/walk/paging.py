# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of L2's own page tables, which does not read memory itself.

SDM vol. 3, June 2026 (325384-092), chapter 5: 5.3 32-bit, 5.4 PAE, 5.5 4- and 5-level paging, 5.6
access rights, 5.7 page faults, 5.8 accessed and dirty flags.

Each entry lies at an L2 physical address, so each read of one may itself leave through EPT.
`walk_linear` is therefore a generator: it yields the accesses it has to make, is sent the entries,
and returns what it found.  Who drives it sends each access through EPT12: to read memory
(nested/linear.py), or to predict an exit (predict/linear.py).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Union

from gdb_nept.address import L2Phys, L2Virt
from gdb_nept.arch.bits import Word, bit
from gdb_nept.arch.ept import reserved_above
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
PAE_ROOT = ~0x1F  # CR3 bits 31:5 with PAE paging
PSE_PAGE = 1 << 22


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
    smep = bit(20, "no supervisor fetches from user pages", "SMEP")
    smap = bit(21, "no supervisor data accesses to user pages", "SMAP")
    user_keys = bit(22, "protection keys for user pages", "PKE")
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
    `ac` is RFLAGS.AC, which lifts SMAP.
    """

    cr0: Cr0
    cr3: int
    cr4: Cr4
    efer: Efer
    maxphyaddr: int
    pdptrs: tuple[int, ...] = ()
    ac: bool = False

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


@dataclass(frozen=True)
class Reference:
    """An access to L2's memory that the processor makes on its way."""

    linear: L2Virt
    write: bool
    fetch: bool = False
    user: bool = False  # CPL 3


@dataclass(frozen=True)
class TableAccess:
    """An entry of L2's that must be read, or (`update`) have its accessed or dirty flag set."""

    level: int
    gpa: L2Phys
    size: int
    update: bool = False


@dataclass(frozen=True)
class GuestStep:
    """One entry used.  `gpa` is None for a PDPTE register."""

    level: int
    gpa: L2Phys | None
    entry: AnyEntry
    leaf: bool


@dataclass(frozen=True)
class Fault:
    """L2's own page fault: no exit to anybody because of EPT."""

    code: PageFault
    why: str


@dataclass(frozen=True)
class LinearWalk:
    """How `linear` translates.  `gpa` is None if `fault` is set.

    `user`, `writable` and `execute_disable` are what L2's entries say together.
    """

    linear: L2Virt
    steps: tuple[GuestStep, ...]
    gpa: L2Phys | None
    page_size: int
    user: bool
    writable: bool
    execute_disable: bool
    fault: Fault | None = None


Walker = Generator[TableAccess, int, LinearWalk]


def walk_linear(paging: GuestPaging, reference: Reference) -> Walker:
    """Translate a linear address: yields each access to an entry, expects the entry's value (for
    an update: anything), and returns the LinearWalk."""
    mode = paging.mode
    if mode is None:  # 5.1.1: no paging; EPT's advanced information then says user, R/W, no XD
        return LinearWalk(reference.linear, (), L2Phys(reference.linear), 4096, True, True, False)
    steps: list[GuestStep] = []
    table = paging.root
    level = mode.levels
    while True:
        step = yield from _read(paging, mode, reference, table, level)
        steps.append(step)
        why, reserved = _unusable(step, paging, mode)
        if why:
            return _end(paging, reference, steps, mode, _fault(paging, reference, why, reserved))
        if step.leaf:
            break
        table = L2Phys(step.entry.address)
        level -= 1
    refused = _refused(steps, paging, reference)
    if refused:
        fault = _fault(paging, reference, refused, present=True)
        return _end(paging, reference, steps, mode, fault)
    yield from _updates(steps, mode, reference)
    return _end(paging, reference, steps, mode, None)


def _read(
    paging: GuestPaging, mode: Mode, reference: Reference, table: L2Phys, level: int
) -> Generator[TableAccess, int, GuestStep]:
    index = mode.index(reference.linear, level)
    if mode is PAGING_PAE and level == mode.levels and paging.pdptrs:
        return GuestStep(level, None, Entry(paging.pdptrs[index]), False)
    gpa = L2Phys(table + index * mode.entry_size)
    value = yield TableAccess(level, gpa, mode.entry_size)
    if mode is PAGING_32:
        small = Entry32(value & 0xFFFFFFFF)
        large = level == 2 and bool(small.large and paging.cr4.page_size_extensions)
        return GuestStep(level, gpa, small, level == 1 or large)
    entry = Entry(value)
    if _is_pae_top(mode, level):
        return GuestStep(level, None, entry, False)
    return GuestStep(level, gpa, entry, entry.leaf_at(level))


def _is_pae_top(mode: Mode, level: int) -> bool:
    return mode is PAGING_PAE and level == mode.levels


def _unusable(step: GuestStep, paging: GuestPaging, mode: Mode) -> tuple[str, bool]:
    """Why this entry ends the walk, and whether it is for a reserved bit (5.7)."""
    name = f"L2's level-{step.level} entry {step.entry.value:#x}"
    if not step.entry.present:
        return f"{name} is not present", False
    reserved = step.entry.value & _reserved(step, paging, mode)
    return (f"{name} has reserved bits set ({reserved:#x})", True) if reserved else ("", False)


def _reserved(step: GuestStep, paging: GuestPaging, mode: Mode) -> int:
    """The bits that must be 0 in this present entry."""
    if mode is PAGING_32:
        return 1 << 21 if step.leaf and step.level == 2 else 0  # PSE-36 uses 20:13
    reserved = reserved_above(paging.maxphyaddr)
    if not paging.efer.no_execute:
        reserved |= Entry.execute_disable.mask
    if mode is PAGING_PAE:
        reserved |= 0x7FF << 52
        if _is_pae_top(mode, step.level):
            return reserved | Entry.execute_disable.mask | 0x1E6
    if step.level >= 4:
        reserved |= Entry.large.mask
    if step.leaf and step.level > 1:
        reserved |= (mode.page_size(step.level) - 1) & ~0x1FFF  # bit 12 is PAT
    return reserved


def _combined(steps: list[GuestStep]) -> tuple[bool, bool, bool]:
    """User, writable and execute-disable of all entries together; PDPTE registers have no say."""
    rights = [step.entry for step in steps if step.gpa is not None]
    user = all(entry.user for entry in rights)
    writable = all(entry.write for entry in rights)
    disabled = any(entry.execute_disable for entry in rights if isinstance(entry, Entry))
    return user, writable, disabled


def _refused(steps: list[GuestStep], paging: GuestPaging, reference: Reference) -> str:
    """Why 5.6 refuses the access, or ''.  Protection keys are not looked at."""
    user, writable, disabled = _combined(steps)
    if reference.user and not user:
        return "a user-mode access to a supervisor page"
    if reference.write and not writable and (reference.user or paging.cr0.write_protect):
        return "a write to a page that L2 maps read-only"
    if reference.fetch:
        if disabled and paging.efer.no_execute:
            return "a fetch from a page that L2 maps execute-disable"
        if user and not reference.user and paging.cr4.smep:
            return "a supervisor fetch from a user page (SMEP)"
    elif user and not reference.user and paging.cr4.smap and not paging.ac:
        return "a supervisor access to a user page (SMAP)"
    return ""


def _updates(
    steps: list[GuestStep], mode: Mode, reference: Reference
) -> Generator[TableAccess, int, None]:
    """The flags that must be set first (5.8), top level first."""
    for step in steps:
        if step.gpa is None:
            continue
        dirties = step.leaf and reference.write and not step.entry.dirty
        if dirties or not step.entry.accessed:
            yield TableAccess(step.level, step.gpa, mode.entry_size, update=True)


def _fault(
    paging: GuestPaging,
    reference: Reference,
    why: str,
    reserved: bool = False,
    present: bool = False,
) -> Fault:
    tells_fetch = paging.efer.no_execute or paging.cr4.smep
    code = PageFault.build(
        present=int(present or reserved),
        write=int(reference.write),
        user=int(reference.user),
        reserved=int(reserved),
        fetch=int(bool(reference.fetch and tells_fetch)),
    )
    return Fault(PageFault(code), why)


def _end(
    paging: GuestPaging,
    reference: Reference,
    steps: list[GuestStep],
    mode: Mode,
    fault: Fault | None,
) -> LinearWalk:
    user, writable, disabled = _combined(steps)
    last = steps[-1]
    size = mode.page_size(last.level)
    gpa = None
    if fault is None:
        offset = reference.linear & (size - 1)
        gpa = L2Phys(_frame(last.entry, size) | offset)
    found = bool(disabled and paging.efer.no_execute)
    return LinearWalk(reference.linear, tuple(steps), gpa, size, user, writable, found, fault)


def _frame(entry: AnyEntry, size: int) -> int:
    """The page that a leaf maps; a 4-MByte page has address bits 39:32 in 20:13 (PSE-36)."""
    if isinstance(entry, Entry32) and size == PSE_PAGE:
        return (entry.address & ~(size - 1)) | (entry.value >> 13 & 0xFF) << 32
    return entry.address & ~(size - 1)
