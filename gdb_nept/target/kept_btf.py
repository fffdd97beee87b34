# SPDX-License-Identifier: GPL-2.0-or-later
"""BTF of the kernel's memory, kept by build together with its index; and held against that memory
before it is believed again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from gdb_nept.address import KernelVirt
from gdb_nept.errors import BadInput, MemoryUnreadable, NeptError
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.target import btf_index
from gdb_nept.target.btf import Btf, check_whole
from gdb_nept.target.cache import BuildCache
from gdb_nept.target.fingerprint import SAMPLES

HEADER = struct.Struct("<Q")  # bytes of the blob; the index stands behind it

Read = Callable[[KernelVirt, int], bytes]  # raises MemoryUnreadable


@dataclass(frozen=True)
class Blob:
    """Where the kernel keeps a BTF.  `name` is its name in the cache, `origin` that in messages;
    `base` is vmlinux' for a module's."""

    name: str
    origin: str
    start: KernelVirt
    size: int
    base: Btf | None = None


@dataclass(frozen=True)
class Taken:
    """`doubt`: what was wrong with memory or cache, in words, or ''."""

    btf: Btf
    cached: bool
    doubt: str = ""

    def told(self, memory: str, cache: str) -> str:
        """One of the two, with the doubt."""
        said = cache if self.cached else memory
        return f"{said}; {self.doubt}" if self.doubt else said


class KeptBtf:
    """`near`: memory is read at no cost, so that all of it is looked at."""

    def __init__(self, cache: BuildCache, near: bool) -> None:
        self._cache = cache
        self._near = near

    def take(self, blob: Blob, read: Read) -> Taken:
        """The types, of the cache if they prove themselves.  Raises MemoryUnreadable, and BadInput
        for BTF that is damaged and not in the cache."""
        others = []
        for payload in self._cache.contents(blob.name):
            kept = _unpack(payload)
            if kept is None:
                continue
            if self._fits(kept[0], blob, read):
                return Taken(_made(blob, kept), cached=True)
            others.append(kept)
        try:
            data = read(blob.start, blob.size)
            found = Btf(data, blob.base, blob.origin)
            check_whole(found)
        except (BadInput, MemoryUnreadable) as error:
            if not others:
                raise
            return Taken(_made(blob, others[0]), True, f"that in memory: {error.message}")
        self._cache.store(blob.name, _pack(data, found))
        doubt = "what the cache has of this build does not fit this memory" if others else ""
        return Taken(found, False, doubt)

    def unproved(self, blob: Blob, why: NeptError) -> Taken:
        """What the cache has where memory does not tell the place of it; else raises `why`."""
        for payload in self._cache.contents(blob.name):
            kept = _unpack(payload)
            if kept is not None:
                return Taken(_made(blob, kept), True, f"not proved: {why.message}")
        raise why

    def _fits(self, kept: bytes, blob: Blob, read: Read) -> bool:
        """Whether memory is the same, as far as it can be read."""
        if len(kept) != blob.size:
            return False
        pages = range(0, blob.size, PAGE_SIZE)
        if self._near:
            try:
                return read(blob.start, blob.size) == kept
            except MemoryUnreadable:
                pass  # page by page, then
        for offset in pages if self._near else pages[:: max(1, len(pages) // SAMPLES)]:
            size = min(PAGE_SIZE, blob.size - offset)
            try:
                if read(KernelVirt(blob.start + offset), size) != kept[offset : offset + size]:
                    return False
            except MemoryUnreadable:
                continue  # a dump need not hold it
        return True


def _made(blob: Blob, kept: tuple[bytes, btf_index.BtfIndex]) -> Btf:
    return Btf(kept[0], blob.base, blob.origin, kept[1])


def _pack(data: bytes, made: Btf) -> bytes:
    return HEADER.pack(len(data)) + data + btf_index.pack(made.index)


def _unpack(payload: bytes) -> tuple[bytes, btf_index.BtfIndex] | None:
    """What `_pack` packed; None if it is not that."""
    if len(payload) < HEADER.size:
        return None
    end = HEADER.size + HEADER.unpack_from(payload)[0]
    index = btf_index.unpack(payload[end:])
    return None if index is None else (payload[HEADER.size : end], index)
