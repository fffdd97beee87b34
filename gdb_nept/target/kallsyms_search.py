# SPDX-License-Identifier: GPL-2.0-or-later
"""Find kallsyms' tables where nobody tells their place: before 6.0, or without vmcoreinfo.

The characters 0 to 9 are tokens of their own, so the token table holds "0\\0" "1\\0" ... "9\\0".
Behind the table stands the index of its 256 tokens, which proves it; the names lie before it, and
their markers prove them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.target.kallsyms import (
    ALIGNMENTS,
    FEWEST,
    INDEX_SIZE,
    MOST,
    TOKENS,
    U64,
    NotKallsyms,
    Rule,
    SymbolTable,
    Tables,
    addresses_of,
    aligned,
    decode_names,
    read_tokens,
)
from gdb_nept.target.vmcoreinfo import KERNEL_MAP

DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
FIRST_DIGIT = ord("0")  # its code is its token's number
LONGEST_TABLE = 0x4000  # bytes of a token table; about 900 in practice
OWN_PLACE_ORDER = "order of 7.1 on"
MOST_NAMES = 1 << 21  # looked at before a token table is given up
REACHES = (1 << 20, 1 << 21, 1 << 22, 1 << 23)  # how far before it the names may begin


@dataclass(frozen=True)
class TokenTable:
    """The table and its index in physical memory, and the texts that it holds."""

    start: HostPhys
    index: HostPhys
    tokens: list[bytes]


def digit_runs(data: bytes) -> Iterator[int]:
    """Where in `data` the tokens of the ten digits stand side by side."""
    place = data.find(DIGITS)
    while place >= 0:
        yield place
        place = data.find(DIGITS, place + 1)


def token_table(memory: PhysicalMemory[HostPhys], digits: HostPhys) -> TokenTable:
    """The token table around the digits at `digits`; raises NotKallsyms, MemoryUnreadable."""
    behind = memory.read(digits, LONGEST_TABLE)
    place = 0
    for _ in range(TOKENS - FIRST_DIGIT):
        place = behind.find(b"\0", place) + 1
        if not place:
            raise NotKallsyms("digits, but no token table")
    for unit in ALIGNMENTS:
        index = HostPhys(aligned(digits + place, unit))
        places = struct.unpack(f"<{TOKENS}H", memory.read(index, INDEX_SIZE))
        start = HostPhys(digits - places[FIRST_DIGIT])
        if start % unit or start < 0 or places[0] or list(places) != sorted(places):
            continue
        table = memory.read(start, digits - start + place)
        return TokenTable(start, index, read_tokens(table, places))
    raise NotKallsyms("digits, but no token index behind them")


def search_back(
    memory: PhysicalMemory[HostPhys], table: TokenTable, stext: int | None
) -> tuple[SymbolTable, Tables, Rule]:
    """The names before `table`, and the addresses on either side; raises NotKallsyms."""
    start, blob, left = int(table.start), b"", MOST_NAMES
    for reach in REACHES:
        before = max(table.start - reach, 0)
        try:
            new = memory.read(HostPhys(before), start - before)
        except MemoryUnreadable:
            break
        start, blob = before, new + blob
        for place, unit, count in _counts(new, start):
            try:
                names = decode_names(blob, place + unit, count, table.tokens)
            except NotKallsyms as error:
                left -= error.names
                if left < 0:
                    why = "a token table, and names before it that do not fit"
                    raise NotKallsyms(why, MOST_NAMES - left) from None
                continue
            found = HostPhys(start + place)
            return _with_addresses(memory, table, found, unit, names, stext)
    raise NotKallsyms("a token table, but no names before it", MOST_NAMES - left)


def _counts(data: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Where num_syms may be in `data` from `start` of memory, nearest first, with the alignment and
    the number: a likely one, alone in its word."""
    for unit in ALIGNMENTS:
        skew = -start % unit
        words = memoryview(data)[skew : len(data) - (len(data) - skew) % unit]
        numbers = words.cast("Q" if unit == 8 else "I")
        likely = [place for place, word in enumerate(numbers) if FEWEST <= word <= MOST]
        for place in reversed(likely):
            yield skew + unit * place, unit, numbers[place]


def _with_addresses(
    memory: PhysicalMemory[HostPhys],
    table: TokenTable,
    num_syms: HostPhys,
    unit: int,
    names: list[str],
    stext: int | None,
) -> tuple[SymbolTable, Tables, Rule]:
    for tables in orders(table, num_syms, unit, len(names)):
        try:
            if tables.order == OWN_PLACE_ORDER:
                tables = own_place(memory, tables, names)
            rule, addresses = addresses_of(memory, tables, names, stext)
        except (NotKallsyms, MemoryUnreadable):
            continue
        return SymbolTable(names, addresses), tables, rule
    raise NotKallsyms("kallsyms' names, but no addresses on either side of them")


def orders(table: TokenTable, num_syms: HostPhys, unit: int, count: int) -> Iterator[Tables]:
    """Every order that scripts/kallsyms.c has written, newest first."""
    behind = HostPhys(table.index + INDEX_SIZE)
    base_behind = HostPhys(aligned(behind + 4 * count, unit))
    base_before = HostPhys(num_syms - 8)
    before = HostPhys(base_before - aligned(4 * count, 8))
    absolute = HostPhys(num_syms - 8 * count)
    for entries, base, order in (
        (behind, base_behind, "order of 6.4 on"),
        (behind, None, OWN_PLACE_ORDER),
        (before, base_before, "order up to 6.3"),
        (absolute, None, "order up to 6.3, absolute"),
    ):
        names = HostPhys(num_syms + unit)
        yield Tables(
            count=count,
            names=names,
            tokens=table.start,
            token_index=table.index,
            entries=entries,
            relative_base=base,
            offsets_virtual=0,
            order=order,
        )


def own_place(memory: PhysicalMemory[HostPhys], tables: Tables, names: list[str]) -> Tables:
    """`tables` with the virtual address of the offsets, for the order of 7.1 on.

    Those offsets lead from place to place in physical memory as well, so to the variable
    `phys_base`, which tells how both differ.  Raises NotKallsyms, MemoryUnreadable.
    """
    try:
        place = tables.entries + 4 * names.index("phys_base")
    except ValueError:
        raise NotKallsyms("the table has no symbol 'phys_base'") from None
    offset = struct.unpack("<i", memory.read(HostPhys(place), 4))[0]
    phys_base = struct.unpack("<q", memory.read(HostPhys(place + offset), 8))[0]
    return replace(tables, offsets_virtual=(tables.entries + KERNEL_MAP - phys_base) & U64)
