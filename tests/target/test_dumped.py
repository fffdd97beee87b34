# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that hold no kernel because they hold nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.errors import NoKernel
from gdb_nept.memory.dump import open_dump
from gdb_nept.memory.raw import RawMemory
from gdb_nept.target.dumped import attach_dump


def test_a_file_of_holes_alone_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "memory.raw"
    with path.open("wb") as file:
        file.truncate(64 << 30)
    read, asked = RawMemory.read, []

    def counted(memory: RawMemory[HostPhys], address: HostPhys, size: int) -> bytes:
        asked.append(size)
        return read(memory, address, size)

    monkeypatch.setattr(RawMemory, "read", counted)
    with open_dump(path) as dump, pytest.raises(NoKernel, match="no Linux kernel"):
        attach_dump(dump, cache=None)
    assert sum(asked) < 1 << 20
