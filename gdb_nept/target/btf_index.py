# SPDX-License-Identifier: GPL-2.0-or-later
"""Where each type of a BTF blob starts, and which structures have which name.

One pass over the types makes it; what `pack` makes of it is looked into where it lies, so that a
kernel that was met before costs nothing to load.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gdb_nept.errors import BadInput

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
HEADER = struct.Struct("<II")  # types, named ones


@dataclass(frozen=True)
class BtfIndex:
    """`places`: of each type, the word where it starts.  `named`: the numbers of structures,
    unions and typedefs, counted from the blob's first, ordered by name; typedefs behind."""

    places: Sequence[int]
    named: Sequence[int]


def index_of(words: Sequence[int], first: int, name_at: Callable[[int], bytes]) -> BtfIndex:
    """The index of the types in `words`; `first` is the number of the first, for messages.
    Raises BadInput for a kind of type that we do not know, and a last one that is cut off."""
    place, end, number = 0, len(words), 0
    places = array("I")
    named = []
    try:
        while place < end:
            places.append(place)
            info = words[place + 1]
            kind = info >> 24 & 0x1F
            if kind in NAMED:
                named.append((name_at(words[place]), kind == TYPEDEF, number))
            fixed, each = TRAILERS[kind]
            place += 3 + fixed + each * (info & 0xFFFF)
            number += 1
    except (KeyError, IndexError):
        raise BadInput(f"type {first + number} is none we know", ADVICE) from None
    if place != end:
        raise BadInput(f"type {first + number - 1} is cut off", ADVICE)
    named.sort()
    return BtfIndex(places, array("I", [each for _, _, each in named]))


def pack(index: BtfIndex) -> bytes:
    sizes = HEADER.pack(len(index.places), len(index.named))
    return sizes + array("I", index.places).tobytes() + array("I", index.named).tobytes()


def unpack(data: bytes) -> BtfIndex | None:
    """What `pack` packed, looked into where it lies; None if it is not that."""
    if len(data) < HEADER.size:
        return None
    types, named = HEADER.unpack_from(data)
    if len(data) != HEADER.size + 4 * (types + named):
        return None
    words = memoryview(data)[HEADER.size :].cast("I")
    return BtfIndex(words[:types], words[types:])
