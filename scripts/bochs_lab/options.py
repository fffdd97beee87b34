# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run of the lab is asked to be, and how long it may take."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from . import kernels
from .emulator import INSTALLED, SKYLAKE, Emulator
from .errors import LabError
from .kernels import KERNELS, Kernel

#: Of the L1 that does what hypervisors do (`states=True`), in its order; at those with "-exit", and
#: at composing, eptp-written, eptp-new, eptp-ad and the two of A/D flags, L1 runs, else L2.
STATES = (
    *("nx", "nx-exit", "pae", "pae-exit"),
    *("controls-off", "controls-off-exit", "controls-on", "controls-on-exit", "composing"),
    *("eptp-switched", "eptp-written", "eptp-new", "eptp-ad", "ad-cleared", "ad-invept"),
    *("apic-page", "apic-virtual", "slot-deleted", "slot-absent", "slot-back", "slot-moved"),
)
OF_SCENARIO = ("l1-exit", "l2")
#: In the order in which a run meets them; "l1" is that of an overlay.
PARK_POINTS = ("start", "l1", *OF_SCENARIO, *STATES, "done")
STATES_WORD = "lab.l1=states"
BOCHS_MEMORY_LIMIT = 2048  # MiB; Bochs refuses more
LEAST_MEMORY = 128  # MiB; below, the initramfs does not unpack

_BASE_WORDS = (
    "console=ttyS0,115200 tsc=reliable lpj=1000000 audit=0 quiet loglevel=6 panic=1"
    " clocksource=tsc no_timer_check"
)
KGDB_WORD = "kgdboc=ttyS1,115200"
KGDB_AT = "KGDB_AT"  # a word that the kernel passes on to init, and init to the VMM


@dataclass(frozen=True)
class Timeouts:
    """Seconds of wall time; they are no part of any key."""

    boot: float = 600.0  # from power-on until L0's init speaks
    park: float = 900.0  # from there until the park point
    command: float = 30.0  # for one command of Bochs' debugger


@dataclass(frozen=True)
class LabOptions:
    """The machine wanted.  Every field but `timeouts` and `refresh` shapes its key."""

    kernel: str = kernels.DEFAULT
    kaslr: bool = False
    pti: bool = False
    memory: int = 512
    overlay: Optional[Path] = None
    append: str = ""
    park: str = "l2"
    guests: Optional[Path] = None
    refresh: bool = False
    states: bool = False  # L1 is states.elf, with the park points STATES
    bochs: str = INSTALLED
    cpu: str = SKYLAKE
    kgdb: bool = False  # a kernel built with kgdb, which waits for gdb at `kgdb_points`
    timeouts: Timeouts = field(default_factory=Timeouts)

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise LabError(f"no kernel {self.kernel!r}; known: {', '.join(KERNELS)}")
        if self.park not in PARK_POINTS:
            raise LabError(f"no park point {self.park!r}; known: {', '.join(PARK_POINTS)}")
        if (self.park in STATES) > self.states:
            raise LabError(f"only with --states does the lab come to {self.park}")
        if self.states and self.park in OF_SCENARIO:
            raise LabError(f"with --states the lab parks at start, {', '.join(STATES)}, done")
        if not LEAST_MEMORY <= self.memory <= BOCHS_MEMORY_LIMIT:
            raise LabError(f"memory must be {LEAST_MEMORY} to {BOCHS_MEMORY_LIMIT} MiB")
        if self.kgdb and self.kernel != kernels.WITH_KGDB:
            raise LabError(f"with kgdb there is only the kernel {kernels.WITH_KGDB}")
        _ = self.emulator  # which refuses what it does not know
        for folder in (self.overlay, self.guests):
            if folder is not None and not folder.is_dir():
                raise LabError(f"{folder} is not a directory")

    @property
    def emulator(self) -> Emulator:
        """What the machine runs on."""
        return Emulator(self.bochs, self.cpu)

    @property
    def kernel_line(self) -> str:
        """The words that the kernel is started with."""
        words = [_BASE_WORDS]
        if not self.kaslr:
            words.append("nokaslr")
        words.append("pti=on" if self.pti else "nopti mitigations=off")
        words += self.description.words
        if self.kgdb:
            words += [KGDB_WORD, f"{KGDB_AT}={','.join(self.kgdb_points)}"]
        if self.states:
            words.append(STATES_WORD)
        if self.append:
            words.append(self.append)
        return " ".join(words)

    @property
    def kgdb_points(self) -> tuple[str, ...]:
        """The park points at which L0 stops in kgdb: before the guests run, and the one wanted."""
        return tuple(dict.fromkeys((PARK_POINTS[0], self.park)))

    @property
    def description(self) -> Kernel:
        """The kernel's entry in the table."""
        return KERNELS[self.kernel]

    def as_json(self) -> dict[str, Any]:
        """The options as JSON takes them."""
        values = asdict(self)
        for name in ("overlay", "guests"):
            values[name] = None if values[name] is None else str(values[name])
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LabOptions:
        """The options that `as_json` wrote."""
        values = dict(values, timeouts=Timeouts(**values["timeouts"]))
        for name in ("overlay", "guests"):
            values[name] = None if values[name] is None else Path(values[name])
        return cls(**values)
