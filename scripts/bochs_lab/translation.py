# SPDX-License-Identifier: GPL-2.0-or-later
"""From the address an instruction uses to the address in the machine's memory, without checks of
permission, as debuggers translate.

Intel SDM volume 3 (edition 081), chapter 4 "Paging", and 28.3.2 "EPT Translation Mechanism".
Written apart from the package's own walk, which is tested against what comes of this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

from .processor import Processor

Read = Callable[[int, int], bytes]  # address in the machine's memory, length

_PG = 1 << 31  # of CR0
_PSE, _PAE, _LA57 = 1 << 4, 1 << 5, 1 << 12  # of CR4
_LMA = 1 << 10  # of EFER
_PRESENT = 1
_ACCESS = 7  # an EPT entry is present if it allows anything
_LARGE = 1 << 7
_FIELD = ((1 << 52) - 1) & ~0xFFF  # the address in a 64-bit entry or in CR3


@dataclass(frozen=True)
class Format:
    """A tree of tables: the lowest address bit that each level's index takes, from the top."""

    shifts: tuple[int, ...]
    present: int = _PRESENT
    entry_size: int = 8  # bytes
    large: tuple[int, ...] = (30, 21)  # levels at which bit 7 ends the walk
    width: int = 48  # bits of an address

    def bits(self, level: int) -> int:
        """How many bits index the table of a level."""
        above = self.shifts[level - 1] if level else self.width
        return above - self.shifts[level]


FOUR_LEVEL = Format((39, 30, 21, 12))
FIVE_LEVEL = Format((48, 39, 30, 21, 12), width=57)
PAE = Format((30, 21, 12), large=(21,), width=32)
TWO_LEVEL = Format((22, 12), entry_size=4, large=(), width=32)
TWO_LEVEL_LARGE = Format((22, 12), entry_size=4, large=(22,), width=32)
EPT = Format((39, 30, 21, 12), present=_ACCESS)


def walk(form: Format, read: Read, root: int, address: int) -> Optional[int]:
    """Where the tables at `root` map an address; None where they do not."""
    table = root
    for level, shift in enumerate(form.shifts):
        index = address >> shift & (1 << form.bits(level)) - 1
        entry = int.from_bytes(read(table + index * form.entry_size, form.entry_size), "little")
        if not entry & form.present:
            return None
        if shift == form.shifts[-1] or (shift in form.large and entry & _LARGE):
            offset = (1 << shift) - 1
            return entry & _FIELD & ~offset | address & offset
        table = entry & _FIELD
    return None


def linear_to_physical(cpu: Processor, read: Read, address: int) -> Optional[int]:
    """Where a linear address of the processor lies in the machine's memory; None if nowhere.

    In VMX non-root operation the tables are the guest's, and each of their addresses goes
    through EPT.
    """
    if not cpu.eptp:
        return _paged(cpu, read, address)

    def to_host(guest: int) -> Optional[int]:
        return walk(EPT, read, cpu.eptp & _FIELD, guest)

    def read_guest(guest: int, length: int) -> bytes:
        place = to_host(guest)
        return bytes(length) if place is None else read(place, length)

    found = _paged(cpu, read_guest, address)
    return None if found is None else to_host(found)


def _paged(cpu: Processor, read: Read, address: int) -> Optional[int]:
    """The paging of the mode that the processor is in."""
    if not cpu.value("cr0") & _PG:
        return address
    root, cr4 = cpu.value("cr3"), cpu.value("cr4")
    if cpu.value("efer") & _LMA:
        form = FIVE_LEVEL if cr4 & _LA57 else FOUR_LEVEL
        sign = address >> form.width - 1
        if sign not in (0, (1 << 65 - form.width) - 1):
            return None  # not canonical
        return walk(form, read, root & _FIELD, address)
    address &= (1 << PAE.width) - 1
    if cr4 & _PAE:
        return walk(PAE, read, root & 0xFFFFFFE0, address)
    form = TWO_LEVEL_LARGE if cr4 & _PSE else TWO_LEVEL
    return walk(form, read, root & 0xFFFFF000, address)
