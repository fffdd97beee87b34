# SPDX-License-Identifier: GPL-2.0-or-later
"""One gdb that runs a few lines and ends."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INIT = ROOT / "gdb_nept" / "init.py"
MARK = "---- next ----"


def output(lines: Iterable[str], timeout: float, env: Mapping[str, str] | None = None) -> str:
    """All that gdb shows, errors included.  A line that fails stops none after it."""
    words = ["gdb", "-nx", "-batch", "-ex", "set pagination off"]
    for line in lines:
        words += ["-ex", line]
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        timeout=timeout,
        check=False,
    )
    return done.stdout


def answers(
    before: Iterable[str], lines: Iterable[str], timeout: float = 300, last: str = "echo"
) -> list[str]:
    """What each of `lines` shows in a gdb with our commands, after the lines `before`.

    At the end of a batch gdb detaches, and the machine runs on; with `last` "disconnect" it hangs
    up instead."""
    told = [f"source {INIT}", *before]
    for line in lines:
        told += [f"echo {MARK}\\n", line]
    shown = output([*told, f"echo {MARK}\\n", last], timeout)
    assert "Traceback" not in shown
    return [part.lstrip("\n") for part in shown.split(MARK)[1:-1]]
