# SPDX-License-Identifier: GPL-2.0-or-later
"""A nested hypervisor that was not written for this project: Debian's Linux, in Debian's QEMU.

Its own log is the witness here: it saw the EPT faults that KVM, as L1, has to see, and nept-watch,
under which it ran, has shown each of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bochs_lab import console, linux_l1, machine
from bochs_lab.bochs import SERIAL
from bochs_lab.kernels import DEFAULT, KERNELS
from bochs_lab.packages import kernel
from bochs_lab.progress import Silent

from tests.lab import l1_trace
from tests.lab.command import lab
from tests.lab.l1_trace import Fault, Run

ROOT = Path(__file__).resolve().parents[2]
PLAIN_TERMINAL = {**os.environ, "TERM": "dumb"}
PATIENCE = 600.0  # seconds from L2's start until L1 has told all
VIOLATION, MISCONFIGURATION = 48, 49
READ, WRITE, FETCH, LINEAR, FINAL = 0x1, 0x2, 0x4, 0x80, 0x100  # bits of the qualification
READABLE, WRITABLE, EXECUTABLE = 0x8, 0x10, 0x20
TO_PAGE = LINEAR | FINAL
PLAIN, NO_AD = "", "eptad=0 pml=0"  # kvm-intel's parameters in the two runs

CONSOLE = """\
L1 RELEASE 6.1.0-1-amd64
L1 RUN eptad=0
L1 TRACE kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0x10 info1 0x0000000000000184 info2 0x0 intr
L1 TRACE fault: (kvm_mmu_page_fault+0x0/0x970 [kvm]) gpa=0x1000
L1 TRACE kvm_pio: pio_write at 0x510 size 1 count 1 val 0x3
L1 TRACE kvm_exit: vcpu 0 reason EPT_MISCONFIG rip 0x12 info1 0x0000000000000000 info2 0x0 intr
L1 TRACE fault: (kvm_mmu_page_fault+0x0/0x970 [kvm]) gpa=0x2000
"""


def test_a_trace_becomes_faults() -> None:
    assert l1_trace.release(CONSOLE) == "6.1.0-1-amd64"
    faults = [Fault(0, 48, 0x10, 0x184, 0x1000), Fault(3, 49, 0x12, 0, 0x2000)]
    assert l1_trace.runs(CONSOLE) == [Run("eptad=0", faults)]


def test_a_trace_with_a_gap_is_refused() -> None:
    lines = CONSOLE.splitlines()
    for missing in (2, 3, 5):
        with pytest.raises(ValueError, match="L1 TRACE"):
            l1_trace.runs("\n".join([*lines[:missing], *lines[missing + 1 :]]))


@dataclass(frozen=True)
class Told:
    """L0's console when it was parked before L2's first instruction, and when all was over; what
    nept-watch showed in between, and its JSON lines."""

    before: str
    whole: str
    shown: str
    watched: list[dict[str, Any]]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Apart from a machine that the user may have up."""
    overlay = str(linux_l1.overlay(DEFAULT, Silent()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        try:
            words = ("up", "--stub", "--park", "l1", "--overlay", overlay)
            done = lab(*words, timeout=None)
            assert done.returncode == 0, done.stderr
            status = machine.status()
            assert status is not None
            serial = console.Console(Path(status["folder"]) / SERIAL)
            before = serial.text()
            lines = tmp_path_factory.mktemp("watch") / "faults.jsonl"
            shown = watch_to_the_end(int(done.stdout.split(":")[-1]), lines)
            watched = [json.loads(line) for line in lines.open()]
            yield Told(before, serial.text(), shown, watched)
        finally:
            machine.down()


def watch_to_the_end(port: int, lines: Path) -> str:
    words = ["gdb", "-nx", "-batch", "-ex", f"source {ROOT}/gdb_nept/init.py"]
    watch = f"nept-watch --model kvm@bochs-2.7 --json-lines {lines}"
    for line in (f"target remote 127.0.0.1:{port}", watch, "disconnect"):
        words += ["-ex", line]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=PATIENCE, check=False, env=PLAIN_TERMINAL
    )
    return done.stdout


@pytest.fixture(scope="module")
def runs(told: Told) -> dict[str, Run]:
    found = {run.parameters: run for run in l1_trace.runs(told.whole)}
    assert list(found) == [PLAIN, NO_AD]
    return found


@pytest.mark.gdb
@pytest.mark.qemu
@pytest.mark.bochs
def test_l0_is_parked_before_l2_starts_and_all_ends_well(told: Told) -> None:
    assert console.facts(told.before).objects[-1] == {"park": "l1"}
    assert "L1 READY" in told.before
    assert "l2vmm" not in told.before
    assert told.whole.count("l2vmm: L2 is done") == 2
    assert "L1 STATUS 0\n" in told.whole
    assert list(console.facts(told.whole).objects[-2:]) == [{"done": 0}, {"park": "done"}]


@pytest.mark.gdb
@pytest.mark.qemu
@pytest.mark.bochs
def test_l1_is_debians_kernel(told: Told) -> None:
    chosen = kernel(KERNELS[DEFAULT], Silent())
    assert l1_trace.release(told.whole) == chosen.release
    assert chosen.release.endswith("-amd64")


def addresses(run: Run, phase: int, reason: int) -> list[int]:
    return [gpa for kind, _, gpa in run.seen(phase) if kind == reason]


@pytest.mark.gdb
@pytest.mark.qemu
@pytest.mark.bochs
@pytest.mark.parametrize("parameters", [PLAIN, NO_AD], ids=["plain", "no-ad"])
def test_l1_saw_what_a_kvm_must_see(runs: dict[str, Run], parameters: str) -> None:
    """Memory that it had not mapped yet, in L2's order: each once, with what L2 did."""
    run = runs[parameters]
    start = run.seen(0)
    assert [gpa for _, _, gpa in start] == [0x1000, 0x2000, 0x3000, 0x4080, 0x10000]
    assert all(kind == VIOLATION for kind, _, _ in start)
    assert all(qualification & TO_PAGE == LINEAR for _, qualification, _ in start[:4])
    assert start[4][1] == FETCH | TO_PAGE
    touched = [(q & ~READ if q & WRITE else q, gpa) for _, q, gpa in run.seen(1)]
    assert touched == [
        (READ | TO_PAGE, 0x30000),
        *((WRITE | TO_PAGE, gpa) for gpa in (0x31000, 0x32000, 0x33000, 0x20FF8)),
        *((READ | TO_PAGE, gpa) for gpa in (0x34FFC, 0x35000)),
    ]
    readable = READABLE | EXECUTABLE
    assert run.seen(3) == [
        (VIOLATION, READ | TO_PAGE, 0x1000000),
        (VIOLATION, WRITE | TO_PAGE | readable, 0x1000008),
        (VIOLATION, WRITE | TO_PAGE, 0x1001000),
    ]


@pytest.mark.gdb
@pytest.mark.qemu
@pytest.mark.bochs
@pytest.mark.parametrize("parameters", [PLAIN, NO_AD], ids=["plain", "no-ad"])
def test_l1_saw_misconfigurations_for_its_device(runs: dict[str, Run], parameters: str) -> None:
    """The first access to a page of a device is a violation, each later one is not."""
    run = runs[parameters]
    logged = [0x2000000, 0x2001000]
    assert addresses(run, 4, VIOLATION) == [0x3000000, 0x3001000, *logged]
    assert addresses(run, 4, MISCONFIGURATION) == [0x3000000, 0x3000010, 0x3001008, 0x30007FC]
    assert addresses(run, 7, MISCONFIGURATION) == [0x1000004]


@pytest.mark.gdb
@pytest.mark.qemu
@pytest.mark.bochs
def test_what_l1_takes_away_faults_again(runs: dict[str, Run]) -> None:
    """A slot is gone: KVM has thrown all of its EPT away, and L2's tables are walked anew."""
    for run in runs.values():
        gone = addresses(run, 7, VIOLATION)
        assert gone == [0x1000, 0x2000, 0x3000, 0x4080, 0x10129, 0x31000, 0x1000000]


@pytest.mark.gdb
@pytest.mark.qemu
@pytest.mark.bochs
def test_the_runs_differ_where_the_parameters_do(runs: dict[str, Run]) -> None:
    """With A/D flags a log of dirty pages needs no exit; a large page need not be executable."""
    plain, bare = runs[PLAIN], runs[NO_AD]
    assert plain.seen(5) == []
    writing = WRITE | TO_PAGE | READABLE | EXECUTABLE
    assert bare.seen(5) == [(VIOLATION, writing, 0x2000000), (VIOLATION, writing, 0x2001000)]
    fetching = (VIOLATION, FETCH | TO_PAGE | READABLE | WRITABLE, 0x400100)
    assert fetching in bare.seen(2)
    assert addresses(plain, 2, VIOLATION) == [0x400000, 0x612000]


@pytest.mark.gdb
@pytest.mark.qemu
@pytest.mark.bochs
def test_the_watch_shows_every_fault_that_l1_logged(told: Told, runs: dict[str, Run]) -> None:
    """L1 records no guest-linear address: there it is held against L2's own page tables alone."""
    logged = [(f.reason, f.qualification, f.gpa) for run in runs.values() for f in run.faults]
    assert len(logged) > 60
    watched = [
        tuple(
            int(fault["told"][name], 16)
            for name in ("exit_reason", "exit_qualification", "guest_physical_address")
        )
        for fault in told.watched
    ]
    assert watched == logged
    assert all(fault["agrees"] for fault in told.watched), told.shown
    assert f"{len(logged)} faults watched" in told.shown
