# SPDX-License-Identifier: GPL-2.0-or-later
"""Small dump files written by hand."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from gdb_nept.memory import flattened
from gdb_nept.memory.elf_dump import EHDR, EM_X86_64, ET_CORE, PHDR, PT_LOAD, PT_NOTE
from gdb_nept.memory.kdump_table import DESCRIPTOR, HEADER, SIZES, SIZES_AT

PAGE = 4096
CR3, RIP, RSP = 0x1234000, 0xFFFFFFFF81000123, 0xFFFFC90000000010  # of the notes' CPU
IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")


def note(name: bytes, kind: int, data: bytes) -> bytes:
    owner = name + b"\0"
    padded = owner.ljust(len(owner) + 3 & -4, b"\0")
    return (
        struct.pack("<III", len(owner), len(data), kind)
        + padded
        + data.ljust(len(data) + 3 & -4, b"\0")
    )


def qemu_note() -> bytes:
    words = [0] * 18
    words[6], words[16] = RSP, RIP
    state = struct.pack("<II18Q", 1, 440, *words) + bytes(240)
    return note(b"QEMU", 0, state + struct.pack("<6Q", 0, 0, 0, CR3, 0, 0))


def prstatus() -> bytes:
    words = [0] * 27
    words[16], words[19] = RIP, RSP
    return note(b"CORE", 1, bytes(112) + struct.pack("<27Q", *words) + bytes(8))


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


def compressed(
    path: Path,
    memory: Mapping[int, bytes],
    count: int,
    zeros: bool = True,
    notes: bytes = b"",
) -> Path:
    """A kdump-compressed dump (nothing is compressed) of `count` pages of RAM, a multiple of 8, of
    which those that `memory` has not, by number, are zeros; without `zeros` these are left out."""
    present = count if zeros else len(memory)
    bitmap = bytearray(count // 8 + PAGE - 1 & -PAGE)
    bitmap[: count // 8] = b"\xff" * (count // 8)
    held = bytearray(bitmap if zeros else bytes(len(bitmap)))
    for number in () if zeros else memory:
        held[number // 8] |= 1 << number % 8
    bitmaps = bytes(bitmap + held)
    head = bytearray(2 * PAGE)  # struct disk_dump_header, and kdump_sub_header
    HEADER.pack_into(head, 0, b"KDUMP   ", 6)
    SIZES.pack_into(head, SIZES_AT, PAGE, 1, len(bitmaps) // PAGE)
    struct.pack_into("<I", head, SIZES_AT + SIZES.size, count)
    place = PAGE + 128 if notes else 0
    struct.pack_into("<QQ", head, PAGE + 48, place, len(notes))  # offset_note, size_note
    struct.pack_into("<Q", head, PAGE + 96, count)  # max_mapnr_64
    head[PAGE + 128 : PAGE + 128 + len(notes)] = notes
    table = len(head) + len(bitmaps)
    data = table + present * DESCRIPTOR.size
    numbers = sorted(memory)
    rows = bytearray(DESCRIPTOR.pack(data, PAGE, 0, 0) * present)
    for place, number in enumerate(numbers):
        at = DESCRIPTOR.size * (number if zeros else place)
        DESCRIPTOR.pack_into(rows, at, data + (place + 1) * PAGE, PAGE, 0, 0)
    parts: list[bytes] = [bytes(head), bitmaps, bytes(rows), bytes(PAGE)]
    parts += (memory[number] for number in numbers)
    path.write_bytes(b"".join(parts))
    return path


def flat(dump: Path, path: Path, size: int = 4 * PAGE) -> Path:
    """A dump flattened, in blocks of `size` bytes."""
    parts = [b"makedumpfile\0".ljust(16, b"\0") + struct.pack(">qq", 1, 1)]
    parts[0] = parts[0].ljust(PAGE, b"\0")
    whole = dump.read_bytes()
    for place in range(0, len(whole), size):
        block = whole[place : place + size]
        parts += [flattened.BLOCK.pack(place, len(block)), block]
    path.write_bytes(b"".join(parts) + flattened.END)
    return path


def pages(*bytes_of_each: int) -> bytes:
    return b"".join(bytes([one]) * PAGE for one in bytes_of_each)
