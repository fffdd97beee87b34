# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps of a lab snapshot in every format, by the programs that write them: QEMU and makedumpfile.

Debian 12's makedumpfile knows no zstd, and no build of Debian's knows snappy: the one comes from a
later suite, the other is made of a file of makedumpfile's by libsnappy, page by page.  Of LiME's
format there is no program here.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

from bochs_lab import makedumpfile as newer
from bochs_lab.errors import LabError
from bochs_lab.progress import Silent
from bochs_lab.snapshot import MEMORY

from gdb_nept.memory.elf_dump import EHDR
from gdb_nept.memory.kdump_table import DESCRIPTOR, HEADER, SIZES, SIZES_AT
from tests.dumps.files import PAGE, lime
from tests.dumps.machine import DumpingMachine

#: Name of the file, and how it is written, with everything in it.
WHOLE = {
    "raw": "raw image",
    "lime": "LiME",
    "elf": "QEMU `dump-guest-memory`",
    "qemu-flat": "QEMU `kdump-zlib` (flattened)",
    "qemu-zlib": "the same, `makedumpfile -R`",
    "E-d0": "`makedumpfile -E`",
    "c-d1": "`makedumpfile -c -d 1` (zlib)",
    "l-d1": "`makedumpfile -l -d 1` (lzo)",
    "z-d1": "`makedumpfile -z -d 1` (zstd)",
    "p-d1": "as `makedumpfile -p -d 1` (snappy)",
    "F-d1": "`makedumpfile -F -c -d 1` (flattened)",
}
FILTERED = {
    "E-d1": "`makedumpfile -E -d 1` (no zeros)",
    "c-d31": "`makedumpfile -c -d 31`",
    "E-d31": "`makedumpfile -E -d 31`",
    "z-d31": "`makedumpfile -z -d 31`",
}
BIOS = 0xFF  # the page where QEMU has its own
ZLIB, SNAPPY = 1, 4  # of page_desc.flags and disk_dump_header.status (diskdump_mod.h)
STATUS_AT = SIZES_AT - 4


def every_format(snapshot: Path, folder: Path) -> dict[str, Path]:
    """By the names above; and "paging", of QEMU's -p.  Without "z-..." where no makedumpfile with
    zstd is to be had."""
    found = {"raw": snapshot / MEMORY}
    with DumpingMachine(snapshot, folder) as machine:
        found["elf"] = machine.dump("elf")
        found["qemu-flat"] = machine.dump("qemu-flat", format="kdump-zlib")
        found["paging"] = machine.dump("paging", paging=True)
    found["qemu-zlib"] = unflattened(found["qemu-flat"], folder / "qemu-zlib")
    elf = for_makedumpfile(found["elf"], folder / "for-makedumpfile")
    for name in ("E-d0", "E-d1", "E-d31", "c-d1", "c-d31", "l-d1"):
        words = (f"-{part}" for part in name.split("-"))
        found[name] = makedumpfile(["makedumpfile"], *words, dump=elf, out=folder / name)
    try:
        command = newer.command(Silent())
    except LabError:
        command = []
    for level in ("-d1", "-d31") if command else ():
        out = folder / f"z{level}"
        found[out.name] = makedumpfile(command, "-z", level, dump=elf, out=out)
    found["p-d1"] = with_snappy(found["c-d1"], folder / "p-d1")
    found["F-d1"] = flattened(elf, folder / "F-d1")
    low = found["raw"].read_bytes()
    found["lime"] = lime(folder / "lime", [(0, low[: BIOS * PAGE]), (1 << 20, low[1 << 20 :])])
    return found


def for_makedumpfile(dump: Path, out: Path) -> Path:
    """With the program headers at 64, where makedumpfile 1.7.2 looks for them whatever the header
    says (elf_info.c); QEMU puts section headers there, which go."""
    shutil.copyfile(dump, out)
    with out.open("r+b") as file:
        fields = list(EHDR.unpack(file.read(EHDR.size)))
        file.seek(fields[5])
        rows = file.read(fields[9] * fields[10])
        fields[5], fields[6], fields[8], fields[11:] = EHDR.size, 0, EHDR.size, [EHDR.size, 0, 0]
        file.seek(0)
        file.write(EHDR.pack(*fields) + rows)
    return out


def makedumpfile(command: list[str], *words: str, dump: Path, out: Path) -> Path:
    done = subprocess.run(
        [*command, *words, str(dump), str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return out


def with_snappy(dump: Path, out: Path) -> Path:
    """A kdump-compressed dump of zlib's with each page that is compressed done by libsnappy."""
    data = bytearray(dump.read_bytes())
    signature, _ = HEADER.unpack_from(data)
    assert signature == b"KDUMP   "
    block, sub_header, blocks = SIZES.unpack_from(data, SIZES_AT)
    (status,) = struct.unpack_from("<I", data, STATUS_AT)
    struct.pack_into("<I", data, STATUS_AT, status & ~ZLIB | SNAPPY)
    bitmaps = (1 + sub_header) * block
    table = bitmaps + blocks * block
    present = bin(int.from_bytes(data[table - blocks * block // 2 : table], "little")).count("1")
    end = table + present * DESCRIPTOR.size
    parts, places, place = [], dict[int, tuple[int, int, int]](), end
    for number in range(present):
        at = table + number * DESCRIPTOR.size
        offset, size, flags, page_flags = DESCRIPTOR.unpack_from(data, at)
        if offset not in places:  # those of zeros share one
            held = bytes(data[offset : offset + size])
            part = _snapped(zlib.decompress(held)) if flags & ZLIB else held
            places[offset] = (place, len(part), flags & ~ZLIB | SNAPPY if flags & ZLIB else flags)
            parts.append(part)
            place += len(part)
        DESCRIPTOR.pack_into(data, at, *places[offset], page_flags)
    out.write_bytes(data[:end] + b"".join(parts))
    return out


def _snapped(page: bytes) -> bytes:
    """libsnappy's snappy-c.h; the library is one that libkdumpfile needs."""
    library = ctypes.CDLL("libsnappy.so.1")
    library.snappy_max_compressed_length.restype = ctypes.c_size_t
    size = ctypes.c_size_t(library.snappy_max_compressed_length(ctypes.c_size_t(len(page))))
    out = ctypes.create_string_buffer(size.value)
    assert library.snappy_compress(page, ctypes.c_size_t(len(page)), out, ctypes.byref(size)) == 0
    return out.raw[: size.value]


def unflattened(dump: Path, out: Path) -> Path:
    with dump.open("rb") as file:
        subprocess.run(
            ["makedumpfile", "-R", str(out)], stdin=file, capture_output=True, check=True
        )
    return out


def flattened(dump: Path, out: Path) -> Path:
    with out.open("wb") as file:
        words = ["makedumpfile", "-F", "-c", "-d", "1", str(dump)]
        subprocess.run(words, stdout=file, stderr=subprocess.DEVNULL, check=True)
    return out
