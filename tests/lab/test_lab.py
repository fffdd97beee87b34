# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself: what it leaves behind, what it says, and what its replay guarantees."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bochs_lab import linux_l1
from bochs_lab import snapshot as lab
from bochs_lab.console import facts
from bochs_lab.emulator import Emulator
from bochs_lab.errors import LabError
from bochs_lab.options import LabOptions
from bochs_lab.progress import Silent
from bochs_lab.replay import Replay

from tests import tools

LAB = Path(__file__).resolve().parents[2] / "scripts" / "lab"


def command(*words: str) -> subprocess.CompletedProcess[str]:
    done = [sys.executable, str(LAB), *words]
    return subprocess.run(done, capture_output=True, text=True, timeout=60, check=False)


def test_options_that_cannot_be_are_refused() -> None:
    options: tuple[dict[str, Any], ...] = (
        *({"kernel": "2.6"}, {"park": "nowhere"}, {"memory": 64}),
        *({"park": "nx"}, {"states": True, "park": "l2"}, {"bochs": "2.6"}),
    )
    for bad in options:
        with pytest.raises(LabError):
            LabOptions(**bad)


def test_the_kernel_line_follows_the_options() -> None:
    plain = LabOptions().kernel_line.split()
    assert {"nokaslr", "nopti"} <= set(plain)
    hardened = LabOptions(kaslr=True, pti=True, append="quiet lab.first=3").kernel_line.split()
    assert "nokaslr" not in hardened
    assert {"pti=on", "lab.first=3"} <= set(hardened)
    assert "lab.l1=states" in LabOptions(states=True, park="nx").kernel_line.split()
    assert "noxsave" in LabOptions(kernel="7.2").kernel_line.split()


def test_a_linux_l2_has_an_overlay_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="overlay"):
        linux_l1.with_linux_l2(LabOptions(overlay=tmp_path), Silent())


def test_another_processor_is_another_machine() -> None:
    usual, built = Emulator(), Emulator("3.0", "tigerlake")
    assert "model=corei7_skylake_x," in usual.template
    assert "model=tigerlake," in built.template
    assert "block_size=128" in built.template
    assert "sound" not in built.template  # which it is built without


def test_facts_are_the_json_lines_of_a_console() -> None:
    text = 'boot\r\nLAB {"park": "l2"}\r\n\x1b[0m{"exit": 1}\n{"broken": \nLAB no json\n'
    found = facts(text)
    assert found.objects == ({"park": "l2"}, {"exit": 1})
    assert found.unparsed == ('{"broken": ',)


def test_mistakes_are_told_without_a_traceback(tmp_path: Path) -> None:
    for words in (("replay", str(tmp_path)), ("snapshot", "--kernel", "9.9"), ("nonsense",)):
        done = command(*words)
        assert done.returncode != 0
        assert done.stderr.strip()
        assert "Traceback" not in done.stderr


def test_in_a_virtual_environment_it_takes_the_systems_python(tmp_path: Path) -> None:
    """Where pexpect is; README's `pip install .` is told to be done in such an environment."""
    has = ["/usr/bin/python3", "-c", "import pexpect"]
    if subprocess.run(has, capture_output=True, check=False).returncode:
        tools.missing("pexpect", "the system's Python has no pexpect: scripts/setup installs it")
    venv.create(tmp_path / "venv", with_pip=False)
    bare = str(tmp_path / "venv" / "bin" / "python")
    assert subprocess.run([bare, *has[1:]], capture_output=True, check=False).returncode
    done = subprocess.run([bare, str(LAB), "--help"], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: lab"), done.stderr


@pytest.mark.parametrize("port", ["99999", "0", "-1", "gdb", "1.5"])
@pytest.mark.parametrize("name", ["replay", "up", "stub"])
def test_a_port_that_is_none_is_refused_at_once(name: str, port: str) -> None:
    done = command(name, f"--gdb-port={port}")
    assert done.returncode == 2
    assert f"--gdb-port: {port} is no port: they are 1 to 65535" in done.stderr


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="nept-") as folder:
        yield Path(folder)


@pytest.mark.qemu
@pytest.mark.bochs
def test_a_folder_too_deep_for_a_socket_is_told(
    plain_snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    told = command("replay", "--detach", str(plain_snapshot))
    assert told.returncode == 1
    assert "too long for a socket" in told.stderr
    assert "XDG_RUNTIME_DIR" in told.stderr


@pytest.mark.qemu
@pytest.mark.bochs
def test_a_replay_tells_all_that_gdb_needs(
    plain_snapshot: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines, typed into gdb as they stand, and how to leave the machine as it is."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    try:
        told = command("replay", "--detach", str(plain_snapshot))
        assert told.returncode == 0, told.stderr
        assert "leave gdb with `disconnect`" in told.stderr
        lines = told.stdout.splitlines()
        assert lines[0] == f"source {LAB.parents[1] / 'gdb_nept' / 'init.py'}"
        assert lines[-1].startswith("target remote ")
        words = [word for line in [*lines, "nept-target", "disconnect"] for word in ("-ex", line)]
        gdb = ["gdb", "-nx", "-batch", *words]
        done = subprocess.run(gdb, capture_output=True, text=True, timeout=60, check=False)
        assert "kernel:   Linux" in done.stdout, done.stderr
    finally:
        assert "ended 1 replays" in command("down").stdout


@pytest.mark.bochs
def test_a_second_snapshot_builds_nothing(plain_snapshot: Path) -> None:
    done = command("snapshot")
    assert done.stdout.split()[-1] == str(plain_snapshot)
    assert "booting" not in done.stdout + done.stderr
    assert lab.ensure(LabOptions()) == plain_snapshot


@pytest.mark.bochs
def test_the_console_had_no_line_that_nobody_understood(snapshot: Path) -> None:
    found = facts((snapshot / "console.txt").read_text())
    assert found.unparsed == ()
    assert len(found.objects) > 1000
    assert (snapshot / "memory.raw").stat().st_size == 512 << 20


@pytest.mark.bochs
def test_kpti_is_really_on_where_asked(snapshot: Path) -> None:
    asked = json.loads((snapshot / lab.META).read_text())["options"]["pti"]
    told = [one for one in json.loads((snapshot / "facts.json").read_text()) if "pti" in one]
    assert [one["pti"] for one in told] == [asked]


@pytest.mark.qemu
@pytest.mark.bochs
def test_a_replay_that_runs_changes_no_memory(plain_snapshot: Path, tmp_path: Path) -> None:
    """As after gdb's detach: the machine runs, and halts at once."""
    with Replay(plain_snapshot, tmp_path) as machine:
        machine.monitor("cont")
        dump = tmp_path / "low.bin"
        machine.monitor(f'pmemsave 0 0x1000000 "{dump}"')  # a bare path would be a division
        seen = dump.read_bytes()
    with (plain_snapshot / "memory.raw").open("rb") as memory:
        kept = memory.read(0x1000000)
    ram = [(0, 0xA0000), (0x100000, 0x1000000)]  # between lie the VGA card and the ROMs
    for low, high in ram:
        ours, theirs = seen[low:high], kept[low:high]
        assert hashlib.sha256(ours).digest() == hashlib.sha256(theirs).digest()
