# SPDX-License-Identifier: GPL-2.0-or-later
"""Running a long build, its output in a file and its last line before the user."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from .errors import LabError
from .progress import Progress

JOBS = f"-j{os.cpu_count() or 1}"
_LOOK = 1.0  # seconds between two looks at a build
_WORDS = 30  # lines of a build's output to quote


def run(
    command: Sequence[str],
    folder: Path,
    log: Path,
    progress: Progress,
    environment: Optional[Mapping[str, str]] = None,
) -> None:
    """Run a command in a folder, after what is in the log; `environment` is added to ours.

    Raises LabError with the end of its output if it fails.  It ends with us.
    """
    start = time.monotonic()
    with log.open("ab") as output:
        build = subprocess.Popen(
            ["nice", *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
        )
        with build:
            try:
                while not _ended(build):
                    progress.tick(time.monotonic() - start, _last_line(log))
            except BaseException:
                build.terminate()
                raise
    if build.returncode != 0:
        told = "\n".join(log.read_text(errors="replace").splitlines()[-_WORDS:])
        raise LabError(f"{command[0]} failed:\n{told}")


def _ended(build: subprocess.Popen[bytes]) -> bool:
    try:
        build.wait(_LOOK)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1].strip() if lines else ""
