# SPDX-License-Identifier: GPL-2.0-or-later
"""A few thousand damaged inputs, the same each time: scripts/fuzz makes others."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gdb_nept.memory import qemu
from gdb_nept.memory.kdump import KdumpMemory
from gdb_nept.memory.kdump_process import Child
from gdb_nept.target.live_memory import LiveMemory
from tests.fuzz import blobs
from tests.fuzz.cli import cases, run
from tests.fuzz.dumps import Dumps, small_files
from tests.fuzz.memory import MISTAKE, MOST_READS, Changing, Fuzzed, TooMuch
from tests.fuzz.stub import Stubs


@pytest.mark.parametrize("kind", blobs.KINDS)
def test_damaged_bytes_are_refused_in_one_message(kind: str) -> None:
    problems = [blobs.KINDS[kind](random.Random(seed)) for seed in range(300)]
    assert not any(problems), next(filter(None, problems))


@pytest.mark.kdumpfile
def test_damaged_headers_of_dumps_are_read_or_refused(tmp_path: Path) -> None:
    counts, failures = run({"dump": [Dumps(small_files(tmp_path)).case]}, 1, 300)
    assert not failures, failures[0]
    ends = {name.partition(": ")[2] for name in counts}
    assert {"elf read", "kdump read", "lime read", "elf refused", "lime refused"} <= ends


@pytest.mark.kdumpfile
def test_the_fuzzer_sees_a_process_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Child | None] = []
    monkeypatch.setattr(KdumpMemory, "close", lambda memory: left.append(memory._child))
    (path, *_) = small_files(tmp_path)
    dumps = Dumps([path])
    problems = [dumps.case(random.Random(seed))[1] for seed in range(20)]
    assert any("a process is left" in problem for problem in problems)
    for one in left:
        if one is not None:
            one.close()


@pytest.fixture
def stubs(tmp_path: Path) -> Stubs:
    """Stubs of a machine with two MiB of nothing."""
    (tmp_path / "memory.raw").write_bytes(bytes(2 << 20))
    return Stubs(tmp_path)


def test_a_stub_that_misbehaves_is_told_of_and_put_back(stubs: Stubs) -> None:
    problems = [stubs.case(random.Random(seed))[1] for seed in range(60)]
    assert not any(problems), next(filter(None, problems))


def test_the_fuzzer_sees_a_mode_that_nobody_tells_of(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveMemory, "owes", "")
    monkeypatch.setattr(qemu, "RESTORE_ATTEMPTS", 1)  # else it takes thousands of cases
    problems = {stubs.case(random.Random(seed))[1] for seed in range(60)}
    assert "the mode stays on, and nobody tells" in problems


@pytest.mark.bochs
def test_changed_memories_are_answered_or_refused(
    plain_snapshot: Path, exit_snapshot: Path, tmp_path: Path
) -> None:
    made = cases((plain_snapshot, exit_snapshot), tmp_path)
    counts, failures = run(made, 1, 3000)
    assert sum(counts.values()) == 3000
    assert sum(count for name, count in counts.items() if name.startswith("memory")) > 1500
    assert not failures, failures[0]


@pytest.mark.bochs
def test_the_fuzzer_sees_what_fails(
    plain_snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours, and a walk without end."""
    fuzzed = Fuzzed(plain_snapshot, tmp_path)
    assert all(fuzzed.places.values())
    monkeypatch.setattr("gdb_nept.nested.verdict.verdict", None)
    monkeypatch.setattr("gdb_nept.render.journey.verdict", None)
    assert MISTAKE in fuzzed.answer(("walk", "0x2000000"))
    endless = Changing(fuzzed.memory.below)
    endless.reads = MOST_READS
    with pytest.raises(TooMuch):
        endless.read(fuzzed.kernel.phys_base, 8)  # type: ignore[arg-type]
