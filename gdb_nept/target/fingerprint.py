# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether what a cache holds was made of just this memory.

A name of a build proves nothing: a dump may be damaged, and a build ID forged.  So what was decoded
is kept with a checksum of each page that it was decoded from, and pages of the memory at hand are
held against those: all of them where memory is at hand, a few spread ones over a slow link.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.reader import PAGE_SIZE

SAMPLES = 8  # pages looked at over a slow link
MOST_EXTENTS = 16
EXTENT = struct.Struct("<qQ")

Read = Callable[[int, int], bytes]  # of an offset and a size; raises MemoryUnreadable


@dataclass(frozen=True)
class Fingerprint:
    """`extents`: offset and size of each stretch; `checksums`: CRC-32 of its pieces, in order."""

    extents: tuple[tuple[int, int], ...]
    checksums: Sequence[int]

    def fits(self, read: Read, whole: bool) -> bool:
        """Whether memory is the same, as far as it can be read."""
        pieces = list(zip(_pieces(self.extents), self.checksums))
        step = 1 if whole else max(1, len(pieces) // SAMPLES)
        for (offset, size), checksum in pieces[::step]:
            try:
                if zlib.crc32(read(offset, size)) != checksum:
                    return False
            except MemoryUnreadable:
                continue  # a dump need not hold it
        return True


def fingerprint(read: Read, extents: Sequence[tuple[int, int]]) -> Fingerprint:
    """Raises MemoryUnreadable."""
    sums = array("I", [zlib.crc32(read(offset, size)) for offset, size in _pieces(extents)])
    return Fingerprint(tuple(extents), sums)


def _pieces(extents: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for start, length in extents:
        for offset in range(start, start + length, PAGE_SIZE):
            yield offset, min(PAGE_SIZE, start + length - offset)


def pack(made: Fingerprint) -> bytes:
    places = b"".join(EXTENT.pack(*extent) for extent in made.extents)
    return bytes([len(made.extents)]) + places + array("I", made.checksums).tobytes()


def unpack(data: bytes) -> Fingerprint | None:
    """What `pack` packed; None if it is not that."""
    count = data[0] if data else MOST_EXTENTS + 1
    end = 1 + count * EXTENT.size
    if count > MOST_EXTENTS or len(data) < end or (len(data) - end) % 4:
        return None
    extents = tuple(EXTENT.iter_unpack(data[1:end]))
    sums = array("I", data[end:])
    wanted = sum(-(-size // PAGE_SIZE) for _, size in extents)
    return Fingerprint(extents, sums) if wanted == len(sums) else None
