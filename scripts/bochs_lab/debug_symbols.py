# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian kernel's vmlinux and KVM's modules with their DWARF, fetched once (some 350 MB)."""

from __future__ import annotations

from pathlib import Path

from . import cache, packages
from .progress import Progress


def files(release: str, progress: Progress) -> tuple[Path, list[Path]]:
    """vmlinux, and kvm.ko and kvm-intel.ko, of a release.  Raises LabError: apt offers these of the
    newest kernels alone."""

    def fetch(folder: Path) -> None:
        packages.debug_files(release, folder, progress, vmlinux=True)
        for package in folder.glob("*.deb"):
            package.unlink()

    folder = cache.artifact("debug", cache.key_of([release]), fetch)
    return next(folder.rglob("vmlinux-*")), sorted(folder.rglob("kvm*.ko"))
