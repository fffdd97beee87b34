# SPDX-License-Identifier: GPL-2.0-or-later
"""The scripts tell what they are for, on a terminal of 80 columns."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
LAB = ("build", "kernel", "up", "stub", "snapshot", "bare", "overlay", "replay", "status", "down")
#: Not what checks and tests: that has no options of its own.
ASKED = (
    *([name] for name in ("bench", "demo", "fuzz", "lab", "layouts", "prove", "setup")),
    *(["lab", name] for name in LAB),
)


def test_all_are_asked() -> None:
    programs = {one.name for one in SCRIPTS.iterdir() if one.is_file() and os.access(one, os.X_OK)}
    assert programs - {"check", "test"} == {words[0] for words in ASKED}


@pytest.mark.parametrize("words", ASKED, ids=" ".join)
def test_help_fits_a_terminal(words: list[str]) -> None:
    done = subprocess.run(
        [str(SCRIPTS / words[0]), *words[1:], "--help"],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) > 2
    assert max(map(len, done.stdout.splitlines())) <= 80, done.stdout
