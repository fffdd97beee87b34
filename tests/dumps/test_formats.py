# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps told by what they hold, and what is said of those that cannot be used."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput, MemoryUnreadable, TargetGone, UnreadKind
from gdb_nept.memory import kdump, kdump_process
from gdb_nept.memory.cpu_registers import Registers
from gdb_nept.memory.dump import open_dump
from gdb_nept.memory.elf_dump import EHDR, EM_X86_64, ET_CORE, OUR_NOTE, read_headers
from gdb_nept.memory.flattened import flattened_is_cut
from gdb_nept.memory.kdump_table import reader, table_of
from gdb_nept.memory.taken import Taken, Vmcss
from tests.dumps.files import (
    CR3,
    IDENT,
    PAGE,
    RIP,
    RSP,
    compressed,
    elf,
    flat,
    lime,
    note,
    pages,
    prstatus,
    qemu_note,
)

FAR = 1 << 36


def unread(path: Path, address: int, size: int = 8) -> UnreadKind:
    with open_dump(path) as dump, pytest.raises(MemoryUnreadable) as caught:
        dump.memory.read(HostPhys(address), size)
    return caught.value.kind


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """Two stretches, the second far above, of which the last page was left out."""
    held = [(0, pages(1, 2, 3), 3 * PAGE), (FAR, pages(4, 5), 3 * PAGE)]
    return elf(tmp_path / "vmcore", held, prstatus() + note(b"VMCOREINFO", 0, b"OSRELEASE=6.1\n"))


@pytest.mark.kdumpfile
def test_an_elf_dump_gives_its_pages_and_no_others(dump: Path) -> None:
    with open_dump(dump) as opened:
        read = opened.memory.read
        assert read(HostPhys(PAGE - 4), 8) == bytes([1] * 4 + [2] * 4)
        assert read(HostPhys(FAR), 2 * PAGE) == pages(4, 5)
        assert opened.memory.data_ranges() == [range(3 * PAGE), range(FAR, FAR + 2 * PAGE)]
        assert opened.memory.left_out() == PAGE
        assert opened.vmcoreinfo == b"OSRELEASE=6.1\n"
        assert opened.cpus == (Registers(RIP, RSP, None),)
        assert opened.by_kdump
        assert opened.taken == Taken(vmcss=Vmcss.CLEARED)
        assert not opened.notes
    assert unread(dump, FAR + 2 * PAGE) is UnreadKind.FILTERED
    assert unread(dump, FAR + PAGE, 2 * PAGE) is UnreadKind.FILTERED
    assert unread(dump, 3 * PAGE) is UnreadKind.NO_RAM
    assert unread(dump, 1 << 50) is UnreadKind.NO_RAM


@pytest.mark.kdumpfile
@pytest.mark.parametrize(
    ("notes", "vmcss"),
    [
        (prstatus(), Vmcss.CLEARED),
        (prstatus() + qemu_note(), Vmcss.KEPT),
        (note(OUR_NOTE, 0, b"L1's memory"), Vmcss.KEPT),
        (b"", Vmcss.UNKNOWN),
    ],
    ids=["kdump", "qemu", "nept-export", "nobody's"],
)
def test_who_took_a_dump_is_told_by_its_notes(tmp_path: Path, notes: bytes, vmcss: Vmcss) -> None:
    with open_dump(elf(tmp_path / "vmcore", [(0, pages(1), PAGE)], notes)) as opened:
        assert opened.taken == Taken(vmcss=vmcss)


@pytest.mark.kdumpfile
def test_what_a_cut_dump_lacks_is_no_zero(dump: Path) -> None:
    os.truncate(dump, dump.stat().st_size - PAGE - 1)
    with open_dump(dump) as opened:
        assert opened.memory.read(HostPhys(0), 8) == bytes([1] * 8)
        assert "cut" in opened.notes[0]
    assert unread(dump, FAR) is UnreadKind.CUT
    assert unread(dump, FAR + PAGE) is UnreadKind.CUT


@pytest.mark.kdumpfile
def test_a_library_that_hangs_is_not_waited_for_again_and_again(
    dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice; one that crashes is cheap, and is tried more often."""
    child = tmp_path / "child.py"
    opened = (
        "import struct, sys, time\nsys.stdout.buffer.write(struct.pack('<cQ', b'd', 2) + b'{}')"
    )
    monkeypatch.setattr(kdump_process, "CHILD", child)
    hangs, crashes = ("time.sleep(60)", 0.2, 2), ("sys.stdin.read(1)", 60.0, kdump.MOST_STARTS)
    for ends, seconds, times in (hangs, crashes):
        monkeypatch.setattr(kdump, "READING", seconds)  # a crash may be slow on a busy machine
        child.write_text(f"{opened}\nsys.stdout.flush()\n{ends}\n")
        with open_dump(dump) as found:
            for _ in range(times):
                with pytest.raises(MemoryUnreadable):
                    found.memory.read(HostPhys(0), 8)
            with pytest.raises(TargetGone, match="again and again"):
                found.memory.read(HostPhys(0), 8)


def test_a_hang_ends_the_process_where_nobody_waits_any_more() -> None:
    """Whoever asked may have been killed."""
    lines = (
        "import io, sys, time",
        "import kdump_child as child",
        "class Hangs:",
        "    def read(self, start, size): time.sleep(60)",
        "child.LONGEST = 1",
        "asked = io.BytesIO(child.REQUEST.pack(child.READ, 0, 8))",
        "child.serve(Hangs(), asked, sys.stdout.buffer)",
    )
    folder = Path(kdump.__file__).parent
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=folder, check=False)
    assert done.returncode == -signal.SIGALRM


@pytest.mark.kdumpfile
@pytest.mark.parametrize("flattened", [False, True])
def test_where_a_compressed_dump_has_anything_but_zeros(tmp_path: Path, flattened: bool) -> None:
    """Pages of zeros between others are read with them, where there are few."""
    count = 40_000
    held = {3: pages(1), 5: pages(2), 100: pages(3), 20_000: pages(0), count - 1: pages(4)}
    path = compressed(tmp_path / "vmcore", held, count)
    path = flat(path, tmp_path / "flat") if flattened else path
    with open_dump(path) as dump:
        assert dump.memory.data_ranges() == [
            range(number * PAGE, stop * PAGE)
            for number, stop in ((3, 6), (100, 101), (20_000, 20_001), (count - 1, count))
        ]
        assert dump.memory.read(HostPhys(3 * PAGE), 3 * PAGE) == pages(1, 0, 2)
        assert dump.memory.left_out() == 0


@pytest.mark.kdumpfile
def test_where_the_shared_page_is_none_of_zeros_nothing_is_passed_over(tmp_path: Path) -> None:
    path = compressed(tmp_path / "vmcore", {3: pages(1)}, 80)
    with path.open("r+b") as file:
        table = table_of(reader(file))
        assert table is not None
        file.seek(table.end)
        file.write(b"x")
    with open_dump(path) as dump:
        assert dump.memory.data_ranges() == [range(80 * PAGE)]


@pytest.mark.kdumpfile
def test_a_compressed_dump_without_its_zeros(tmp_path: Path) -> None:
    path = compressed(
        tmp_path / "vmcore", {3: pages(1), 4: pages(0), 90: pages(3)}, 104, zeros=False
    )
    with open_dump(path) as dump:
        wanted = [range(3 * PAGE, 5 * PAGE), range(90 * PAGE, 91 * PAGE)]
        assert dump.memory.data_ranges() == wanted
        assert dump.memory.left_out() == 101 * PAGE


def test_lime(tmp_path: Path) -> None:
    path = lime(tmp_path / "dump.lime", [(PAGE, pages(1, 2)), (FAR, pages(3))])
    with open_dump(path) as dump:
        assert dump.memory.read(HostPhys(2 * PAGE - 1), 2) == b"\1\2"
        assert dump.memory.data_ranges() == [range(PAGE, 3 * PAGE), range(FAR, FAR + PAGE)]
        assert not dump.notes
    assert unread(path, 0) is UnreadKind.NO_RAM
    assert unread(path, FAR, 2 * PAGE) is UnreadKind.NO_RAM
    os.truncate(path, path.stat().st_size - 8)
    with open_dump(path) as dump:
        assert "cut" in dump.notes[0]
    assert unread(path, FAR + PAGE - 8) is UnreadKind.CUT
    with open_dump(lime(path, [(0, pages(1))])) as dump:
        assert not dump.notes
    path.write_bytes(struct.pack("<4sIQQ8x", b"EMiL", 1, 0, (1 << 64) - 1) + pages(1))
    with open_dump(path) as dump:
        assert dump.memory.data_ranges() == [range(PAGE)]
        assert "cut" in dump.notes[0]
    lime(path, [(0, pages(1))])
    with path.open("ab") as file:
        file.write(bytes(64))
    with pytest.raises(BadInput, match="header of range 1"):
        open_dump(path)


def test_registers_of_qemus_note(tmp_path: Path) -> None:
    path = elf(tmp_path / "vmcore", [(0, pages(1), PAGE)], prstatus() + qemu_note())
    assert read_headers(path).cpus == (Registers(RIP, RSP, CR3),)
    assert read_headers(path).by_qemu


def test_a_dump_with_paging_is_refused(tmp_path: Path) -> None:
    path = elf(
        tmp_path / "vmcore", [(0, pages(1), 9 * PAGE)], qemu_note(), virtual=0xFFFF888000000000
    )
    with pytest.raises(BadInput, match=r"(?s)most of memory is not in it.*without -p"):
        open_dump(path)


def far_table(place: int, size: int = 56, count: int = 1) -> bytes:
    """The header of a dump with its program headers at `place`."""
    head = (IDENT, ET_CORE, EM_X86_64, 1, 0, place, 0, 0, EHDR.size, size, count, 0, 0, 0)
    return EHDR.pack(*head) + bytes(200)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"\x1f\x8b\x08" + bytes(5000), "gzip -dk memory"),
        (b"\x28\xb5\x2f\xfd" + bytes(5000), "zstd -d memory"),
        (b"LUKS\xba\xbe" + bytes(5000), "is encrypted"),
        (b"Salted__" + bytes(5000), "is encrypted"),
        (b"QFI\xfb" + bytes(1 << 20), "is a disk"),
        (b"no dump\n" * (1 << 18), "no format of a dump that we know"),
        (bytes(4096), "no format of a dump that we know"),
        (os.urandom(1 << 20), "encrypted or compressed"),
        (b"\x7fELF\x02\x01" + bytes(20), "ELF headers of .* are cut or damaged"),
        (b"\x7fELF\x01\x01" + bytes(80), "32-bit ELF"),
        (far_table(1 << 63), "ELF headers of .* are cut or damaged"),
        (far_table(64, size=0xFFFF, count=0xFFFE), "ELF headers of .* are cut or damaged"),
    ],
)
def test_what_is_no_dump(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "memory"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=told):
        open_dump(path)


def test_elf_files_that_are_no_dumps(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    with pytest.raises(BadInput, match=r"(?s)no core file.*--btf"):
        open_dump(elf(path, [(0, pages(1), PAGE)], kind=2))
    with pytest.raises(BadInput, match="another processor"):
        open_dump(elf(path, [(0, pages(1), PAGE)], machine=183))
    with pytest.raises(BadInput, match="holds no memory"):
        open_dump(elf(path, []))
    with pytest.raises(BadInput, match="no regular file"):
        open_dump(tmp_path)


@pytest.mark.kdumpfile
def test_a_library_that_is_none(dump: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"(?s)takes libkdumpfile.*apt install libkdumpfile10"):
        open_dump(dump, tmp_path / "libkdumpfile.so")


def test_a_flattened_dump_ends_with_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "flat"
    path.write_bytes(bytes(64) + b"\xff" * 16)
    assert not flattened_is_cut(path)
    path.write_bytes(bytes(64) + b"\xff" * 15)
    assert flattened_is_cut(path)
