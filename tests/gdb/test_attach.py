# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb_nept.attach() in a real gdb: the objects and the answers that open_dump() gives elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from bochs_lab.replay import Replay

import gdb_nept
from tests.dumps.machine import DumpingMachine
from tests.gdb import asked
from tests.gdb.batch import INIT, ROOT, output
from tests.gdb.conftest import Gdb, environment

ASKED = ROOT / "tests" / "gdb" / "asked.py"
IN_GDB = """\
import json, runpy, gdb_nept
told = runpy.run_path({script!r})["told"]
with gdb_nept.attach() as target:
    again = gdb_nept.attach()
    assert again.session is target.session
    with again:
        assert again.release == target.release
    found = {{"name": target.name, **told(target)}}
with target:  # a second time
    assert json.loads(json.dumps(told(target))) == json.loads(json.dumps(told(again)))
with open({out!r}, "w") as file:
    json.dump(found, file)
"""


@lru_cache
def of_file(memory: Path) -> Any:
    with gdb_nept.open_dump(memory) as target:
        return json.loads(json.dumps(asked.told(target)))


def in_gdb(folder: Path, *before: str) -> Any:
    script, out = folder / "ask.py", folder / "told.json"
    script.write_text(IN_GDB.format(script=str(ASKED), out=str(out)))
    shown = output([f"source {INIT}", *before, f"source {script}"], 300, environment())
    assert out.exists(), shown
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def elf(plain_snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("core")
    with DumpingMachine(plain_snapshot, folder) as machine:
        path = machine.dump("vmcore")
    yield path
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.gdb
@pytest.mark.qemu
@pytest.mark.bochs
@pytest.mark.parametrize("way", ["auto", "phymem"])
def test_behind_a_stub(replay: Replay, plain_snapshot: Path, tmp_path: Path, way: str) -> None:
    stub = f"target remote 127.0.0.1:{replay.port}"
    found = in_gdb(tmp_path, f"set nept memory {way}", stub)
    assert found.pop("name") == f"remote 127.0.0.1:{replay.port}"
    assert found == of_file(plain_snapshot / "memory.raw")


@pytest.mark.gdb
@pytest.mark.qemu
@pytest.mark.bochs
@pytest.mark.kdumpfile
@pytest.mark.parametrize("how", ["core-file", "nept-dump"])
def test_on_a_dump(elf: Path, plain_snapshot: Path, tmp_path: Path, how: str) -> None:
    found = in_gdb(tmp_path, f"{how} {elf}")
    assert found.pop("name") == f"dump {elf}"
    assert found == of_file(plain_snapshot / "memory.raw")


@pytest.mark.gdb
def test_attached_to_nothing(gdb: Gdb) -> None:
    said = gdb("python import gdb_nept", "python gdb_nept.attach()")
    assert "NeptError" in said or "NoKernel" in said
    assert "not attached" in said
