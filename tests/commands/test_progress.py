# SPDX-License-Identifier: GPL-2.0-or-later
"""The bar of a long command, and Ctrl-C in one, counted in work and not in time."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from gdb_nept.commands.progress import AFTER, Meter
from gdb_nept.memory.budget import Budget

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = ROOT / "tests" / "commands" / "endless.py"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_shown_in_the_first_second_and_nothing_is_left() -> None:
    written: list[str] = []
    clock = Clock()
    meter = Meter(written.append, clock)
    meter("searching", 1, 4)
    meter.wipe()
    assert not written
    clock.now += AFTER
    meter("searching", 1, 4)
    meter("searching", 2, 4)  # at once after it
    assert len(written) == 1
    assert written[0].startswith("\rsearching: [#######.......................]  25%")
    meter.wipe()
    meter.wipe()
    assert len(written) == 2
    assert not written[1].strip()
    assert len(written[1]) >= len(written[0])


def test_more_than_all_is_all() -> None:
    written: list[str] = []
    clock = Clock()
    meter = Meter(written.append, clock)
    clock.now += AFTER
    meter("searching", 5, 4)
    assert "100%" in written[0]


def test_the_budget_tells_how_far_it_is() -> None:
    told: list[tuple[str, int, int]] = []
    budget = Budget(1024, progress=lambda *step: told.append(step))
    assert budget.take(512)
    assert told == [("looking at tables", 512, 1024)]


def numbers(child: Any, pattern: str) -> tuple[int, ...]:
    child.expect(pattern)
    assert isinstance(child.match, re.Match)
    return tuple(map(int, child.match.groups()))


def _heed_ctrl_c() -> None:
    """A shell without job control starts what it leaves in the background with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("kind", ["tables", "vms"])
def test_ctrl_c_ends_a_command_long_before_its_bound(kind: str) -> None:
    """The bar is there first, so that the work is under way; it has a hundred times as much before
    it, and says how much of it was done."""
    words = [str(ENDLESS), kind, "--limit", str(1 << 40)]
    child = pexpect.spawn(sys.executable, words, cwd=str(ROOT), timeout=60, preexec_fn=_heed_ctrl_c)
    assert numbers(child, r"\[[#.]{30}\] +(\d+)%")[0] < 50
    child.sendintr()
    child.expect("gdb_nept: interrupted")
    done, most = numbers(child, r"done (\d+) of (\d+)")
    assert 0 < done < most // 2
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def endless(*words: str) -> tuple[int, str, str]:
    """Status, output, and errors of the command into pipes."""
    done = subprocess.run(
        [sys.executable, str(ENDLESS), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_into_a_pipe_there_is_no_bar() -> None:
    status, shown, errors = endless("tables", "--limit", str(1 << 16))
    assert status == 4
    assert "--limit 262144 for more" in " ".join(shown.split())
    assert errors == ""
