# SPDX-License-Identifier: GPL-2.0-or-later
"""nept triage: many dumps, some of them damaged, here and over a Dask cluster."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.__main__ import main
from gdb_nept.commands import many
from gdb_nept.commands.bar import Bar
from gdb_nept.commands.many import Job
from tests import tools
from tests.overlay import Overlay, opened
from tests.schemas import hold

ROOT = Path(__file__).resolve().parents[2]


def triaged(*words: str) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "gdb_nept", "triage", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        hold("triage", line)
    return done.returncode, lines, done.stderr


@pytest.fixture
def bad(tmp_path: Path) -> list[str]:
    """Files in which there is nothing to find."""
    (tmp_path / "empty.raw").write_bytes(b"")
    (tmp_path / "zeros.raw").write_bytes(bytes(1 << 20))
    (tmp_path / "text of somebody's.raw").write_text("not a dump\n" * 1000)
    (tmp_path / "a folder.raw").mkdir()
    names = sorted(str(path) for path in tmp_path.glob("*.raw"))
    return [*names, str(tmp_path / "missing.raw"), "-dash.raw"]


def test_a_line_for_each_bad_file_in_their_order(bad: list[str]) -> None:
    status, lines, errors = triaged("--jobs", "3", "--", *bad)
    assert status == 1
    assert [line["file"] for line in lines] == bad
    assert {line["outcome"] for line in lines} == {"unreadable"}
    assert all(line["missing"][0]["what"] for line in lines)
    assert errors == "", "no bar where there is no terminal"


def test_no_file_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triage"]) == 2
    assert "there is no dump to look at" in capsys.readouterr().err
    assert main(["triage", "--jobs", "0", "x"]) == 2
    assert main(["triage", "--nonsense", "x"]) == 2
    assert "'nept triage --help'" in capsys.readouterr().err


def test_one_that_takes_too_long_is_told(tmp_path: Path) -> None:
    line = json.loads(Job(seconds=0.001).line(str(tmp_path / "x")))
    hold("triage", line)
    assert line["outcome"] == "timed out"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -SEGV $$", "ended by SIGSEGV"),
        ("echo oh no >&2; exit 7", "status 7: oh no"),
        ("echo '{\"schema\": 1}'; echo more", "status 0"),
        (None, "cannot be started"),
    ],
)
def test_one_that_crashes_costs_no_other(
    script: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    if script is not None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(program))
    line = json.loads(Job().line("x"))
    hold("triage", line)
    assert line["outcome"] == "crashed"
    assert said in line["missing"][0]["what"]


def test_the_bar() -> None:
    bar = Bar(4)
    bar()
    assert bar.line(10.0) == f"[{'#' * 7}{'.' * 23}] 1/4, 10 s, 30 s to go"


def test_a_cluster_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    tools.module("distributed")
    many.CONNECT = 1.0
    assert main(["triage", "--dask", "tcp://127.0.0.1:1", "x"]) == 1
    assert "no Dask cluster at tcp://127.0.0.1:1" in capsys.readouterr().err


def test_without_dask_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["triage", "--dask", "tcp://127.0.0.1:1", "x"]) == 1
    assert "gdb_nept[dask]" in capsys.readouterr().err


def test_a_cluster_of_two_workers_says_the_same_in_order(bad: list[str]) -> None:
    distributed = tools.module("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        found = triaged("--dask", cluster.scheduler_address, "--", *bad)
    assert found[:2] == triaged("--jobs", "2", "--", *bad)[:2]


# -- over the lab's memories --------------------------------------------------------------------


def damaged(snapshot: Path, to: Path, poison: Mapping[str, int], pte: int | None = None) -> str:
    """A copy with fields of vmcs12 replaced, and the PTE of the access that was reflected."""
    session, _ = opened(snapshot, poison, {} if pte is None else {1: pte})
    memory = session.kernel.physical
    assert isinstance(memory, Overlay)
    command = ["cp", "--sparse=always", "--reflink=auto", str(snapshot / "memory.raw"), str(to)]
    subprocess.run(command, check=True)
    with to.open("r+b") as file:
        for place, byte in memory.bytes.items():
            file.seek(place)
            file.write(bytes((byte,)))
    return str(to)


@pytest.mark.bochs
def test_whole_and_damaged_copies(exit_snapshot: Path, tmp_path: Path, bad: list[str]) -> None:
    whole = str(exit_snapshot / "memory.raw")
    wrong = damaged(exit_snapshot, tmp_path / "wrong", {"exit_qualification": 0x7})
    no_eptp = damaged(exit_snapshot, tmp_path / "eptp", {"ept_pointer": 0xFFF})
    cut = tmp_path / "cut"
    shutil.copy(no_eptp, cut)
    with cut.open("r+b") as file:
        file.truncate(96 << 20)
    files = [whole, wrong, bad[0], no_eptp, str(cut), whole]
    status, lines, _ = triaged(*files)
    assert status == 3
    assert [line["file"] for line in lines] == files
    first, second, third, fourth, fifth, last = lines
    assert first == last
    assert (first["status"], first["anomalies"], first["missing"]) == (0, [], [])
    (nested,) = first["nested"]
    assert nested["check"]["finding"] == "agree"
    assert second["status"] == 3
    assert second["nested"][0]["check"]["finding"] == "differ"
    assert any("differ" in each for each in second["anomalies"])
    assert third["outcome"] == "unreadable"
    assert any("VM entry refuses the EPTP" in each for each in fourth["anomalies"])
    assert (fifth["status"], fifth["vms"]) == (5, None)
    assert "whether KVM is loaded cannot be told" in fifth["missing"][0]["what"]


@pytest.mark.bochs
def test_what_a_line_tells_of_a_host(plain_snapshot: Path) -> None:
    status, (line,), _ = triaged(str(plain_snapshot / "memory.raw"))
    assert status == 0
    assert line["kernel"].startswith("6.1")
    assert [vm["vcpus"] for vm in line["vms"]] == [1, 1, 2]
    assert [one["l2_active"] for one in line["nested"]] == [True]
