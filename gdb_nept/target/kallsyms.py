# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own symbol table, decoded from memory: scripts/kallsyms.c and kernel/kallsyms.c.

The tables lie in .rodata one behind the other, each aligned to 8 bytes (7.2: to 4):

    up to 6.3   addresses|offsets, relative_base, num_syms, names, markers, [seqs], tokens, index
    6.4 on      num_syms, names, markers, tokens, index, offsets, relative_base, seqs
    7.1 on      the same without relative_base: an offset counts from its own place

A name is a length (one byte; since 6.1 ULEB128) and that many codes, each a token of the token
table; the first character of the expanded name is the symbol's type letter.  `markers` holds the
place of every 256th name (u64 up to 4.19, then u32), and here is what proves a find.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gdb_nept.address import HostPhys, KernelVirt
from gdb_nept.errors import NeptError
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.target.vmcoreinfo import KERNEL_MAP, KERNEL_MAP_SIZE, TEXT_ALIGN

TOKENS = 256
INDEX_SIZE = 2 * TOKENS
ALIGNMENTS = (8, 4)  # of the tables: up to 7.0, and as seen in 7.2
MARKED = 256  # names from one marker to the next
EARLY = 4 * 256  # after so many names the first markers are looked for
FEWEST, MOST = 64, 4_000_000  # symbols that a kernel can have; fewest for the sake of tests
LONGEST_NAME = 1024  # codes; KSYM_NAME_LEN is 512 characters
TYPE_LETTERS = frozenset(b"aAbBcCdDgGiInNpPrRsStTuUvVwWxX?-")
U64 = (1 << 64) - 1


class NotKallsyms(NeptError):
    """These bytes are no symbol table: the search goes on.  `names` were looked at."""

    def __init__(self, message: str, names: int = 0) -> None:
        super().__init__(message)
        self.names = names


class Rule(Enum):
    """How an entry becomes an address."""

    ABSOLUTE = "absolute addresses"
    PERCPU = "offsets, per-CPU ones absolute"  # KALLSYMS_ABSOLUTE_PERCPU, up to 6.14
    RELATIVE = "offsets from relative_base"  # 6.17 on, and kernels for one CPU before
    OWN_PLACE = "offsets from their own place"  # 7.1 on


@dataclass(frozen=True)
class Tables:
    """Where the tables lie.  The image is contiguous in physical memory, so physical addresses
    do; `offsets_virtual` is given for offsets that count from their own place, and else 0."""

    count: int
    names: HostPhys
    tokens: HostPhys
    token_index: HostPhys
    entries: HostPhys  # kallsyms_offsets, or kallsyms_addresses
    relative_base: HostPhys | None
    offsets_virtual: int = 0
    order: str = ""


class SymbolTable:
    """Names and addresses, in the order of the kernel's table (sorted by address)."""

    def __init__(self, names: Sequence[str], addresses: Sequence[int]) -> None:
        self.names = names
        self.addresses = addresses
        self._index: dict[str, int] = {}
        self._sorted: tuple[list[int], list[str]] = ([], [])

    def __len__(self) -> int:
        return len(self.names)

    def address(self, name: str) -> KernelVirt | None:
        """The first symbol called `name`; static ones may share it."""
        if not self._index:
            self._index = dict(zip(reversed(self.names), reversed(self.addresses)))
        found = self._index.get(name)
        return None if found is None else KernelVirt(found)

    def nearest(self, address: int) -> tuple[str, int] | None:
        """The last symbol at or below `address`, and the distance from it."""
        if not self._sorted[0]:
            pairs = sorted(zip(self.addresses, range(len(self.names))))
            self._sorted = ([at for at, _ in pairs], [self.names[place] for _, place in pairs])
        starts, names = self._sorted
        place = bisect_right(starts, address) - 1
        if place < 0:
            return None
        first = place  # of several names of one address, the first
        while first > 0 and starts[first - 1] == starts[place]:
            first -= 1
        return names[first], address - starts[place]


def read_tokens(table: bytes, index: Sequence[int]) -> list[bytes]:
    """The 256 tokens; raises NotKallsyms unless `index` is exactly their places."""
    tokens: list[bytes] = []
    place = 0
    for start in index:
        end = table.find(b"\0", place)
        if start != place or end < 0:
            raise NotKallsyms("the token index does not fit the token table")
        tokens.append(table[place:end])
        place = end + 1
    return tokens


def decode_names(blob: bytes, start: int, count: int, tokens: Sequence[bytes]) -> list[str]:
    """The `count` names at `start` of `blob`, which holds the markers behind them; raises
    NotKallsyms, with how many names were looked at, unless the markers fit."""
    names: list[bytes] = []
    marks: list[int] = []
    place = start
    try:
        for number in range(count):
            if number % MARKED == 0:
                marks.append(place - start)
                if number == EARLY and not markers_among(blob, place, marks):
                    raise NotKallsyms("the markers do not fit the first names", number)
            length = blob[place]
            place += 1
            if length & 0x80:  # two bytes since 6.1 (73bbb94466fd)
                length = length & 0x7F | blob[place] << 7
                place += 1
            if not 0 < length <= LONGEST_NAME or tokens[blob[place]][:1] not in _LETTERS:
                raise NotKallsyms(f"name {number} is none", number)
            names.append(b"".join([tokens[code] for code in blob[place : place + length]]))
            place += length
    except IndexError:
        raise NotKallsyms("the names run out of their table", len(names)) from None
    ends = (start + aligned(place - start, unit) for unit in ALIGNMENTS)
    if not any(markers_fit(blob, end, marks) for end in ends):
        raise NotKallsyms("the markers do not fit the names", count)
    return b"\n".join([name[1:] for name in names]).decode("utf-8", "replace").split("\n")


_LETTERS = frozenset(bytes([letter]) for letter in TYPE_LETTERS)


def aligned(place: int, unit: int) -> int:
    return (place + unit - 1) & ~(unit - 1)


def markers_fit(blob: bytes, place: int, marks: Sequence[int]) -> bool:
    """Whether the markers at `place` are `marks`, as u32 (since 4.20) or u64."""
    return any(
        blob[place : place + size * len(marks)] == struct.pack(f"<{len(marks)}{code}", *marks)
        for code, size in (("I", 4), ("Q", 8))
    )


def markers_among(blob: bytes, place: int, marks: Sequence[int]) -> bool:
    """Whether `marks` stand anywhere in `blob` from `place` on: most of what is no table of names
    is found out by its first few, without decoding the rest."""
    return any(blob.find(struct.pack(f"<{len(marks)}{code}", *marks), place) >= 0 for code in "IQ")


def read_entries(memory: PhysicalMemory[HostPhys], tables: Tables, size: int) -> array[int]:
    entries = array("i" if size == 4 else "Q")
    entries.frombytes(memory.read(tables.entries, size * tables.count))
    return entries


def apply_rule(rule: Rule, entries: Sequence[int], base: int) -> array[int]:
    """The addresses.  `base` is relative_base, or the table's own virtual address."""
    if rule is Rule.ABSOLUTE:
        return array("Q", entries)
    if rule is Rule.PERCPU:
        below = base - 1
        return array("Q", [each if each >= 0 else (below - each) & U64 for each in entries])
    if rule is Rule.RELATIVE:
        return array("Q", [(base + (each & 0xFFFFFFFF)) & U64 for each in entries])
    return array("Q", [(base + 4 * n + each) & U64 for n, each in enumerate(entries)])


def addresses_of(
    memory: PhysicalMemory[HostPhys], tables: Tables, names: Sequence[str], stext: int | None
) -> tuple[Rule, array[int]]:
    """The addresses, by the rule that puts `_stext` where it is known to be (or, with None, where
    it can be); raises NotKallsyms if no rule does."""
    try:
        at = names.index("_stext")
    except ValueError:
        raise NotKallsyms("the table has no symbol '_stext'") from None
    for rule, size, base in _rules(memory, tables):
        entries = read_entries(memory, tables, size)
        found = apply_rule(rule, entries[at : at + 1], base + 4 * at * (rule is Rule.OWN_PLACE))[0]
        if found == stext or (stext is None and _can_be_stext(found)):
            return rule, apply_rule(rule, entries, base)
    raise NotKallsyms("no rule for offsets puts '_stext' at the start of the kernel")


def _can_be_stext(address: int) -> bool:
    inside = KERNEL_MAP <= address < KERNEL_MAP + KERNEL_MAP_SIZE
    return inside and address % TEXT_ALIGN < 0x10000


def _rules(memory: PhysicalMemory[HostPhys], tables: Tables) -> list[tuple[Rule, int, int]]:
    """The rules to try, newest first, each with the size of an entry and its base."""
    if tables.relative_base is None:
        place = tables.offsets_virtual
        return [(Rule.OWN_PLACE, 4, place) if place else (Rule.ABSOLUTE, 8, 0)]
    base = struct.unpack("<Q", memory.read(tables.relative_base, 8))[0]
    return [(Rule.RELATIVE, 4, base), (Rule.PERCPU, 4, base)]


def decode(
    memory: PhysicalMemory[HostPhys], tables: Tables, stext: int | None
) -> tuple[SymbolTable, Rule]:
    """Read and expand the whole table; raises NotKallsyms, MemoryUnreadable."""
    room = tables.tokens - tables.names
    length = tables.token_index - tables.tokens
    if not FEWEST <= tables.count <= MOST or not 0 < room < 1 << 26 or not 0 < length < 1 << 16:
        raise NotKallsyms("the tables are not in any known order")
    index = struct.unpack(f"<{TOKENS}H", memory.read(tables.token_index, INDEX_SIZE))
    tokens = read_tokens(memory.read(tables.tokens, length), index)
    names = decode_names(memory.read(tables.names, room), 0, tables.count, tokens)
    rule, addresses = addresses_of(memory, tables, names, stext)
    return SymbolTable(names, addresses), rule
