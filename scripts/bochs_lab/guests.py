# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs that run above L0: the VMM, the images of L1, a table of scenarios."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from . import cache
from .errors import LabError
from .progress import Progress

SOURCES = Path(__file__).resolve().parents[2] / "tests" / "guests"
NAMES = ("vmm", "l1.elf", "states.elf", "scenarios.bin")
_BUILT_SUFFIXES = (".o", ".elf", ".bin", ".d", ".pyc")
_NO_SOURCES = ("generate.py",)  # scenarios of the proof: no part of what `make` builds


@dataclass(frozen=True)
class Guests:
    """A directory that holds these files, and a key over what they are made from."""

    folder: Path
    key: str

    def files(self) -> list[Path]:
        """The files, or those of them that there are."""
        return [self.folder / name for name in NAMES if (self.folder / name).exists()]


def guests(built: Optional[Path], progress: Progress) -> Guests:
    """The guests in the directory `built`, or, with None, those of the source tree."""
    if built is not None:
        if not (built / "vmm").is_file():
            raise LabError(f"{built} holds no guests: no file vmm")
        present = [built / name for name in NAMES if (built / name).is_file()]
        return Guests(built, cache.files_key(present, built))
    key = _sources_key()

    def build(folder: Path) -> None:
        progress.stage("building the guests")
        _make(folder)

    return Guests(cache.artifact("guests", key, build), key)


def _sources_key() -> str:
    if not (SOURCES / "Makefile").is_file():
        raise LabError(f"{SOURCES} has no Makefile: the guests cannot be built")
    sources = [path for path in SOURCES.rglob("*") if path.is_file() and _is_source(path)]
    return cache.key_of([cache.files_key(sources, SOURCES), compiler()])


def _is_source(path: Path) -> bool:
    skipped = path.suffix in _BUILT_SUFFIXES or path.name in _NO_SOURCES
    return not skipped and not path.name.startswith(".")


def compiler() -> str:
    """What the C compiler says it is."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or "cc"
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LabError(f"no C compiler to build the guests with: {error}") from error
    return done.stdout


def _make(folder: Path) -> None:
    command = ["make", "-s", "-C", str(SOURCES), f"O={folder}"]
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # the sources stay as they are
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"the guests do not build:\n{(done.stdout + done.stderr).strip()}")
    missing = [name for name in NAMES if not (folder / name).is_file()]
    if missing:
        raise LabError(f"the guests' Makefile built no {', '.join(missing)}")
