# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of L2's own page tables, which does not read memory itself.

SDM vol. 3, June 2026 (325384-092), chapter 5: 5.3 32-bit, 5.4 PAE, 5.5 4- and 5-level paging, 5.8
accessed and dirty flags.  The registers are in guest_paging.py, what must be 0 in an entry in
reserved_bits.py, access rights and the page fault's error code in rights.py.

Each entry lies at an L2 physical address, so each read of one may itself leave through EPT.
`walk_linear` is therefore a generator: it yields the accesses it has to make, is sent the entries,
and returns what it found.  Who drives it sends each access through EPT12: to read memory
(nested/virtual.py), or to predict an exit (predict/linear.py).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from gdb_nept.address import L2Phys, L2Virt
from gdb_nept.arch.paging import PAGING_32, PAGING_PAE, Entry, Entry32, Mode
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.walk.guest_paging import (
    AnyEntry,
    GuestPaging,
    GuestStep,
    Reference,
)
from gdb_nept.walk.reserved_bits import reserved_bits
from gdb_nept.walk.rights import Fault, fault_of_entry, not_known, refused, rights_of

PSE_PAGE = 1 << 22


@dataclass(frozen=True)
class TableAccess:
    """An entry of L2's that must be read, or (`update`) have its accessed or dirty flag set.
    `done` are the entries read before, from the top."""

    level: int
    gpa: L2Phys
    size: int
    update: bool = False
    done: tuple[GuestStep, ...] = ()


@dataclass(frozen=True)
class LinearWalk:
    """How `linear` translates.  `gpa` is None if `fault` is set.

    `user`, `writable` and `execute_disable` are what L2's entries say together.  `unknown` is what
    the answer hangs on and nobody told; '' if nothing is missing.
    """

    linear: L2Virt
    steps: tuple[GuestStep, ...]
    gpa: L2Phys | None
    page_size: int
    user: bool
    writable: bool
    execute_disable: bool
    fault: Fault | None = None
    unknown: str = ""


Walker = Generator[TableAccess, int, LinearWalk]


def walk_linear(paging: GuestPaging, reference: Reference) -> Walker:
    """Translate a linear address: yields each access to an entry, expects the entry's value (for
    an update: anything), and returns the LinearWalk."""
    mode = paging.mode
    if mode is None:  # 5.1.1: no paging; EPT's advanced information then says user, R/W, no XD
        gpa = L2Phys(reference.linear)
        return LinearWalk(
            linear=reference.linear,
            steps=(),
            gpa=gpa,
            page_size=PAGE_SIZE,
            user=True,
            writable=True,
            execute_disable=False,
        )
    steps: tuple[GuestStep, ...] = ()
    table = paging.root
    level = mode.levels
    while True:
        step = yield from _read(paging, mode, reference, table, level, steps)
        steps += (step,)
        fault = _unusable(step, paging, mode, reference)
        if fault is not None:
            return _end(paging, reference, steps, mode, fault)
        if step.leaf:
            break
        table = L2Phys(step.entry.address)
        level -= 1
    fault = refused(rights_of(steps), paging, reference)
    if fault is None:
        yield from _updates(steps, mode, reference)
    return _end(paging, reference, steps, mode, fault)


def _read(
    paging: GuestPaging,
    mode: Mode,
    reference: Reference,
    table: L2Phys,
    level: int,
    done: tuple[GuestStep, ...],
) -> Generator[TableAccess, int, GuestStep]:
    index = mode.index(reference.linear, level)
    top_of_pae = mode is PAGING_PAE and level == mode.levels
    if top_of_pae and paging.pdptrs:
        return GuestStep(level, None, Entry(paging.pdptrs[index]), False, index)
    gpa = L2Phys(table + index * mode.entry_size)
    value = yield TableAccess(level, gpa, mode.entry_size, done=done)
    if mode is PAGING_32:
        small = Entry32(value & 0xFFFFFFFF)
        large = level == 2 and bool(small.large and paging.cr4.page_size_extensions)
        return GuestStep(level, gpa, small, level == 1 or large, index)
    entry = Entry(value)
    if top_of_pae:
        return GuestStep(level, None, entry, False, index)
    return GuestStep(level, gpa, entry, entry.leaf_at(level), index)


def _unusable(
    step: GuestStep, paging: GuestPaging, mode: Mode, reference: Reference
) -> Fault | None:
    """The fault if this entry ends the walk (5.7)."""
    name = f"L2's level-{step.level} entry {step.entry.value:#x}"
    if not step.entry.present:
        return fault_of_entry(paging, reference, f"{name} is not present")
    reserved = step.entry.value & reserved_bits(step, paging, mode)
    if not reserved:
        return None
    return fault_of_entry(paging, reference, f"{name} has reserved bits set ({reserved:#x})", True)


def _updates(
    steps: tuple[GuestStep, ...], mode: Mode, reference: Reference
) -> Generator[TableAccess, int, None]:
    """The flags that must be set first (5.8), top level first."""
    for step in steps:
        if step.gpa is None:
            continue
        dirties = step.leaf and reference.write and not step.entry.dirty
        if dirties or not step.entry.accessed:
            yield TableAccess(step.level, step.gpa, mode.entry_size, update=True, done=steps)


def _end(
    paging: GuestPaging,
    reference: Reference,
    steps: tuple[GuestStep, ...],
    mode: Mode,
    fault: Fault | None,
) -> LinearWalk:
    rights = rights_of(steps)
    last = steps[-1]
    size = mode.page_size(last.level)
    gpa, unknown = None, ""
    if fault is None:
        offset = reference.linear & (size - 1)
        gpa = L2Phys(_frame(last.entry, size) | offset)
        unknown = not_known(rights, paging, reference)
    return LinearWalk(
        reference.linear,
        steps,
        gpa,
        size,
        user=rights.user,
        writable=rights.writable,
        execute_disable=rights.execute_disable and paging.execute_disable,
        fault=fault,
        unknown=unknown,
    )


def _frame(entry: AnyEntry, size: int) -> int:
    """The page that a leaf maps; a 4-MByte page has address bits 39:32 in 20:13 (PSE-36)."""
    if isinstance(entry, Entry32) and size == PSE_PAGE:
        return (entry.address & ~(size - 1)) | (entry.value >> 13 & 0xFF) << 32
    return entry.address & ~(size - 1)
