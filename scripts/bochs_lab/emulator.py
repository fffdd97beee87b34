# SPDX-License-Identifier: GPL-2.0-or-later
"""Which Bochs runs the machine, and as which processor.

2.7 is Debian 12's package, as it is installed.  3.0, which has more of VMX, is built from Debian
13's source package (`bochs_build.py`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from . import bochs_build, cache
from .errors import LabError
from .progress import Progress

INSTALLED = "2.7"
BUILT = "3.0"
VERSIONS = (INSTALLED, BUILT)
SKYLAKE = "corei7_skylake_x"

_CONFIGURATION = """\
config_interface: textconfig
display_library: rfb, options="timeout=0"
cpu: model=CPU, count=1, ips=40000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest={memory}, host={memory}
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/vgabios/vgabios.bin
pci: enabled=1, chipset=i440fx
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
log: bochs.log
panic: action=report
error: action=ignore
info: action=ignore
debug: action=ignore
com1: enabled=1, mode=file, dev=serial.txt
magic_break: enabled=1
clock: sync=none
speaker: enabled=0
mouse: enabled=0
"""
_SOUND = "sound: driver=dummy\n"  # ours is built without
#: In KiB.  With the default of 3.0, guest memory is no one piece of Bochs' own.
_ONE_PIECE = ", block_size=128"


@dataclass(frozen=True)
class Emulator:
    """A version of Bochs, and the processor that it is to be (`bochs --help cpu`)."""

    version: str = INSTALLED
    cpu: str = SKYLAKE

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise LabError(f"no Bochs {self.version!r}; known: {', '.join(VERSIONS)}")

    @property
    def template(self) -> str:
        """Its configuration; `{memory}`, in MiB, and `{iso}` are to be filled in."""
        text = _CONFIGURATION.replace("CPU", self.cpu)
        if self.version == INSTALLED:
            return text + _SOUND
        return text.replace("host={memory}", "host={memory}" + _ONE_PIECE)

    def command(self, progress: Progress) -> list[str]:
        """The program, built if that has not been done, and the arguments before those of a run."""
        debugger = [] if self.version == INSTALLED else ["-debugger"]
        return [str(self._executable(progress)), *debugger]

    def key(self, memory: int, progress: Progress) -> list[str]:
        """What a machine with so many MiB depends on."""
        return [self.template, cache.file_digest(self._executable(progress)), str(memory)]

    def _executable(self, progress: Progress) -> Path:
        if self.version == BUILT:
            return bochs_build.executable(progress)
        found = shutil.which("bochs-bin") or shutil.which("bochs")
        if found is None:
            raise LabError("no bochs; install the packages bochs, bochsbios and vgabios")
        return Path(found)
