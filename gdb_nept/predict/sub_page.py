# SPDX-License-Identifier: GPL-2.0-or-later
"""Sub-page write permissions: the walk of the SPP table.

SDM vol. 3, June 2026 (325384-092), section 31.3.4 "Sub-Page Write Permissions".
"""

from __future__ import annotations

from enum import Enum
from typing import cast

from gdb_nept.address import L2Phys, Out
from gdb_nept.arch.bits import Word, bit, bits
from gdb_nept.arch.ept import ENTRY_SIZE, PAGE_SHIFT, index, reserved_above
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.reader import PhysicalMemory, read_u64

LEVELS = 4
SUB_PAGE_SHIFT = 7  # 128 bytes
WRITE_BITS = 0x5555_5555_5555_5555  # the even bits: one a sub-page; the odd ones are reserved


class SubPage(Enum):
    """What the walk of the sub-page-permission table comes to."""

    WRITABLE = "writable"
    READ_ONLY = "read-only"
    MISS = "SPP miss"
    MISCONFIG = "SPP misconfiguration"
    UNREADABLE = "unreadable"


class SpptEntry(Word):
    """An entry of the SPP table above the last level."""

    title = "SPPT entry"

    valid = bit(0, "valid")
    reserved_low = bits(11, 1, "reserved")
    address = bits(51, 12, "physical address of the next table", shift=PAGE_SHIFT)
    reserved_high = bits(63, 52, "reserved")


def pointer_problem(pointer: int, maxphyaddr: int) -> str:
    """Why VM entry would refuse the SPP-table pointer (29.2.1.1), or ''."""
    low, beyond = pointer & ((1 << PAGE_SHIFT) - 1), pointer >> maxphyaddr << maxphyaddr
    if low:
        return f"bits 11:0 of the SPP-table pointer are set: {low:#x}"
    return f"bits of the SPP-table pointer beyond MAXPHYADDR are set: {beyond:#x}" if beyond else ""


def walk_sub_page(
    memory: PhysicalMemory[Out], pointer: int, gpa: L2Phys, maxphyaddr: int
) -> tuple[SubPage, str]:
    """What the SPP table at `pointer` says of a write to `gpa`, with the reason."""
    table = pointer
    for level in range(LEVELS, 0, -1):
        place = table + index(gpa, level) * ENTRY_SIZE
        try:
            word = read_u64(memory, cast(Out, place))
        except MemoryUnreadable as error:
            return SubPage.UNREADABLE, str(error)
        if level == 1:
            return _vector(word, gpa, place)
        entry = SpptEntry(word)
        if not entry.valid:
            return SubPage.MISS, f"the level-{level} SPPT entry at {place:#x} is not valid"
        if entry.reserved_low or entry.reserved_high or word & reserved_above(maxphyaddr):
            return SubPage.MISCONFIG, f"the level-{level} SPPT entry at {place:#x} is {word:#x}"
        table = entry.address
    raise AssertionError("the loop returns at level 1")


def _vector(word: int, gpa: L2Phys, place: int) -> tuple[SubPage, str]:
    if word & ~WRITE_BITS:
        return SubPage.MISCONFIG, f"odd bits of the SPP vector at {place:#x} are set: {word:#x}"
    number = (gpa >> SUB_PAGE_SHIFT) & 31
    if word >> (2 * number) & 1:
        return SubPage.WRITABLE, f"sub-page {number} is writable by the vector at {place:#x}"
    return SubPage.READ_ONLY, f"sub-page {number} is not writable by the vector at {place:#x}"
