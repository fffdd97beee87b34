# SPDX-License-Identifier: GPL-2.0-or-later
"""BTF, build ID and vermagic out of a file that the user names: a .ko, .ko.xz, .ko.gz, a vmlinux
with BTF, or raw BTF (/sys/kernel/btf/*).  A small reader of ELF-64 sections, no more.
"""

from __future__ import annotations

import lzma
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdb_nept.errors import BadInput

ELF_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
BTF_MAGIC = b"\x9f\xeb"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
NOTE_BUILD_ID = 3  # NT_GNU_BUILD_ID
BUILD_ID_HEAD = struct.pack("<I", NOTE_BUILD_ID) + b"GNU\0"  # behind the sizes of name and ID
LARGEST = 1 << 30
LARGEST_FILE = 1 << 31  # of types: a vmlinux with debug information has half a GiB
GZIP = 31  # what zlib calls a stream with gzip's header


@dataclass(frozen=True)
class BtfFile:
    """`module` is "" for vmlinux, else its name as the kernel has it (kvm_intel)."""

    path: Path
    module: str
    btf: bytes
    build_id: str = ""
    release: str = ""  # of a module's vermagic


@dataclass(frozen=True)
class Identity:
    """`module` is "" for vmlinux; `build_id` and `release` are "" where the file does not tell."""

    module: str
    build_id: str
    release: str


def read_btf_file(path: Path) -> BtfFile:
    """Raises BadInput with advice for any other file."""
    data = unpacked(path)
    module = module_name(path)
    if data[:2] == BTF_MAGIC:
        return BtfFile(path, module, data)
    if not data.startswith(ELF_MAGIC):
        raise BadInput(
            f"{path} is neither a 64-bit ELF file nor BTF",
            "Name a module (kvm-intel.ko), a vmlinux with a .BTF section, /sys/kernel/btf/NAME, "
            "or a file that scripts/layouts made.",
        )
    sections = _sections(path, data)
    if ".BTF" not in sections:
        raise BadInput(
            f"{path} has no .BTF section",
            "The kernel that it belongs to was built without CONFIG_DEBUG_INFO_BTF(_MODULES). "
            "If it has debug info, make a file of layouts: scripts/layouts kvm.ko kvm-intel.ko",
        )
    return BtfFile(path, module, sections[".BTF"], _build_id(sections), _vermagic(sections))


def identity(path: Path) -> Identity:
    """Which object an ELF file is.  Raises BadInput."""
    data = unpacked(path)
    if not data.startswith(ELF_MAGIC):
        raise BadInput(f"{path} is no 64-bit ELF file", "Name kvm.ko, kvm-intel.ko or vmlinux.")
    sections = _sections(path, data)
    return Identity(module_name(path), _build_id(sections), _vermagic(sections))


def unpacked(path: Path) -> bytes:
    """The file's bytes, decompressed; raises BadInput."""
    try:
        return _unpack(path, _read(path))
    except (OSError, lzma.LZMAError, EOFError, zlib.error) as error:
        raise BadInput(f"cannot read {path}: {error}", "Name a .ko, a vmlinux or BTF.") from None


def _build_id(sections: dict[str, bytes]) -> str:
    """A module has the note in a section of its own, vmlinux among others in .notes."""
    own = note_build_id(sections.get(".note.gnu.build-id", b""))
    return own or build_id_among(sections.get(".notes", b""))


def module_name(path: Path) -> str:
    """kvm-intel.ko.xz -> kvm_intel; vmlinux-6.1 -> ''."""
    stem = path.name
    for suffix in (".xz", ".gz", ".debug", ".btf", ".ko"):
        stem = stem[: -len(suffix)] if stem.endswith(suffix) else stem
    return "" if stem.startswith("vmlinux") else stem.replace("-", "_")


def _read(path: Path) -> bytes:
    """A whole file; a pipe would hold us, and a device has no end."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{path} is no regular file", "Name a .ko, a vmlinux or BTF.")
    if status.st_size > LARGEST_FILE:
        raise BadInput(f"{path} has {status.st_size} bytes", "No kernel's types need so many.")
    return path.read_bytes()


def _unpack(path: Path, data: bytes) -> bytes:
    if data.startswith(b"\xfd7zXZ"):
        return _inflated(path, lzma.LZMADecompressor(), data)
    if data.startswith(b"\x1f\x8b"):
        return _inflated(path, zlib.decompressobj(GZIP), data)
    if data.startswith(ZSTD_MAGIC):
        raise BadInput(f"{path} is compressed with zstd", f"Unpack it first: zstd -d {path}")
    return data


def _inflated(path: Path, unpacker: Any, data: bytes) -> bytes:
    found: bytes = unpacker.decompress(data, LARGEST_FILE + 1)
    if len(found) > LARGEST_FILE:
        advice = "No kernel's types need so many."
        raise BadInput(f"{path} unpacks to over {LARGEST_FILE} bytes", advice)
    if not unpacker.eof:
        raise EOFError("it is cut")
    return found


def _sections(path: Path, data: bytes) -> dict[str, bytes]:
    """The sections by name (the last of a name)."""
    try:
        table = struct.unpack_from("<Q", data, 0x28)[0]
        size, count, names = struct.unpack_from("<3H", data, 0x3A)
        rows = [struct.unpack_from("<II4Q", data, table + size * n) for n in range(count)]
        strings = data[rows[names][4] : rows[names][4] + rows[names][5]]
    except (struct.error, IndexError):
        raise BadInput(f"{path}: the ELF section table is damaged", "Copy it again.") from None
    found: dict[str, bytes] = {}
    for name_at, kind, _flags, _address, offset, length in rows:
        name = strings[name_at : strings.find(b"\0", name_at)].decode("ascii", "replace")
        if kind != 8 and length <= LARGEST:  # SHT_NOBITS has no bytes in the file
            found[name] = data[offset : offset + length]
    return found


def note_build_id(note: bytes) -> str:
    """The build ID in the bytes of a .note.gnu.build-id section, or ''."""
    if len(note) < 16:
        return ""
    name_size, size, kind = struct.unpack_from("<3I", note)
    if kind != NOTE_BUILD_ID or name_size != 4 or note[12:16] != b"GNU\0":
        return ""
    return note[16 : 16 + size].hex()


def build_id_among(notes: bytes) -> str:
    """The build ID among several notes, whatever padding is between them; or ''."""
    places = range(0, len(notes), 4)
    starts = (place for place in places if notes.startswith(BUILD_ID_HEAD, place + 8))
    return next(filter(None, (note_build_id(notes[place:]) for place in starts)), "")


def _vermagic(sections: dict[str, bytes]) -> str:
    for line in sections.get(".modinfo", b"").split(b"\0"):
        if line.startswith(b"vermagic="):
            return line[len(b"vermagic=") :].split(b" ")[0].decode("ascii", "replace")
    return ""
