# SPDX-License-Identifier: GPL-2.0-or-later
"""BTF: the compact C types that a kernel carries in its own memory (Documentation/bpf/btf.rst).

One pass finds where each type starts and which structures have which name; the rest is read when
asked (`btf_types.py`).  A module's BTF is split: its ids and string offsets go on where those of
vmlinux end.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

from gdb_nept.errors import BadInput

MAGIC = 0xEB9F
HEADER = struct.Struct("<HBBIIIII")

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF = range(1, 9)
VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT = range(9, 17)
DECL_TAG, TYPE_TAG, ENUM64 = range(17, 20)

#: 32-bit words behind the three of a type's header: (fixed, for each of its vlen elements).
TRAILERS = {
    INT: (1, 0), PTR: (0, 0), ARRAY: (3, 0), STRUCT: (0, 3), UNION: (0, 3), ENUM: (0, 2),
    FWD: (0, 0), TYPEDEF: (0, 0), VOLATILE: (0, 0), CONST: (0, 0), RESTRICT: (0, 0), FUNC: (0, 0),
    FUNC_PROTO: (0, 2), VAR: (1, 0), DATASEC: (0, 3), FLOAT: (0, 0), DECL_TAG: (1, 0),
    TYPE_TAG: (0, 0), ENUM64: (0, 3),
}  # fmt: skip
NAMED = frozenset((STRUCT, UNION, TYPEDEF))
ADVICE = "The kernel's BTF may be newer than this program, or the file is damaged."


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
    """One BTF blob.  `base` is vmlinux's for a module's."""

    def __init__(self, data: bytes, base: Btf | None = None, origin: str = "BTF") -> None:
        self.base = base
        self.origin = origin
        types, self._strings = _parts(data, origin)
        self.words = memoryview(types[: len(types) & ~3]).cast("I")
        self.start: int = base.end if base else 1  # the first id; 0 is void
        self.start_string: int = base.end_string if base else 0
        self.end_string: int = self.start_string + len(self._strings)
        self._places, self._named = self._index()
        self.end: int = self.start + len(self._places)

    def _index(self) -> tuple[array[int], dict[int, list[int]]]:
        """Where each type starts, and the ids of structs, unions and typedefs by name offset."""
        words, place, number = self.words, 0, self.start
        places = array("I")
        named: dict[int, list[int]] = {}
        try:
            while place < len(words):
                places.append(place)
                info = words[place + 1]
                kind = info >> 24 & 0x1F
                if kind in NAMED:
                    named.setdefault(words[place], []).append(number)
                fixed, each = TRAILERS[kind]
                place += 3 + fixed + each * (info & 0xFFFF)
                number += 1
        except (KeyError, IndexError):
            raise BadInput(f"{self.origin}: type {number} is none we know", ADVICE) from None
        return places, named

    def string(self, offset: int) -> str:
        if offset < self.start_string:
            return self.base.string(offset) if self.base else ""
        start = offset - self.start_string
        end = self._strings.find(b"\0", start)
        return self._strings[start:end].decode("utf-8", "replace") if end >= 0 else ""

    def offsets_of(self, name: str) -> list[int]:
        """Every offset that a type called `name` can carry, in our strings and the base's."""
        wanted = b"\0" + name.encode() + b"\0"
        found = self.base.offsets_of(name) if self.base else []
        place = self._strings.find(wanted)
        while place >= 0:
            found.append(self.start_string + place + 1)
            place = self._strings.find(wanted, place + 1)
        if self.base and self._strings.startswith(wanted[1:]):  # a split blob may start with it
            found.append(self.start_string)
        return found

    def named(self, name: str) -> list[Record]:
        """Our own structs and unions called `name`, then typedefs of it."""
        ids = [each for offset in self.offsets_of(name) for each in self._named.get(offset, ())]
        records = [self.record(each) for each in ids]
        return sorted(records, key=lambda record: record.kind == TYPEDEF)

    def record(self, number: int) -> Record:
        """Type `number`, ours or the base's.  Raises BadInput."""
        if number < self.start and self.base:
            return self.base.record(number)
        if not self.start <= number < self.end:
            raise BadInput(f"{self.origin}: no type {number}", ADVICE)
        place = self._places[number - self.start]
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
