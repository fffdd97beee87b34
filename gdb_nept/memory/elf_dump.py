# SPDX-License-Identifier: GPL-2.0-or-later
"""The headers of an ELF dump: its stretches of memory, its notes, and whether all of it is there.

System V ABI, "ELF Header", "Program Header", "Note Section".  Notes: NT_PRSTATUS (the kernel's
include/uapi/linux/elfcore.h, struct elf_prstatus, with x86-64's struct user_regs_struct), "QEMU"
(target/i386/arch_dump.c, QEMUCPUState), "VMCOREINFO" (kernel/vmcore_info.c).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gdb_nept.errors import BadInput
from gdb_nept.memory.cpu_registers import Registers
from gdb_nept.memory.holes import data_of
from gdb_nept.memory.ram import END

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
SHDR = struct.Struct("<IIQQQQIIQQ")
NOTE = struct.Struct("<III")
ET_CORE, EM_X86_64, EM_386 = 4, 62, 3
PT_LOAD, PT_NOTE, PN_XNUM = 1, 4, 0xFFFF
MOST_SEGMENTS = 1 << 20
OUR_NOTE = b"GDB_NEPT"
MOST_HELD = 1 << 16  # stretches of data told apart
LARGEST_NOTES = 64 << 20
MOST_NOTES = 1 << 16
PRSTATUS_REGISTERS, RSP, RIP = 112, 19, 16  # byte of pr_reg; numbers of words in it
QEMU_SIZE, QEMU_RSP, QEMU_RIP, QEMU_CR = 440, 8 + 6 * 8, 8 + 16 * 8, 8 + 18 * 8 + 10 * 24


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD: `size` bytes of memory at physical `start`, of which `in_file` are at `offset`."""

    start: int
    size: int
    offset: int
    in_file: int
    virtual: int


@dataclass(frozen=True)
class ElfDump:
    """What the headers and notes of an ELF dump tell."""

    segments: tuple[Segment, ...]
    vmcoreinfo: bytes
    cpus: tuple[Registers, ...]
    by_qemu: bool
    exported: bool  # by nept-export
    file_size: int

    @property
    def by_kdump(self) -> bool | None:
        """Whether the machine's own crash kernel wrote it; None where no CPU's state tells."""
        if self.by_qemu or self.exported:
            return False
        return True if self.cpus else None

    @property
    def end(self) -> int:
        """Where the file must end at the earliest."""
        return max((one.offset + one.in_file for one in self.segments), default=0)

    def held(self, path: Path) -> list[range]:
        """The physical addresses of which the file at `path`, which these are the headers of, has
        bytes: what is a hole of the file reads as zero, and nothing is to be found in it."""
        found: list[range] = []
        for one in self.segments:
            stop = min(one.offset + one.in_file, self.file_size)
            left = MOST_HELD - len(found)
            for data in data_of(path, one.offset, stop, max(left, 0)) if one.start < END else ():
                start = one.start + data.start - one.offset
                found.append(range(start, min(start + data.stop - data.start, END)))
        return sorted(found, key=lambda each: each.start)

    @property
    def cut(self) -> tuple[range, ...]:
        """The physical addresses that are behind the end of the file."""
        found = []
        for one in self.segments:
            there = max(0, min(one.in_file, self.file_size - one.offset))
            if there < one.in_file:
                found.append(range(one.start + (there & -4096), one.start + one.in_file))
        return tuple(found)

    @property
    def paging(self) -> bool:
        """QEMU's dump with `-p` (dump-guest-memory, paging=true) of a CPU that used paging: the
        only one by QEMU whose virtual addresses are not the physical ones (dump/dump.c,
        write_elf64_load).  It holds what the page tables of the moment map, and no more."""
        return self.by_qemu and any(one.virtual not in (0, one.start) for one in self.segments)


def read_headers(path: Path) -> ElfDump:
    """Raises BadInput for what is no ELF dump of an x86-64 machine."""
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except (struct.error, OSError, OverflowError) as error:
        told = f"the ELF headers of {path} are cut or damaged: {error}"
        raise BadInput(told, "Take the dump again, or copy it again.") from None


def _read(file: BinaryIO, path: Path) -> ElfDump:
    header = EHDR.unpack(_part(file, 0, EHDR.size))
    _check(path, *header[:3])
    rows = _program_headers(file, path, header)
    segments = tuple(
        Segment(row[4], row[6], row[2], row[5], row[3]) for row in rows if row[0] == PT_LOAD
    )
    if not segments:
        raise BadInput(f"{path} is an ELF core that holds no memory", "Take the dump again.")
    notes = [note for row in rows if row[0] == PT_NOTE for note in _notes(file, row[2], row[5])]
    return ElfDump(
        segments,
        next((data for name, _, data in notes if name == b"VMCOREINFO"), b""),
        _registers(notes),
        any(name == b"QEMU" for name, _, _ in notes),
        any(name == OUR_NOTE for name, _, _ in notes),
        os.fstat(file.fileno()).st_size,
    )


def _check(path: Path, ident: bytes, kind: int, machine: int) -> None:
    """Raises BadInput for what is no core of an x86-64 machine."""
    if ident[4:6] != b"\x02\x01":
        raise BadInput(
            f"{path} is a 32-bit ELF file, or of another byte order",
            "Only x86-64 hosts have nested EPT; kexec's elf32-core-headers cannot hold one.",
        )
    if kind != ET_CORE:
        raise BadInput(
            f"{path} is an ELF file, but no dump (no core file)",
            "Name the dump.  A vmlinux goes to --btf, or to gdb's file command.",
        )
    if machine not in (EM_X86_64, EM_386):  # EM_386: QEMU, of a CPU that was not in long mode
        raise BadInput(f"{path} is a dump of another processor (e_machine {machine})")


def _program_headers(file: BinaryIO, path: Path, header: tuple[Any, ...]) -> list[tuple[int, ...]]:
    """The fields of each; raises BadInput."""
    place, size, count = header[5], header[9], header[10]
    if count == PN_XNUM:
        count = SHDR.unpack(_part(file, header[6], SHDR.size))[7]
    if count > MOST_SEGMENTS or size < PHDR.size:
        raise BadInput(f"the ELF headers of {path} are damaged: {count} segments of {size} bytes")
    table = _part(file, place, count * size)
    return [PHDR.unpack_from(table, number * size) for number in range(count)]


def _part(file: BinaryIO, place: int, size: int) -> bytes:
    """As much of it as the file has."""
    end = file.seek(0, os.SEEK_END)
    if place >= end:
        return b""
    file.seek(place)
    return file.read(min(size, end - place))


def _notes(file: BinaryIO, place: int, size: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Name, type and bytes of each note that is whole."""
    data = _part(file, place, min(size, LARGEST_NOTES))
    at = 0
    for _ in range(MOST_NOTES):
        if at + NOTE.size > len(data):
            return
        name_size, size, kind = NOTE.unpack_from(data, at)
        name_at = at + NOTE.size
        bytes_at = name_at + (name_size + 3 & -4)
        if bytes_at + size > len(data):
            return
        yield data[name_at : name_at + name_size].rstrip(b"\0"), kind, data[bytes_at:][:size]
        at = bytes_at + (size + 3 & -4)


def _registers(notes: list[tuple[bytes, int, bytes]]) -> tuple[Registers, ...]:
    """Of each CPU: QEMU's notes, which have CR3, or else the kernel's own."""
    by_qemu = [data for name, _, data in notes if name == b"QEMU" and len(data) >= QEMU_SIZE]
    if by_qemu:
        return tuple(
            Registers(_u64(data, QEMU_RIP), _u64(data, QEMU_RSP), _u64(data, QEMU_CR + 24))
            for data in by_qemu
        )
    own = [data for name, kind, data in notes if name == b"CORE" and kind == 1]
    whole = [data[PRSTATUS_REGISTERS:] for data in own if len(data) >= 336]
    return tuple(Registers(_u64(data, 8 * RIP), _u64(data, 8 * RSP), None) for data in whole)


def _u64(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 8], "little")
