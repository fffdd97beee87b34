# SPDX-License-Identifier: GPL-2.0-or-later
"""Bochs 3.0, built once from Debian's source package, with all that its processors may have."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from . import builds, cache, packages
from .errors import LabError
from .progress import Progress

SUITE = "trixie"
TOOLS = ("g++", "make", "xz")
OPTIONS = (
    *("--enable-x86-64", "--enable-cpu-level=6", "--enable-vmx=2", "--enable-memtype"),
    *("--enable-avx", "--enable-evex", "--enable-amx", "--enable-uintr", "--enable-cet"),
    *("--enable-protection-keys", "--enable-x86-debugger", "--enable-all-optimizations"),
    *("--enable-debugger", "--disable-debugger-gui", "--with-rfb", "--with-nogui"),
    "--disable-docbook",
)
_KIND = "bochs"


def executable(progress: Progress) -> Path:
    """The program from the cache, or built into it, which takes some 5 minutes of a processor."""
    key = cache.key_of([SUITE, *OPTIONS])
    return cache.artifact(_KIND, key, lambda folder: _build_into(folder, progress)) / "bochs"


def _build_into(folder: Path, progress: Progress) -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabError(f"to build Bochs, install: {' '.join(missing)}")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        archive = packages.source_archive("bochs", SUITE, Path(name), progress)
        tree = Path(name) / "source"
        tree.mkdir()
        packages.run(["tar", "-xf", str(archive), "-C", str(tree), "--strip-components=1"])
        progress.stage(f"building Bochs out of {archive.name}: 3 to 6 minutes")
        log = folder / "build.log"
        builds.run(["./configure", *OPTIONS], tree, log, progress)
        builds.run(["make", builds.JOBS, "bochs"], tree, log, progress)
        packages.run(["strip", "-o", str(folder / "bochs"), str(tree / "bochs")])
