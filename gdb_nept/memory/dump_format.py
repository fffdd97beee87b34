# SPDX-License-Identifier: GPL-2.0-or-later
"""Which format a dump of physical memory has, told by what the file holds.

Headers: makedumpfile's diskdump_mod.h (struct disk_dump_header) and makedumpfile.h (struct
makedumpfile_header); LiME's doc/README.md; the others by the magic numbers of file(1).
"""

from __future__ import annotations

import math
import stat
from collections import Counter
from enum import Enum
from pathlib import Path

from gdb_nept.errors import BadInput

HEAD = 4096
LEAST_RAW = 1 << 20  # no Linux host has less memory
SAMPLES = 16
ENTROPY = 7.9  # bits a byte of a page; memory has pages of far less


class Format(Enum):
    """What `--dump` takes, in words that follow "a"."""

    RAW = "raw image"
    ELF = "ELF dump"
    KDUMP = "kdump-compressed dump"
    FLATTENED = "flattened kdump-compressed dump"
    LIME = "LiME dump"


MAGIC = {
    b"\x7fELF": Format.ELF,
    b"KDUMP   ": Format.KDUMP,
    b"DISKDUMP": Format.KDUMP,
    b"makedumpfile\0": Format.FLATTENED,
    b"EMiL": Format.LIME,
}
DECRYPT = "Decrypt it first: what it holds cannot be read."
#: What people name by mistake: its magic number, what it is, and what to do.
OTHERS = (
    (b"\x1f\x8b", "is compressed by gzip", "Unpack it first: gzip -dk FILE"),
    (b"\xfd7zXZ\0", "is compressed by xz", "Unpack it first: xz -dk FILE"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "Unpack it first: zstd -d FILE"),
    (b"\x04\x22\x4d\x18", "is compressed by lz4", "Unpack it first: lz4 -d FILE"),
    (b"BZh", "is compressed by bzip2", "Unpack it first: bzip2 -dk FILE"),
    (b"PK\x03\x04", "is a ZIP archive", "Unpack it first: unzip FILE"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "Unpack it first: 7z x FILE"),
    (b"LUKS\xba\xbe", "is encrypted (LUKS)", DECRYPT),
    (b"Salted__", "is encrypted (openssl enc)", DECRYPT),
    (b"age-encryption.org/", "is encrypted (age)", DECRYPT),
    (b"-----BEGIN PGP", "is encrypted (OpenPGP)", DECRYPT),
    (b"-----BEGIN AGE", "is encrypted (age)", DECRYPT),
    (b"LMVA", "is a dump of AVML", "Turn it into LiME's format first: avml-convert FILE OUT"),
    (b"AVML", "is a dump of AVML", "Turn it into LiME's format first: avml-convert FILE OUT"),
    (b"QEVM", "is a saved state of QEMU", "Take a dump instead: dump-guest-memory FILE"),
    (b"LibvirtQemudSave", "is a saved state of libvirt", "Take a dump: virsh dump --memory-only"),
    (b"QFI\xfb", "is a disk (qcow2)", "Name a dump of memory."),
    (b"KDMV", "is a disk (VMDK)", "Name a dump of memory."),
    (b"PAGEDU64", "is a dump of Windows", "Name a dump of a Linux host."),
    (b"PAGEDUMP", "is a dump of Windows", "Name a dump of a Linux host."),
)
WHAT_WE_TAKE = (
    "A dump is a raw image of physical memory, an ELF dump (kdump's vmcore, makedumpfile -E, "
    "QEMU), a kdump-compressed one (makedumpfile, QEMU), or LiME's."
)


def format_of(path: Path) -> Format:
    """Raises BadInput for what is no dump, with what to do about it."""
    head, size = _head(path)
    for magic, found in MAGIC.items():
        if head.startswith(magic):
            return found
    for magic, what, advice in OTHERS:
        if head.startswith(magic):
            raise BadInput(f"{path} {what}", advice.replace("FILE", path.name))
    if size < LEAST_RAW or _is_text(head):
        raise BadInput(f"{path} has no format of a dump that we know ({size} bytes)", WHAT_WE_TAKE)
    if _is_noise(path, size):
        told = "is encrypted or compressed: no page of it looks like memory"
        raise BadInput(f"{path} {told}", f"{DECRYPT}  {WHAT_WE_TAKE}")
    return Format.RAW


def _head(path: Path) -> tuple[bytes, int]:
    try:
        status = path.stat()  # before it is opened: a pipe would hold us
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{path} is no regular file", "Copy what it gives into a file.")
        if status.st_size == 0:
            raise BadInput(f"{path} is empty", "Was the disk full when the dump was taken?")
        with path.open("rb") as file:
            return file.read(HEAD), status.st_size
    except OSError as error:
        told = f"cannot open {path}: {error.strerror}"
        raise BadInput(told, "Name a dump of physical memory.") from None


def _is_text(head: bytes) -> bool:
    return all(byte in b"\t\n\r" or (byte >= 0x20 and byte != 0x7F) for byte in head)


def _is_noise(path: Path, size: int) -> bool:
    """Whether no page looked at, of some all over the file, is anything but noise."""
    with path.open("rb") as file:
        for number in range(SAMPLES):
            file.seek(size // SAMPLES * number & -HEAD)
            page = file.read(HEAD)
            if len(page) == HEAD and _entropy(page) < ENTROPY:
                return False
    return True


def _entropy(page: bytes) -> float:
    shares = [count / len(page) for count in Counter(page).values()]
    return -sum(share * math.log2(share) for share in shares)
