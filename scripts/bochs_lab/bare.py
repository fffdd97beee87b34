# SPDX-License-Identifier: GPL-2.0-or-later
"""L1 on the bare machine: booted by GRUB with no L0 under it, and run to its end.

What L1 records then is what the processor itself reports.  Its memory is the machine's, so the
snapshot's `memory.raw` is L1 physical memory.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from . import cache, ram, runtime
from .bochs import Bochs
from .console import Console, facts
from .emulator import Emulator
from .errors import BochsDied, BootFailed, LabError
from .guests import Guests
from .options import Timeouts
from .progress import Progress, Silent
from .ram import GuestRam
from .registers import registers

MEMORY = 128  # MiB: L1's log ends under 64
SCENARIOS = "scenarios.bin"
_GRUB = """\
set timeout=0
multiboot /{image} {words}
module /scenarios.bin
boot
"""


@dataclass(frozen=True)
class BareOptions:
    """Which L1 with which scenario, and the words of its command line."""

    guests: Guests
    words: str = "quiet=1"
    image: str = "l1.elf"
    memory: int = MEMORY
    emulator: Emulator = field(default_factory=Emulator)
    timeouts: Timeouts = field(default_factory=Timeouts)

    def key(self, progress: Progress) -> str:
        machine = self.emulator.key(self.memory, progress)
        digests = [cache.file_digest(self.guests.folder / name) for name in self.files]
        return cache.key_of([*digests, self.words, _GRUB, *machine])

    @property
    def files(self) -> tuple[str, str]:
        return self.image, SCENARIOS


def ensure(options: BareOptions, progress: Optional[Progress] = None) -> Path:
    """The snapshot of L1 at its end; taken if there is none."""
    teller = progress or Silent()
    missing = [name for name in options.files if not (options.guests.folder / name).is_file()]
    if missing:
        raise LabError(f"{options.guests.folder} has no {', '.join(missing)}")
    return cache.artifact(
        "bare", options.key(teller), lambda folder: _take(options, folder, teller)
    )


def _take(options: BareOptions, target: Path, progress: Progress) -> None:
    with runtime.scratch("bare") as folder:
        progress.stage("starting L1 on a bare machine")
        with (
            closing(_powered_on(folder, options, progress)) as bochs,
            closing(ram.locate(bochs)) as memory,
        ):
            console = Console(bochs.serial)
            seconds = _run(bochs, console, options, progress)
            progress.stage(f"{seconds:.0f} s: L1 is done; taking the snapshot")
            _write(bochs, memory, console, target, seconds)


def _powered_on(folder: Path, options: BareOptions, progress: Progress) -> Bochs:
    iso = make_iso(folder, options)
    text = options.emulator.template.format(memory=options.memory, iso=iso)
    command = options.emulator.command(progress)
    return Bochs(command, text, folder, options.memory, options.timeouts.command)


def make_iso(folder: Path, options: BareOptions) -> Path:
    """A CD that boots L1 with its scenario, in `folder`."""
    tree, iso = folder / "tree", folder / "bare.iso"
    (tree / "boot" / "grub").mkdir(parents=True)
    for name in options.files:
        shutil.copy(options.guests.folder / name, tree)
    words = _GRUB.format(image=options.image, words=options.words)
    (tree / "boot" / "grub" / "grub.cfg").write_text(words)
    try:
        command = ["grub-mkrescue", "-o", str(iso), str(tree)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError("no grub-mkrescue; install grub-pc-bin xorriso mtools") from error
    if done.returncode != 0 or not iso.is_file():
        raise LabError(f"grub-mkrescue failed:\n{done.stderr.strip()}")
    return iso


def _run(bochs: Bochs, console: Console, options: BareOptions, progress: Progress) -> float:
    """Until L1 says that it is done; the seconds it took."""
    start = time.monotonic()

    def look() -> None:
        seconds = time.monotonic() - start
        progress.tick(seconds, console.partial)
        if seconds > options.timeouts.park:
            raise BootFailed(f"timeout after {seconds:.0f} s: L1 is not done", console.tail())

    try:
        while not (said := _said(console)).get("done_seen"):
            bochs.run(look)
        _check(said, console)
    except BochsDied as error:
        raise BootFailed(str(error), console.tail()) from error
    return time.monotonic() - start


def _said(console: Console) -> dict[str, Any]:
    """The last of each thing that L1 said."""
    found: dict[str, Any] = {}
    for said in facts(console.text()).objects:
        found.update(said)
    found["done_seen"] = "done" in found
    return found


def _check(said: dict[str, Any], console: Console) -> None:
    if said["done"] != 0 or "error" in said:
        raise BootFailed(f"L1 ended with {said['done']}: {said.get('error', '')}", console.tail())


def _write(bochs: Bochs, memory: GuestRam, console: Console, target: Path, seconds: float) -> None:
    ram.verify(memory, bochs)
    memory.write_sparse(target / "memory.raw")
    text = console.text()
    (target / "console.txt").write_text(text)
    for name, value in (
        ("facts.json", list(facts(text).objects)),
        ("registers.json", registers(bochs)),
        ("meta.json", {"park": "done", "seconds": round(seconds, 1)}),
    ):
        (target / name).write_text(json.dumps(value, indent=1) + "\n")
