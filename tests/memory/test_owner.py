# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose the other end of a connection is, with real processes and sockets."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from gdb_nept.memory import owner
from gdb_nept.memory.owner import owners, process
from gdb_nept.memory.transport import NotOffered
from tests.memory.emulator import listener


@pytest.mark.parametrize("kind", ["unix", "tcp4", "tcp6", "both"])
def test_the_process_at_the_other_end_is_found(kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / "stub") if kind == "unix" else ""
    with listener(kind, path) as other:
        (found,) = owners(other.address)
        assert found.pid == other.pid
        assert found.uid == os.getuid()
        assert found.alive()
        assert str(found).endswith(f"(process {other.pid})")
    assert not found.alive()


def test_what_it_started_comes_after_it() -> None:
    with listener("tcp4", child=True) as other:
        assert [one.pid for one in owners(other.address)] == [other.pid, other.child]


def test_a_debugger_that_does_not_tell_its_address_is_helped() -> None:
    with listener("tcp4") as other:
        assert other.pid in [one.pid for one in owners("")]


def test_a_pipe_leads_to_what_we_started() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        try:
            assert child.pid in [one.pid for one in owners("| sleep 1000")]
            assert os.getpid() not in [one.pid for one in owners("| sleep 1000")]
        finally:
            child.kill()


def test_a_connection_to_ourselves_leads_to_what_we_started_alone() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
        server.accept()[0],
        subprocess.Popen(["sleep", "1000"]) as child,
    ):
        found = [one.pid for one in owners(f"127.0.0.1:{ours.getpeername()[1]}")]
        child.kill()
    assert child.pid in found
    assert os.getpid() not in found


def test_other_connections_are_not_taken_for_it() -> None:
    with listener("tcp4"), pytest.raises(NotOffered, match=r"127\.0\.0\.1:1 is not found"):
        owners("127.0.0.1:1")


def test_a_serial_line_has_no_owner() -> None:
    with pytest.raises(NotOffered, match="behind the line /dev/ttyS0"):
        owners("/dev/ttyS0")


def proc(folder: Path, table: str) -> Path:
    """A /proc whose table of connections is `table`."""
    (folder / "net").mkdir()
    (folder / "net" / "tcp").write_text("  sl  local_address\n" + table)
    (folder / "self").symlink_to("/proc/self")
    (folder / str(os.getpid())).symlink_to("/proc/self")
    return folder


def test_what_is_elsewhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listener("tcp4") as other:
        monkeypatch.setattr(owner, "PROC", proc(tmp_path, ""))
        with pytest.raises(NotOffered, match="another network namespace"):
            owners(other.address)


def test_what_belongs_to_somebody_else_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listener("tcp4") as other:
        here, there = other.ours.getsockname()[1], other.ours.getpeername()[1]
        row = f"0: 0100007F:{there:04X} 0100007F:{here:04X} 01 0:0 0:0 0 64055 0 77 1\n"
        monkeypatch.setattr(owner, "PROC", proc(tmp_path, row))
        with pytest.raises(NotOffered, match="it belongs to user 64055") as caught:
            owners(other.address)
    assert "as root" in caught.value.advice


def test_a_number_used_again_is_another_process() -> None:
    ours = process(os.getpid())
    assert ours is not None
    assert ours.alive()
    assert not owner.Process(ours.pid, ours.name, ours.parent, ours.started - 1).alive()


def test_a_computer_without_proc_is_one_on_which_nobody_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container, a chroot, another system than Linux."""
    monkeypatch.setattr(owner, "PROC", tmp_path)
    with listener("tcp4") as other:
        for address in (other.address, ""):
            with pytest.raises(NotOffered, match="cannot be read here") as caught:
                owners(address)
            assert "mount -t proc" in caught.value.advice
    with pytest.raises(NotOffered, match="not visible here"):
        owners("| sleep 1000")
