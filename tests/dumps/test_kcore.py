# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of the computer that this runs on, and what is said where it cannot be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.__main__ import main
from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput, MemoryUnreadable
from gdb_nept.memory import dump as dump_module
from gdb_nept.memory import kcore as kcore_module
from gdb_nept.memory.dump import open_live
from gdb_nept.memory.elf_dump import EHDR, EM_X86_64, ET_CORE
from gdb_nept.memory.kcore import NOT_PHYSICAL
from gdb_nept.memory.taken import Taken
from tests.dumps.files import IDENT, PAGE, elf, pages

Capture = pytest.CaptureFixture[str]
FAR = 1 << 36
DIRECT = 0xFFFF888000000000


@pytest.fixture
def kcore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kernel's would be."""
    monkeypatch.setattr(dump_module, "KCORE", tmp_path / "kcore")
    monkeypatch.setattr(kcore_module, "LOCKDOWN", tmp_path / "lockdown")
    return tmp_path / "kcore"


def test_its_pages_are_read(kcore: Path) -> None:
    elf(kcore, [(PAGE, pages(1, 2), 2 * PAGE), (FAR, pages(3), PAGE)], virtual=DIRECT)
    with open_live() as live:
        assert live.live
        assert live.taken == Taken(live=True)
        assert live.memory.read(HostPhys(FAR), 8) == bytes([3] * 8)
        with pytest.raises(MemoryUnreadable):
            live.memory.read(HostPhys(0), 8)
        assert "ran while it was read" in live.notes[0]


def test_live_on_the_shell(kcore: Path, capsys: Capture) -> None:
    assert main(["--live", "vms"]) == 1
    assert "there is no" in capsys.readouterr().err
    elf(kcore, [(PAGE, pages(1, 2), 2 * PAGE)], virtual=DIRECT)
    assert main(["--live", "target"]) == 1
    shown = capsys.readouterr()
    assert "this machine, which runs (/proc/kcore)" in shown.out
    assert "from a running machine" in shown.err
    assert main(["--live", "--dump", "x", "vms"]) == 2


def why() -> str:
    with pytest.raises(BadInput) as caught:
        open_live()
    return f"{caught.value.message}: {caught.value.advice}"


def refused(monkeypatch: pytest.MonkeyPatch, number: int, user: int) -> str:
    """What is said where the kernel refuses `user` the opening."""

    really = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if path.name == "kcore":
            raise OSError(number, os.strerror(number), str(path))
        return really(path, mode, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        patch.setattr(os, "geteuid", lambda: user)
        return why()


def test_no_file(kcore: Path) -> None:
    assert why().startswith(f"there is no {kcore}: Its kernel is built without CONFIG_PROC_KCORE")
    assert "Run nept on the host itself" in why()


def test_no_permission(kcore: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(monkeypatch, errno.EACCES, 1000)
    assert said.startswith(f"{kcore} cannot be opened: Permission denied: Only root may")
    assert "sudo nept --live" in refused(monkeypatch, errno.EPERM, 1000)
    said = refused(monkeypatch, errno.EPERM, 0)
    assert "CAP_SYS_RAWIO" in said
    kcore.with_name("lockdown").write_text("none integrity [confidentiality]\n")
    said = refused(monkeypatch, errno.EPERM, 0)
    assert "locked down (lockdown=confidentiality)" in said
    assert "from a dump" in said
    assert "from a dump" in refused(monkeypatch, errno.EIO, 0)


def test_an_empty_file(kcore: Path) -> None:
    """As containers put it in its place."""
    kcore.symlink_to("/dev/null")
    assert why().startswith(f"{kcore} is empty: Is this a container, which hides it?")


def test_headers_that_cannot_be_read(kcore: Path) -> None:
    kcore.write_bytes(b"\x7fELF\x02\x01")
    assert "are cut or damaged" in why()
    head = (IDENT, ET_CORE, EM_X86_64, 1, 0, 1 << 62, 0, 0, EHDR.size, 56, 4, 0, 0, 0)
    kcore.write_bytes(EHDR.pack(*head))
    for said in ("are cut or damaged", "through its hypervisor's gdb stub"):
        assert said in why()


def test_no_physical_addresses(kcore: Path) -> None:
    """As before 4.14."""
    elf(kcore, [(NOT_PHYSICAL, pages(1), PAGE)], virtual=-1)
    assert "tells no physical addresses" in why()
