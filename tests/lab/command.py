# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/lab, as somebody types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LAB = Path(__file__).resolve().parents[2] / "scripts" / "lab"


def lab(*words: str, timeout: float | None = 900) -> subprocess.CompletedProcess[str]:
    """What it says; a machine that it brings up outlives it."""
    command = [sys.executable, str(LAB), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
