# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine from power-on to its park point."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from . import console, ram, runtime
from .bochs import Bochs
from .errors import BochsDied, BootFailed
from .image import Image
from .options import PARK_POINTS, LabOptions
from .progress import Progress
from .ram import GuestRam
from .serial_line import SerialLine

_LOOK = 0.5  # seconds between two looks at a machine that runs
# What Bochs says when it stops at the park instruction, `xchg %bx, %bx`.
STOPPED_BY_PARKING = "Magic breakpoint"


@dataclass
class Machine:
    """A machine that stands at a park point, or is on its way there."""

    options: LabOptions
    image: Image
    bochs: Bochs
    ram: GuestRam
    console: console.Console
    park: Optional[str] = None  # where it stands
    kgdb: Optional[SerialLine] = None  # of a kernel with kgdb, which runs on all the time


@contextmanager
def parked(options: LabOptions, image: Image, progress: Progress) -> Iterator[Machine]:
    """A machine at its park point; it ends with the block."""
    with runtime.scratch("machine") as folder:
        progress.stage("starting Bochs")
        with ExitStack() as held:
            line = held.enter_context(closing(SerialLine())) if options.kgdb else None
            bochs = held.enter_context(closing(_powered_on(folder, options, image, line, progress)))
            progress.stage("locating the machine's memory")
            memory = held.enter_context(closing(ram.locate(bochs)))
            told = console.Console(bochs.serial)
            machine = Machine(options, image, bochs, memory, told, kgdb=line)
            _run(machine, progress)
            yield machine


def proceed(machine: Machine, options: LabOptions, image: Image, progress: Progress) -> None:
    """Let a parked machine run on to the park point of these options, which are else its own."""
    machine.options, machine.image, machine.park = options, image, None
    watch = _Watch(machine, progress)
    watch.expect_park()
    try:
        _run_to_park_point(machine, watch)
    except BochsDied as error:
        raise BootFailed(str(error), machine.console.tail()) from error


def _powered_on(
    folder: Path,
    options: LabOptions,
    image: Image,
    line: Optional[SerialLine],
    progress: Progress,
) -> Bochs:
    text = options.emulator.template.format(memory=options.memory, iso=image.iso)
    text += line.configuration if line else ""
    command = options.emulator.command(progress)
    return Bochs(command, text, folder, options.memory, options.timeouts.command)


def _run(machine: Machine, progress: Progress) -> None:
    watch = _Watch(machine, progress)
    progress.stage(f"booting {machine.image.kernel.release}")
    try:
        if machine.kgdb:
            _run_into_kgdb(machine, watch)
        else:
            _run_to_park_point(machine, watch)
    except BochsDied as error:
        raise BootFailed(str(error), machine.console.tail()) from error


def _run_to_park_point(machine: Machine, watch: _Watch) -> None:
    while machine.park != machine.options.park:
        output = machine.bochs.run(watch.look)
        watch.look()
        if STOPPED_BY_PARKING in output and watch.park is not None:
            machine.park = watch.park
            watch.check_order()


def _run_into_kgdb(machine: Machine, watch: _Watch) -> None:
    """Until L0 has stopped itself for gdb; its processor goes on, in kgdb's loop."""
    machine.bochs.resume("c")
    while watch.park != machine.options.kgdb_points[0]:
        stopped = machine.bochs.stopped(_LOOK)
        if stopped is not None:
            raise BootFailed(f"Bochs stopped: {stopped.strip()}", machine.console.tail())
        watch.look()


class _Watch:
    """Looks at the console of a machine that runs; ends the run when it cannot come to good."""

    def __init__(self, machine: Machine, progress: Progress) -> None:
        self.park: Optional[str] = None  # the park point announced last
        self._machine = machine
        self._progress = progress
        self._start = time.monotonic()
        self._deadline = self._start + machine.options.timeouts.boot
        self._stage = "L0's init did not speak"
        self._last = ""

    def look(self) -> None:
        for line in self._machine.console.news():
            self._take(line)
        self._progress.tick(self._elapsed(), self._machine.console.partial or self._last)
        if time.monotonic() > self._deadline:
            self._fail(f"timeout after {self._elapsed():.0f} s: {self._stage}")

    def check_order(self) -> None:
        """A machine past the point wanted will not come back to it."""
        wanted = self._machine.options.park
        if self.park in PARK_POINTS and PARK_POINTS.index(self.park) > PARK_POINTS.index(wanted):
            self._fail(f"the machine parked at {self.park}; it never came to {wanted}")

    def _take(self, line: str) -> None:
        if line.strip():
            self._last = line
        complaint = console.trouble(line)
        if complaint is not None:
            self._fail(complaint)
        found = console.fact(line)
        if found is None:
            return
        if "failed" in found:
            self._fail(f"L0's init: {found['failed']}")
        if "release" in found:
            self._reached_init(str(found["release"]))
        if "park" in found:
            self.park = str(found["park"])
            self._progress.stage(f"{self._seconds()}: parked at {self.park}")

    def expect_park(self) -> None:
        """From now on the time for the park point runs."""
        self._deadline = time.monotonic() + self._machine.options.timeouts.park
        self._stage = f"the park point {self._machine.options.park} was not reached"

    def _reached_init(self, release: str) -> None:
        self.expect_park()
        self._progress.stage(f"{self._seconds()}: L0 runs {release}")

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _seconds(self) -> str:
        return f"{self._elapsed():.1f} s"

    def _fail(self, reason: str) -> None:
        raise BootFailed(reason, self._machine.console.tail())
