# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-watch over all that L1 does in states.elf, against what L1 logs of its exits.

Fault by fault, in order: reason, qualification, both addresses; and each as KVM's rules say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bochs_lab import machine
from bochs_lab.emulator import Emulator
from bochs_lab.options import STATES

from tests.gdb.batch import INIT, output
from tests.lab.command import lab
from tests.states.told import Told

pytestmark = [pytest.mark.gdb, pytest.mark.bochs]

WATCHES = len(STATES) + 1  # one to each park point, and one to the end
TOLD = ("exit_reason", "exit_qualification", "guest_physical_address", "guest_linear_address")
LOGGED = ("reason", "qualification", "gpa", "gla")


@dataclass(frozen=True)
class Watched:
    faults: list[dict[str, Any]]
    screen: str
    told: Told


@pytest.fixture(scope="module")
def watched(
    kernel_line: str, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("states")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        on = ("--bochs", emulator.version, "--cpu", emulator.cpu)
        try:
            done = lab("up", "--stub", "--states", "--park", "start", "--kernel", kernel_line, *on)
            assert done.returncode == 0, done.stderr
            model = f"kvm@bochs-{emulator.version}"
            screen = watch_all(int(done.stdout.split(":")[-1]), folder, model)
            lines = [json.loads(line) for each in in_order(folder) for line in each.open()]
            faults = [line for line in lines if line["kind"] != "kept"]
            yield Watched(faults, screen, Told(tuple(machine.ask("facts"))))
        finally:
            machine.down()


def in_order(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def watch_all(port: int, folder: Path, model: str) -> str:
    """What gdb shows; at each park point the target stops by itself, and with it the watch."""
    lines = [f"source {INIT}", f"target remote 127.0.0.1:{port}"]
    for number in range(WATCHES):
        lines.append(f"nept-watch --model {model} --json-lines {folder}/{number:02}.jsonl")
    return output([*lines, "disconnect"], timeout=900)


def numbers(found: dict[str, Any], names: tuple[str, ...]) -> list[int]:
    return [int(found[name], 16) for name in names]


def test_every_exit_that_l1_logged_was_watched(watched: Watched) -> None:
    logged = list(watched.told.exits())
    assert len(logged) > 100
    assert watched.told.lines[-1] == {"park": "done"}
    assert [numbers(fault["told"], TOLD) for fault in watched.faults] == [
        numbers(line, LOGGED) for line in logged
    ]


def test_each_is_as_predicted(watched: Watched) -> None:
    where = [
        (line["probe"], line["name"], line.get("op"), fault["explanations"])
        for fault, line in zip(watched.faults, watched.told.exits())
        if not fault["agrees"]
    ]
    assert where == []
    assert {fault["kind"] for fault in watched.faults} == {"reflected"}


def test_every_watch_ended_at_a_park_point(watched: Watched) -> None:
    assert watched.screen.count("the target stopped by itself at 0x") == WATCHES
    assert "Traceback" not in watched.screen
