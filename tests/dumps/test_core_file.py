# SPDX-License-Identifier: GPL-2.0-or-later
"""ELF cores that we write, read by libkdumpfile and by readelf."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput, MemoryUnreadable
from gdb_nept.memory.core_file import CoreFile, NotWrittenTo
from gdb_nept.memory.dump import open_dump
from gdb_nept.memory.elf_dump import OUR_NOTE, read_headers
from tests.dumps.files import PAGE, pages

NOTES = [(b"VMCOREINFO", b"OSRELEASE=6.1\n"), (OUR_NOTE, b"a test's\n")]
FAR = 1 << 40


def written(path: Path, room: int = 8, force: bool = False) -> Path:
    with CoreFile(path, force, room) as core:
        core.add(0, pages(1, 0, 0, 2))
        core.add(4 * PAGE, pages(0, 3))
        core.add(FAR, pages(0))
        assert core.zero_bytes == 4 * PAGE
        assert core.memory_bytes == 7 * PAGE
        assert not path.exists() or force
        core.finish(NOTES)
    return path


@pytest.mark.kdumpfile
@pytest.mark.parametrize("room", [8, 2], ids=["usual", "more-headers-than-room"])
def test_what_was_written_is_read_and_no_more(tmp_path: Path, room: int) -> None:
    path = written(tmp_path / "core", room)
    headers = read_headers(path)
    assert [(one.start, one.size) for one in headers.segments] == [(0, 6 * PAGE), (FAR, PAGE)]
    assert headers.vmcoreinfo == b"OSRELEASE=6.1\n"
    assert not headers.cut
    with open_dump(path) as dump:
        assert dump.memory.read(HostPhys(0), 6 * PAGE) == pages(1, 0, 0, 2, 0, 3)
        assert dump.memory.read(HostPhys(FAR), PAGE) == bytes(PAGE)
        for place in (6 * PAGE, FAR - PAGE, FAR + PAGE):
            with pytest.raises(MemoryUnreadable):
                dump.memory.read(HostPhys(place), PAGE)
    if shutil.which("readelf"):
        said = subprocess.run(
            ["readelf", "-lW", path], capture_output=True, text=True, check=True
        ).stdout
        assert said.count(" LOAD ") == 2
        assert f"{FAR:#018x} 0x001000 0x001000" in said


def test_zeros_take_no_place(tmp_path: Path) -> None:
    with CoreFile(tmp_path / "core") as core:
        core.add(0, bytes(64 << 20))
        core.finish(NOTES)
    told = (tmp_path / "core").stat()
    assert told.st_size > 64 << 20
    assert told.st_blocks * 512 < 1 << 20
    assert told.st_mode & 0o077 == 0


def test_nothing_is_lost_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(b"somebody's")
    with pytest.raises(BadInput, match="is there already"):
        CoreFile(path)
    with pytest.raises(BadInput, match="is no export"):
        CoreFile(path, force=True)
    assert path.read_bytes() == b"somebody's"
    path.unlink()
    written(path)
    with pytest.raises(BadInput, match="--force"):
        CoreFile(path)
    written(path, force=True)
    with CoreFile(tmp_path / "broken") as core:
        core.add(0, pages(1))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(NotWrittenTo, match="No such file"):
        CoreFile(tmp_path / "missing" / "core")
