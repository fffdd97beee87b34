# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import pytest

from gdb_nept.errors import BadInput
from gdb_nept.target.elf import build_id_among, module_name, read_btf_file
from gdb_nept.target.type_sources import checked_files

ID = bytes(range(20))
NOTE = struct.pack("<3I4s", 4, 20, 3, b"GNU\0") + ID
MODINFO = b"license=GPL\0vermagic=6.1.0-52-cloud-amd64 SMP preempt mod_unload \0"


def elf(**sections: bytes) -> bytes:
    """A 64-bit ELF file with these sections (a leading dot is added)."""
    parts = [("", b""), *((f".{name}", data) for name, data in sections.items())]
    names = b"\0".join(name.encode() for name, _ in parts) + b"\0.shstrtab\0"
    parts.append((".shstrtab", names))
    body, rows = b"", b""
    for name, data in parts:
        row = (names.find(name.encode() + b"\0"), 1, 0, 0, 64 + len(body), len(data), 0, 0, 1, 0)
        rows += struct.pack("<2I4Q2I2Q", *row)
        body += data
    head = b"\x7fELF\x02\x01\x01".ljust(40, b"\0") + struct.pack("<QI", 64 + len(body), 0)
    head = head[:0x28] + struct.pack("<Q", 64 + len(body)) + bytes(4)
    head += struct.pack("<6H", 64, 0, 0, 64, len(parts), len(parts) - 1)
    return head.ljust(64, b"\0") + body + rows


def module() -> bytes:
    return elf(**{"BTF": b"\x9f\xebtypes", "note.gnu.build-id": NOTE, "modinfo": MODINFO})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("kvm-intel.ko", module()),
        ("kvm-intel.ko.xz", lzma.compress(module())),
        ("kvm-intel.ko.gz", gzip.compress(module())),
    ],
)
def test_a_module(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    found = read_btf_file(tmp_path / name)
    assert (found.module, found.btf) == ("kvm_intel", b"\x9f\xebtypes")
    assert (found.build_id, found.release) == (ID.hex(), "6.1.0-52-cloud-amd64")


def test_raw_btf(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"\x9f\xebtypes")
    found = read_btf_file(tmp_path / "vmlinux")
    assert (found.module, found.btf, found.build_id) == ("", b"\x9f\xebtypes", "")


def test_names() -> None:
    for ending in (".ko", ".ko.xz", "", ".btf", ".ko.debug"):
        name = f"kvm-intel{ending}"
        assert module_name(Path(name)) == "kvm_intel"
    assert module_name(Path("vmlinux-6.1.btf")) == ""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "neither"),
        (b"text", "neither"),
        (module()[:100], "damaged"),
        (elf(text=b"code"), "no .BTF"),
        (b"\x28\xb5\x2f\xfd...", "zstd -d"),
        (lzma.compress(module())[:-20], "cannot read"),
        (gzip.compress(module())[:-20], "cannot read"),
    ],
)
def test_other_files_are_refused_with_advice(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "kvm.ko").write_bytes(data)
    with pytest.raises(BadInput, match=words) as caught:
        read_btf_file(tmp_path / "kvm.ko")
    assert caught.value.advice


def test_files_of_another_kernel_are_refused(tmp_path: Path) -> None:
    (tmp_path / "kvm.ko").write_bytes(module())
    with pytest.raises(BadInput, match=r"6\.1\.0-52"):
        checked_files([tmp_path / "kvm.ko"], "6.12.1", "")
    release = "6.1.0-52-cloud-amd64"
    assert checked_files([tmp_path / "kvm.ko"], release, "")[0].release == release
    (tmp_path / "vmlinux").write_bytes(module())
    with pytest.raises(BadInput, match="another build"):
        checked_files([tmp_path / "vmlinux"], "6.1.0-52-cloud-amd64", "ff" * 20)
    with pytest.raises(BadInput, match="cannot read"):
        checked_files([tmp_path / "missing.ko"], "6.1", "")


def test_a_build_id_among_other_notes() -> None:
    """As in vmlinux' .notes: Xen's notes are before it, and the linker pads between sections."""
    xen = struct.pack("<3I", 4, 6, 5) + b"Xen\0" + b"linux\0\0\0"
    own = struct.pack("<3I", 4, 20, 3) + b"GNU\0" + bytes(range(20))
    for between in (b"", bytes(4)):
        assert build_id_among(xen + between + own + xen) == bytes(range(20)).hex()
    assert build_id_among(xen * 3) == ""
    assert build_id_among(own[:12]) == ""
