# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump of 64 GiB that has few pages: how soon it answers, and in how much memory."""

from __future__ import annotations

import mmap
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from gdb_nept.memory.dump import open_dump
from gdb_nept.memory.elf_dump import EHDR, EM_X86_64, ET_CORE, PHDR, PT_LOAD, PT_NOTE
from gdb_nept.render.page import Status
from tests.dumps.files import IDENT, PAGE, compressed, flat, note

pytestmark = pytest.mark.kdumpfile

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64 << 30
DATA = 1 << 16  # where it begins in the file
SECONDS, BYTES = 1.0, 100 << 20
#: Run by a small process, since one that was forked counts the memory of that which forked it.
MEASURED = """
import resource, subprocess, sys, time
start = time.monotonic()
quiet = subprocess.DEVNULL
status = subprocess.run(sys.argv[1:], stdout=quiet, stderr=quiet).returncode
seconds = time.monotonic() - start
print(seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, status)
"""
TRIES = 3  # the machine has other work, too


def sparse(path: Path, notes: bytes = b"") -> Path:
    """An ELF dump of SIZE bytes of RAM, of which none is there yet."""
    table = [
        PHDR.pack(PT_NOTE, 0, EHDR.size + 2 * PHDR.size, 0, 0, len(notes), len(notes), 4),
        PHDR.pack(PT_LOAD, 7, DATA, 0, 0, SIZE, SIZE, PAGE),
    ]
    head = (IDENT, ET_CORE, EM_X86_64, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, 2, 0, 0, 0)
    path.write_bytes(EHDR.pack(*head) + b"".join(table) + notes)
    os.truncate(path, DATA + SIZE)
    return path


def put(dump: Path, pages: dict[int, bytes]) -> None:
    with dump.open("r+b") as file:
        for place, data in pages.items():
            file.seek(DATA + place)
            file.write(data)


def of_snapshot(memory: Path, dump: Path, with_note: bool) -> Path:
    """The lab's memory at the bottom of it; `with_note` its kernel's vmcoreinfo as well."""
    with (
        memory.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as whole,
    ):
        found = re.search(rb"VMCOREINFO\0\0(?=OSRELEASE=[0-9])", whole)
        assert found is not None
        (size,) = struct.unpack_from("<I", whole, found.start() - 8)
        notes = note(b"VMCOREINFO", 0, whole[found.end() : found.end() + size])
        sparse(dump, notes if with_note else b"")
        parts = range(0, len(whole), DATA)
        put(dump, {at: whole[at : at + DATA] for at in parts if any(whole[at : at + DATA])})
    return dump


def cost(*words: str, cache: Path) -> tuple[float, int, int]:
    """Seconds (the least of some tries), the most memory of a process of it, and its status."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    tries = []
    for _ in range(TRIES):
        command = [sys.executable, "-c", MEASURED, sys.executable, "-m", "gdb_nept", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        seconds, kilobytes, status = done.stdout.split()
        tries.append((float(seconds), int(kilobytes) << 10, int(status)))
    return min(tries)


def hold(dump: Path, tmp_path: Path, *words: str, status: Status = Status.DONE) -> None:
    start, _, _ = cost("--version", cache=tmp_path)
    seconds, most, code = cost("--dump", str(dump), *words, cache=tmp_path)
    assert code == status.value
    assert seconds - start < SECONDS
    assert most < BYTES


def test_a_file_without_a_kernel(tmp_path: Path) -> None:
    dump = sparse(tmp_path / "vmcore")
    put(dump, {PAGE: b"x" * PAGE, SIZE // 2: b"y" * PAGE, SIZE - PAGE: b"z" * PAGE})
    with open_dump(dump) as opened:
        assert sum(map(len, opened.memory.data_ranges())) < 1 << 20
        assert opened.memory.left_out() == 0
    hold(dump, tmp_path, "vms", status=Status.NOT_FOUND)
    hold(dump, tmp_path, "scan")


@pytest.mark.parametrize("flattened", [False, True])
def test_a_compressed_file_without_a_kernel(tmp_path: Path, flattened: bool) -> None:
    """All its pages are in the file, and share one of zeros; of 16 GiB, whose table is 96 MiB."""
    count = SIZE // 4 // PAGE
    held = dict.fromkeys((1, count // 2, count - 1), b"x" * PAGE)
    dump = compressed(tmp_path / "vmcore", held, count)
    hold(
        flat(dump, tmp_path / "flat") if flattened else dump,
        tmp_path,
        "vms",
        status=Status.NOT_FOUND,
    )


@pytest.mark.bochs
@pytest.mark.parametrize("with_note", [True, False], ids=["vmcoreinfo", "searched-for"])
def test_a_host(plain_snapshot: Path, tmp_path: Path, with_note: bool) -> None:
    """The first time its types are looked for; after that they are known."""
    dump = of_snapshot(plain_snapshot / "memory.raw", tmp_path / "vmcore", with_note)
    for words in (("vms",), ("walk", "0x2000000"), ("check",)):
        hold(dump, tmp_path, *words)
