# SPDX-License-Identifier: GPL-2.0-or-later
"""BTF: the compact C types that a kernel carries in its own memory (Documentation/bpf/btf.rst).

One pass finds where each type starts and which structures have which name; the rest is read when
asked (`btf_types.py`).  A module's BTF is split: its ids and string offsets go on where those of
vmlinux end.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gdb_nept.errors import BadInput
from gdb_nept.target.btf_index import ADVICE, STRUCT, UNION, BtfIndex, index_of

MAGIC = 0xEB9F
HEADER = struct.Struct("<HBBIIIII")
LONGEST_NAME = 4096


@dataclass(frozen=True)
class Record:
    """A type as BTF has it: the header's words, and where its trailer starts (in words)."""

    number: int
    name: str
    kind: int
    flag: bool  # kind_flag
    count: int  # vlen
    size_or_type: int
    trailer: int


class Btf:
    """One BTF blob.  `base` is vmlinux's for a module's; `index` one that was made of this very
    blob before."""

    def __init__(
        self,
        data: bytes,
        base: Btf | None = None,
        origin: str = "BTF",
        index: BtfIndex | None = None,
    ) -> None:
        self.base = base
        self.origin = origin
        types, self._strings = _parts(data, origin)
        if len(types) & 3:
            raise BadInput(f"{origin}: the last type is cut off", ADVICE)
        self.words = memoryview(types).cast("I")
        self.start: int = base.end if base else 1  # the first number; 0 is void
        self.start_string: int = base.end_string if base else 0
        self.end_string: int = self.start_string + len(self._strings)
        self.index = index or self._made()
        self.end: int = self.start + len(self.index.places)

    def _made(self) -> BtfIndex:
        try:
            return index_of(self.words, self.start, self.name)
        except BadInput as error:
            raise BadInput(f"{self.origin}: {error.message}", error.advice) from None

    def name(self, offset: int) -> bytes:
        """The string at `offset`; b"" for one that is in none of the string sections."""
        if offset < self.start_string:
            return self.base.name(offset) if self.base else b""
        start = offset - self.start_string
        limit = start + LONGEST_NAME
        end = self._strings.find(b"\0", start, limit)
        return self._strings[start : end if end >= 0 else limit]

    def string(self, offset: int) -> str:
        return self.name(offset).decode("utf-8", "replace")

    def named(self, name: str) -> list[Record]:
        """Our own structs and unions called `name`, then typedefs of it."""
        wanted, named = name.encode(), self.index.named
        low, high = 0, len(named)
        while low < high:
            middle = (low + high) // 2
            if self._name_of(named[middle]) < wanted:
                low = middle + 1
            else:
                high = middle
        found = []
        while low < len(named) and self._name_of(named[low]) == wanted:
            found.append(self.record(self.start + named[low]))
            low += 1
        return found

    def _name_of(self, number: int) -> bytes:
        """Of our own type `number`, counted from our first."""
        return self.name(self.words[self.index.places[number]])

    def record(self, number: int) -> Record:
        """Type `number`, ours or the base's.  Raises BadInput."""
        if number < self.start and self.base:
            return self.base.record(number)
        if not self.start <= number < self.end:
            raise BadInput(f"{self.origin}: no type {number}", ADVICE)
        place = self.index.places[number - self.start]
        name, info, size = self.words[place : place + 3]
        kind, flag = info >> 24 & 0x1F, bool(info >> 31)
        return Record(number, self.string(name), kind, flag, info & 0xFFFF, size, place + 3)

    def trailer(self, record: Record, length: int) -> tuple[int, ...]:
        """`length` words behind a type's header.  Raises BadInput if they run out."""
        owner = self
        while record.number < owner.start and owner.base:
            owner = owner.base
        found = tuple(owner.words[record.trailer : record.trailer + length])
        if len(found) != length:
            raise BadInput(f"{self.origin}: type {record.number} is cut off", ADVICE)
        return found


def _parts(data: bytes, origin: str) -> tuple[bytes, bytes]:
    """The type section and the string section.  Raises BadInput."""
    if len(data) < HEADER.size:
        raise BadInput(f"{origin} is too short for BTF", ADVICE)
    magic, _version, _flags, size, types, types_size, strings, strings_size = HEADER.unpack_from(
        data
    )
    if magic != MAGIC:
        raise BadInput(f"{origin} does not start with BTF's magic number", ADVICE)
    type_part = data[size + types : size + types + types_size]
    string_part = data[size + strings : size + strings + strings_size]
    if len(type_part) != types_size or len(string_part) != strings_size:
        raise BadInput(f"{origin} is cut off", ADVICE)
    return type_part, string_part


def check_whole(btf: Btf) -> None:
    """Raises BadInput for a structure with a member that is of no type, has no name in the string
    section, or begins beyond the structure: what is kept for other memories is proved first."""
    words, end, end_string = btf.words, btf.end, btf.end_string
    for number, place in enumerate(btf.index.places):
        info, size = words[place + 1], words[place + 2]
        if info >> 24 & 0x1F not in (STRUCT, UNION):
            continue
        bits = 0xFFFFFF if info >> 31 else 0xFFFFFFFF
        for at in range(place + 3, place + 3 + 3 * (info & 0xFFFF), 3):
            if words[at + 1] >= end:
                why = f"a member of type {words[at + 1]}"
            elif words[at] >= end_string:
                why = "a member whose name lies nowhere"
            elif words[at + 2] & bits > 8 * size:
                why = "a member that begins beyond its end"
            else:
                continue
            raise BadInput(f"{btf.origin}: type {btf.start + number} has {why}", ADVICE)
