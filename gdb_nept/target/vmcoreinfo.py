# SPDX-License-Identifier: GPL-2.0-or-later
"""The text that a kernel writes for its own crash dumps (kernel/vmcore_info.c, before 6.9
kernel/crash_core.c: crash_save_vmcoreinfo_init; arch/x86: arch_crash_save_vmcoreinfo).

It starts a page of its own (`vmcoreinfo_data`), and a second copy stands behind the ELF note's
header of 24 bytes (`vmcoreinfo_note`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gdb_nept.address import KernelVirt
from gdb_nept.errors import NoKernel

MAGIC = b"OSRELEASE="
LIMIT = 4096  # VMCOREINFO_BYTES: PAGE_SIZE
NOTE_HEADER = 24

KERNEL_MAP = 0xFFFFFFFF80000000  # __START_KERNEL_map, asm/page_64_types.h
KERNEL_MAP_SIZE = 0x40000000
TEXT_ALIGN = 0x200000  # the least CONFIG_PHYSICAL_ALIGN of x86-64

_LINE = re.compile(r"(?:(SYMBOL|OFFSET|SIZE|LENGTH|NUMBER)\(([^)]*)\)|([A-Z][A-Z-]*))=(.*)")


@dataclass(frozen=True)
class Vmcoreinfo:
    """The lines of the text, by what they tell.  Symbols are relocated already."""

    words: dict[str, str]  # OSRELEASE, BUILD-ID, KERNELOFFSET, ...
    symbols: dict[str, KernelVirt]
    numbers: dict[str, int]
    offsets: dict[str, int]

    @property
    def release(self) -> str:
        return self.words["OSRELEASE"]

    @property
    def build_id(self) -> str:
        """Hexadecimal, or '' before 5.9 (0935288c6e00, "kdump: append kernel build-id string")."""
        return self.words.get("BUILD-ID", "")

    @property
    def kaslr_offset(self) -> int:
        return int(self.words.get("KERNELOFFSET", "0"), 16)

    @property
    def phys_base(self) -> int | None:
        """Since 4.10 (401721ecd1dc); before that only the variable's address is given."""
        return self.numbers.get("phys_base")

    @property
    def top_table(self) -> KernelVirt:
        """The kernel's own top page table: init_top_pgt since 4.13 (65ade2f872b4)."""
        for name in ("init_top_pgt", "init_level4_pgt", "swapper_pg_dir"):
            if name in self.symbols:
                return self.symbols[name]
        raise NoKernel("vmcoreinfo names no top page table", "Is this an x86-64 kernel?")

    @property
    def levels(self) -> int:
        """Paging levels: 5 if NUMBER(pgtable_l5_enabled) (4.18) says so."""
        return 5 if self.numbers.get("pgtable_l5_enabled") else 4


def parse(data: bytes) -> Vmcoreinfo | None:
    """The vmcoreinfo at the start of `data`, or None if it is not one (a format string, a stale
    or torn page, another architecture's)."""
    text = data[:LIMIT].split(b"\0", 1)[0]
    if not text.startswith(MAGIC) or not text.isascii():
        return None
    found = Vmcoreinfo({}, {}, {}, {})
    for line in text.decode("ascii").splitlines():
        match = _LINE.fullmatch(line)
        if match and not _take(found, *match.groups()):
            return None
    return found if _plausible(found) else None


def _take(found: Vmcoreinfo, kind: str | None, name: str, word: str | None, value: str) -> bool:
    try:
        if word:
            found.words[word] = value
            if word == "KERNELOFFSET":
                int(value, 16)
        elif kind == "SYMBOL":
            found.symbols[name] = KernelVirt(int(value, 16))
        elif kind == "NUMBER":
            found.numbers[name] = _number(value)
        elif kind == "OFFSET":
            found.offsets[name] = int(value)
    except ValueError:
        return False
    return True


def _number(value: str) -> int:
    """NUMBER() is written with %ld, but a few with %#lx or %llx (KERNEL_IMAGE_SIZE, sme_mask)."""
    try:
        return int(value, 0)
    except ValueError:
        return int(value, 16)


def _plausible(found: Vmcoreinfo) -> bool:
    """_stext must be where KERNELOFFSET says: at the start of an aligned image."""
    stext = found.symbols.get("_stext", 0)
    if not KERNEL_MAP <= stext < KERNEL_MAP + KERNEL_MAP_SIZE:
        return False
    offset = found.kaslr_offset
    behind = stext - KERNEL_MAP - offset
    return offset % 4096 == 0 and 0 <= behind < KERNEL_MAP_SIZE and behind % TEXT_ALIGN < 0x10000


def starts(data: bytes, skew: int = 0) -> Iterator[int]:
    """Where, in `data` read from `skew` bytes behind a page's boundary, a copy may start."""
    place = data.find(MAGIC)
    while place >= 0:
        if (place + skew) % LIMIT in (0, NOTE_HEADER):
            yield place
        place = data.find(MAGIC, place + 1)
