# SPDX-License-Identifier: GPL-2.0-or-later
"""What python.md shows runs as it stands, each piece by itself, over a dump of the lab."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bochs

ROOT = Path(__file__).resolve().parents[2]
PIECE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PIECES = PIECE.findall((ROOT / "gdb_nept" / "doc" / "python.md").read_text())


def test_there_are_pieces() -> None:
    assert len(PIECES) >= 2
    assert all('open_dump("memory.raw")' in piece for piece in PIECES)


@pytest.mark.parametrize("number", range(len(PIECES)))
def test_a_piece_runs(plain_snapshot: Path, tmp_path: Path, number: int) -> None:
    (tmp_path / "memory.raw").symlink_to(plain_snapshot / "memory.raw")
    done = subprocess.run(
        [sys.executable, "-c", PIECES[number]],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
