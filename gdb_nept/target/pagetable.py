# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual -> physical, through page tables that Linux keeps: the kernel's own and a process's.

The entries are the processor's (arch/paging.py); what Linux stores in an entry that is not present
is Linux's (arch/x86/include/asm/pgtable_64.h, pgtable-invert.h).  With KPTI, `mm->pgd` and
`init_top_pgt` are the kernel's half and hold the user's mappings too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.arch.ept import LEVEL_NAMES
from gdb_nept.arch.paging import PAGING_4, PAGING_5, Entry
from gdb_nept.errors import MemoryUnreadable, UnreadKind
from gdb_nept.memory.reader import PhysicalMemory, read_u64

UNREADABLE = UnreadKind.UNREADABLE
SWAPPED_OUT = "swapped out"

Virtual = Union[KernelVirt, HostVirt]

PRESENT, ADDRESS = Entry.present.mask, Entry.address.mask
PROT_NONE = Entry.global_.mask  # _PAGE_PROTNONE: G in an entry that is not present
FLIPPED = 0x3F << 46  # page frame bits that are all set only if the entry is inverted
SWAP_TYPE_SHIFT = 59  # of the 64-bit swap entry, since 4.19 (L1TF)
SWAP_FILES = 23  # a kernel has at least this many swap types that are swap files


@dataclass(frozen=True)
class TableStep:
    """One entry that the walk read: `table` + 8 * `index`."""

    level: int
    table: HostPhys
    index: int
    entry: Entry

    @property
    def name(self) -> str:
        return LEVEL_NAMES[self.level]

    @property
    def address(self) -> HostPhys:
        return HostPhys(self.table + 8 * self.index)


@dataclass(frozen=True)
class Translation:
    """How `virtual` translates: every step, and the physical address, if there is one.

    `why` says in words what stands in the way if `physical` is None; else it is a remark
    ("PROT_NONE: ...", the page is there though the processor would fault), or ''.
    """

    virtual: int
    steps: tuple[TableStep, ...]
    physical: HostPhys | None
    page_size: int
    why: str = ""
    unread: UnreadKind | None = None  # in a word, if `physical` is None


class PageTables:
    """Walks one tree of tables: `root` physical, 4 or 5 levels, `sme_mask` the C-bit or 0."""

    def __init__(
        self, memory: PhysicalMemory[HostPhys], root: HostPhys, levels: int, sme_mask: int = 0
    ) -> None:
        self.memory = memory
        self.root = root
        self.mode = PAGING_5 if levels == 5 else PAGING_4
        self.sme_mask = sme_mask

    def walk(self, virtual: Virtual) -> Translation:
        """Every step, down to a page or to the reason why there is none; raises nothing."""
        address = int(virtual)
        if not self.mode.canonical(address):
            return Translation(address, (), None, 0, "the address is not canonical")
        steps: list[TableStep] = []
        table = self.root
        for level in range(self.mode.levels, 0, -1):
            index = self.mode.index(address, level)
            try:
                word = read_u64(self.memory, HostPhys(table + 8 * index))
            except MemoryUnreadable as error:
                why = f"the {LEVEL_NAMES[level]} cannot be read: {error}"
                return Translation(address, tuple(steps), None, 0, why, error.kind)
            word &= ~self.sme_mask
            entry = Entry(word)
            steps.append(TableStep(level, table, index, entry))
            if not word & PRESENT or entry.leaf_at(level):
                return self._end(address, tuple(steps))
            table = HostPhys(word & ADDRESS)
        raise AssertionError("a PTE is always a leaf")

    def _end(self, address: int, steps: tuple[TableStep, ...]) -> Translation:
        """The last step is a leaf, or not present."""
        last = steps[-1]
        size = self.mode.page_size(last.level)
        frame, why = _frame(last)
        if frame is None:
            swapped = why.startswith(SWAPPED_OUT)
            kind = UnreadKind.SWAPPED if swapped else UnreadKind.NOT_MAPPED
            return Translation(address, steps, None, size, why, kind)
        physical = HostPhys((frame & ~(size - 1)) | (address & (size - 1)))
        return Translation(address, steps, physical, size, why)

    def to_physical(self, virtual: Virtual) -> tuple[HostPhys, int]:
        """The physical address, and how many bytes from there on lie in the same page; raises
        MemoryUnreadable where nothing is mapped."""
        found = self.walk(virtual)
        if found.physical is None:
            raise MemoryUnreadable(int(virtual), 1, found.why, found.unread or UNREADABLE)
        return found.physical, found.page_size - (found.physical & (found.page_size - 1))


def _frame(step: TableStep) -> tuple[int | None, str]:
    """The page's physical address in the last entry of a walk, and what to say about it.

    pte_present() and pmd_present() of asm/pgtable.h: PROT_NONE pages keep their frame, inverted
    since 4.18/4.19 (6b28baca9b1f) so that a speculative load finds no such memory.
    """
    entry, name = step.entry, step.name
    if entry.present:
        return entry.address, ""
    if not entry.value:
        return None, f"not present: the {name} is 0 (never touched, or unmapped)"
    if step.level > 2 and not entry.large:
        return None, f"not present: the {name} is {entry.value:#x}"
    value = entry.value
    if value & FLIPPED == FLIPPED:
        value ^= Entry.address.mask
    if entry.value & PROT_NONE:
        remark = f"PROT_NONE: the {name} is not present, but keeps its page (mprotect, or NUMA"
        return Entry(value).address, remark + " balancing is sampling it)"
    if step.level == 2 and entry.large:
        return Entry(value).address, "not present: the huge page is just being split"
    return None, _swapped(entry.value, name)


def _swapped(value: int, name: str) -> str:
    """What a swap entry says: include/linux/swapops.h, and the order of types in swap.h."""
    kind = value >> SWAP_TYPE_SHIFT
    if kind < SWAP_FILES and name == "PTE":
        return f"{SWAPPED_OUT}: the PTE is {value:#x} (swap file {kind})"
    if kind == 31:
        return f"not present: the {name} is {value:#x}, a marker (userfaultfd, or poison)"
    special = "its page is under migration, or poisoned, or a device's"
    return f"not present: the {name} is {value:#x} (swap type {kind}: {special})"
