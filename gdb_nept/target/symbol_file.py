# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's symbol table as it is kept by build: looked into where it lies, nothing is decoded.

Names stand in the order of the kernel's table, with one order of them by name and one by address
beside.  KASLR's offset is taken off.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gdb_nept.address import KernelVirt
from gdb_nept.target import fingerprint
from gdb_nept.target.fingerprint import Fingerprint
from gdb_nept.target.kallsyms import SymbolTable
from gdb_nept.target.vmcoreinfo import KERNEL_MAP

HEADER = struct.Struct("<IIQ")  # symbols, bytes of names, bytes of the fingerprint


class PackedSymbols:
    """As SymbolTable: `address` and `nearest`."""

    def __init__(self, names: bytes, numbers: memoryview, count: int, kaslr_offset: int) -> None:
        self._names = names
        self._fixed = numbers[: 8 * count].cast("Q")
        words = numbers[8 * count :].cast("I")
        self._starts = words[: count + 1]
        self._by_name = words[count + 1 : 2 * count + 1]
        self._by_address = words[2 * count + 1 :]
        self._offset = kaslr_offset

    def __len__(self) -> int:
        return len(self._fixed)

    def address(self, name: str) -> KernelVirt | None:
        """The first symbol called `name`; static ones may share it."""
        wanted = name.encode()
        place = _first(self._by_name, lambda number: self._name(number) >= wanted)
        if place == len(self) or self._name(self._by_name[place]) != wanted:
            return None
        return KernelVirt(self._moved(self._by_name[place]))

    def nearest(self, address: int) -> tuple[str, int] | None:
        """The last symbol at or below `address`, of several at one place the first; and the
        distance from it."""
        above = _first(self._by_address, lambda number: self._moved(number) > address)
        if not above:
            return None
        at = self._moved(self._by_address[above - 1])
        place = _first(self._by_address, lambda number: self._moved(number) >= at)
        return self._name(self._by_address[place]).decode("utf-8", "replace"), address - at

    def _name(self, number: int) -> bytes:
        return self._names[self._starts[number] : self._starts[number + 1]]

    def _moved(self, number: int) -> int:
        fixed = self._fixed[number]
        return fixed + self._offset if fixed >= KERNEL_MAP else fixed


def _first(numbers: Sequence[int], reached: Callable[[int], bool]) -> int:
    """The first place in `numbers` from which on `reached` is true of them."""
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        if reached(numbers[middle]):
            high = middle
        else:
            low = middle + 1
    return low


@dataclass(frozen=True)
class SymbolFile:
    """A table that was kept, and what it was made of."""

    symbols: PackedSymbols
    made_of: Fingerprint  # offsets from the physical address of _stext


def pack(table: SymbolTable, kaslr_offset: int, made_of: Fingerprint) -> bytes:
    """The table as it is kept; `kaslr_offset` is taken off."""
    names = [name.encode() for name in table.names]
    count = len(names)
    fixed = [each - kaslr_offset if each >= KERNEL_MAP else each for each in table.addresses]
    starts = array("I", [0])
    for name in names:
        starts.append(starts[-1] + len(name))
    numbers = (
        array("Q", fixed).tobytes()
        + starts.tobytes()
        + array("I", sorted(range(count), key=names.__getitem__)).tobytes()
        + array("I", sorted(range(count), key=fixed.__getitem__)).tobytes()
    )
    prints = fingerprint.pack(made_of)
    return HEADER.pack(count, starts[-1], len(prints)) + prints + b"".join(names) + numbers


def unpack(data: bytes, kaslr_offset: int) -> SymbolFile | None:
    """What `pack` packed, moved by `kaslr_offset`; None if it is not that."""
    if len(data) < HEADER.size:
        return None
    count, length, prints = HEADER.unpack_from(data)
    names = HEADER.size + prints
    numbers = names + length
    made_of = fingerprint.unpack(data[HEADER.size : names])
    if made_of is None or len(data) != numbers + 20 * count + 4:
        return None
    packed = PackedSymbols(data[names:numbers], memoryview(data)[numbers:], count, kaslr_offset)
    return SymbolFile(packed, made_of)
