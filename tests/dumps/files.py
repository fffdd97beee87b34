# SPDX-License-Identifier: GPL-2.0-or-later
"""Small dump files written by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from gdb_nept.memory.elf_dump import EHDR, EM_X86_64, ET_CORE, PHDR, PT_LOAD, PT_NOTE

PAGE = 4096
IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")


def note(name: bytes, kind: int, data: bytes) -> bytes:
    owner = name + b"\0"
    padded = owner.ljust(len(owner) + 3 & -4, b"\0")
    return (
        struct.pack("<III", len(owner), len(data), kind)
        + padded
        + data.ljust(len(data) + 3 & -4, b"\0")
    )


def elf(
    path: Path,
    segments: Sequence[tuple[int, bytes, int]],
    notes: bytes = b"",
    virtual: int = 0,
    kind: int = ET_CORE,
    machine: int = EM_X86_64,
) -> Path:
    """`segments` are physical addresses, what is there, and the size in memory; with `virtual`
    they lie at that distance in virtual memory."""
    count = len(segments) + 1
    head = EHDR.size + count * PHDR.size
    place = head + len(notes)
    rows = [PHDR.pack(PT_NOTE, 0, head, 0, 0, len(notes), len(notes), 4)]
    for start, data, size in segments:
        rows.append(PHDR.pack(PT_LOAD, 7, place, start + virtual, start, len(data), size, 0))
        place += len(data)
    header = EHDR.pack(
        IDENT, kind, machine, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, count, 0, 0, 0
    )
    path.write_bytes(header + b"".join(rows) + notes + b"".join(data for _, data, _ in segments))
    return path


def lime(path: Path, segments: Sequence[tuple[int, bytes]]) -> Path:
    parts = []
    for start, data in segments:
        parts.append(struct.pack("<4sIQQ8x", b"EMiL", 1, start, start + len(data) - 1) + data)
    path.write_bytes(b"".join(parts))
    return path


def pages(*bytes_of_each: int) -> bytes:
    return b"".join(bytes([one]) * PAGE for one in bytes_of_each)
