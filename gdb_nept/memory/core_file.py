# SPDX-License-Identifier: GPL-2.0-or-later
"""An ELF core of physical memory, written as it is read.

System V ABI, "ELF Header", "Program Header", "Note Section"; more headers than e_phnum holds are
counted in section 0 (PN_XNUM, Linux include/uapi/linux/elf.h).  A PT_LOAD has the physical address
in p_paddr and, since nobody says at which virtual one it is mapped, in p_vaddr too: gdb then reads
at physical addresses.  What is in no PT_LOAD is not in the file.  Zero pages are holes of the file.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from gdb_nept.errors import BadInput, NeptError
from gdb_nept.memory.elf_dump import (
    EHDR,
    EM_X86_64,
    ET_CORE,
    NOTE,
    OUR_NOTE,
    PHDR,
    PN_XNUM,
    PT_LOAD,
    PT_NOTE,
    SHDR,
)
from gdb_nept.memory.reader import PAGE_SIZE

IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
READ_WRITE = 6
ROOM = PN_XNUM - 1  # program headers before the data; a hole of the file as far as not used
ZEROS = bytes(PAGE_SIZE)

Note = tuple[bytes, bytes]  # whose, and what it says; of type 0


class NotWrittenTo(NeptError):
    """The file cannot be written."""


class CoreFile:
    """The file at `path`, there only once it is whole: `finish` puts it in its place.  Use in a
    `with` block.  Raises BadInput where one is there that may not be replaced."""

    def __init__(self, path: Path, force: bool = False, room: int = ROOM) -> None:
        if path.exists() and not (force and _replaceable(path)):
            raise BadInput(
                f"{path} is there already" + ", and is no export" * force,
                "Name another file."
                if force
                else "Name another file, or replace an older export with --force.",
            )
        self.path = path
        self.segments: list[tuple[int, int, int]] = []  # physical address, size, place in the file
        self.zero_bytes = 0
        self._room = room
        self._end = -(-(EHDR.size + room * PHDR.size) // PAGE_SIZE) * PAGE_SIZE
        try:
            number, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        except OSError as error:
            raise NotWrittenTo(f"{path} cannot be written: {error.strerror}") from None
        self._part = Path(name)
        self._file: BinaryIO = os.fdopen(number, "wb")

    def __enter__(self) -> CoreFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    @property
    def memory_bytes(self) -> int:
        """Of memory."""
        return sum(size for _, size, _ in self.segments)

    def add(self, address: int, data: bytes) -> None:
        """`data`, whole pages, lies at physical `address`, above all that was added before."""
        if self.segments and sum(self.segments[-1][:2]) == address:
            start, size, place = self.segments[-1]
            self.segments[-1] = (start, size + len(data), place)
        else:
            self.segments.append((address, len(data), self._end))
        self._put(data)

    def _put(self, data: bytes) -> None:
        try:
            for start, part in _without_zeros(data):
                self._file.seek(self._end + start)
                self._file.write(part)
                self.zero_bytes -= len(part)
        except OSError as error:
            raise NotWrittenTo(f"{self.path} cannot be written: {error.strerror}") from None
        self.zero_bytes += len(data)
        self._end += len(data)

    def finish(self, notes: Iterable[Note]) -> None:
        """Write the headers, and put the file in its place."""
        told = b"".join(_note(*each) for each in notes)
        rows = [PHDR.pack(PT_NOTE, 0, self._end, 0, 0, len(told), len(told), 4)]
        rows += [
            PHDR.pack(PT_LOAD, READ_WRITE, place, start, start, size, size, PAGE_SIZE)
            for start, size, place in self.segments
        ]
        try:
            self._file.seek(self._end)
            self._file.write(told)
            self._headers(rows, self._end + len(told))
            self._file.close()
            os.replace(self._part, self.path)
        except OSError as error:
            raise NotWrittenTo(f"{self.path} cannot be written: {error.strerror}") from None

    def _headers(self, rows: list[bytes], end: int) -> None:
        """At 64 if there is room, where makedumpfile looks for them whatever the header says."""
        if len(rows) <= self._room:
            self._file.seek(EHDR.size)
            self._file.write(b"".join(rows))
            place, count, section = EHDR.size, len(rows), b""
        else:
            place, count = -(-end // 8) * 8, PN_XNUM
            section = SHDR.pack(0, 0, 0, 0, 0, 0, 0, len(rows), 0, 0)
            self._file.seek(place)
            self._file.write(b"".join(rows) + section)
        where = place + len(rows) * PHDR.size if section else 0
        head = (IDENT, ET_CORE, EM_X86_64, 1, 0, place, where, 0, EHDR.size, PHDR.size, count)
        self._file.seek(0)
        self._file.write(EHDR.pack(*head, SHDR.size if section else 0, 1 if section else 0, 0))


def _without_zeros(data: bytes) -> list[tuple[int, bytes]]:
    """The stretches of pages that hold anything but zeros, and where they are in `data`."""
    if data.count(0) == len(data):
        return []
    found: list[tuple[int, bytes]] = []
    start = None
    for place in range(0, len(data), PAGE_SIZE):
        if data[place : place + PAGE_SIZE] == ZEROS:
            if start is not None:
                found.append((start, data[start:place]))
                start = None
        elif start is None:
            start = place
    if start is not None:
        found.append((start, data[start:]))
    return found


def _note(owner: bytes, text: bytes) -> bytes:
    name = owner + b"\0"
    padded = name.ljust(len(name) + 3 & -4, b"\0")
    return NOTE.pack(len(name), len(text), 0) + padded + text.ljust(len(text) + 3 & -4, b"\0")


def _replaceable(path: Path) -> bool:
    """Whether it is an older export, which its notes tell; a dump of a host's is not lost by a slip
    of the keyboard."""
    try:
        with path.open("rb") as file:
            header = EHDR.unpack(file.read(EHDR.size))
            file.seek(header[5])
            kind, _, place, _, _, size, _, _ = PHDR.unpack(file.read(PHDR.size))
            file.seek(place)
            notes = file.read(min(size, 1 << 20))
    except (OSError, struct.error, OverflowError, ValueError):
        return False
    return bool(header[0] == IDENT and kind == PT_NOTE and OUR_NOTE + b"\0" in notes)
