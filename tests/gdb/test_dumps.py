# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps asked of in gdb: named, or open as gdb's core."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dumps.files import PAGE, elf, note, pages
from tests.gdb.conftest import Gdb

pytestmark = [pytest.mark.gdb, pytest.mark.kdumpfile]


@pytest.fixture
def vmcore(tmp_path: Path) -> Path:
    """Memory that holds no kernel."""
    prstatus = note(b"CORE", 1, bytes(336))
    return elf(tmp_path / "vmcore", [(0, pages(*range(16)), 16 * PAGE)], prstatus)


def test_a_dump_that_is_named(gdb: Gdb, vmcore: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no dump\n")
    said = gdb(f"nept-dump {text}", f"nept-dump {vmcore}", "nept-target", "nept-watch", "nept-dump")
    words = " ".join(said.split())  # where a line breaks depends on how long tmp_path is
    assert "has no format of a dump that we know" in words
    assert f"dump {vmcore}: ELF dump, read by libkdumpfile" in words
    assert "no Linux kernel" in words
    assert "a dump does not run" in words
    assert words.endswith("no dump")


def test_gdbs_own_core_is_read_by_its_path(gdb: Gdb, vmcore: Path) -> None:
    said = " ".join(gdb(f"core-file {vmcore}", "nept-target", "core-file", "nept-vms").split())
    assert f"dump {vmcore}" in said
    assert "ELF dump, read by libkdumpfile" in said
    assert "not attached" in said.rsplit("ELF dump", 1)[1]


def test_a_library_that_is_named(gdb: Gdb, vmcore: Path) -> None:
    said = gdb("set nept libkdumpfile /nonsense.so", f"nept-dump {vmcore}")
    assert "takes libkdumpfile" in said
    assert "/nonsense.so" in said
