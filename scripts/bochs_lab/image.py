# SPDX-License-Identifier: GPL-2.0-or-later
"""The CD that the machine boots from: GRUB, kernel, initramfs; and the key of a machine."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import cache, kgdb_kernel
from .errors import LabError
from .guests import guests
from .initramfs import initramfs
from .options import LabOptions
from .packages import UnpackedKernel, kernel
from .progress import Progress

_GRUB = """\
set timeout=0
linux /vmlinuz {words}
initrd /initramfs.gz
boot
"""


@dataclass(frozen=True)
class Image:
    """What is booted, and the keys of what comes of it."""

    iso: Path
    kernel: UnpackedKernel
    machine_key: str  # of the machine at any park point
    snapshot_key: str  # of the machine at the park point of the options


def image(options: LabOptions, progress: Progress) -> Image:
    """The CD for these options, built if it is not in the cache."""
    chosen = _kernel(options, progress)
    archive, archive_key = initramfs(options, chosen, guests(options.guests, progress))
    key = cache.key_of([chosen.digest, archive_key, options.kernel_line, _GRUB])

    def build(folder: Path) -> None:
        progress.stage("making the boot CD")
        _make_iso(folder, chosen.vmlinuz, archive, options.kernel_line)

    iso = cache.artifact("iso", key, build) / "lab.iso"
    processor = options.emulator.key(options.memory, progress)
    machine_key = cache.key_of([key, *processor])
    return Image(iso, chosen, machine_key, cache.key_of([machine_key, options.park]))


def _kernel(options: LabOptions, progress: Progress) -> UnpackedKernel:
    if options.kgdb:
        return kgdb_kernel.kernel(progress, options.refresh)
    return kernel(options.description, progress, options.refresh)


def _make_iso(folder: Path, vmlinuz: Path, archive: Path, words: str) -> None:
    tree = folder / "tree"
    (tree / "boot" / "grub").mkdir(parents=True)
    shutil.copy(vmlinuz, tree / "vmlinuz")
    shutil.copy(archive, tree / "initramfs.gz")
    (tree / "boot" / "grub" / "grub.cfg").write_text(_GRUB.format(words=words))
    command = ["grub-mkrescue", "-o", str(folder / "lab.iso"), str(tree)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError(
            "no grub-mkrescue; install grub-common grub-pc-bin xorriso mtools"
        ) from error
    if done.returncode != 0 or not (folder / "lab.iso").is_file():
        raise LabError(f"grub-mkrescue failed:\n{done.stderr.strip()}")
    shutil.rmtree(tree)
