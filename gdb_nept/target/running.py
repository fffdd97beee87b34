# SPDX-License-Identifier: GPL-2.0-or-later
"""A live machine, let run to places in its kernel by breakpoints of our own.

What the debugger does is behind Runner (`target/gdb/runner.py`), so that this is tested without
one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Callable, Protocol

from gdb_nept.address import KernelVirt
from gdb_nept.errors import NeptError


class NotInserted(NeptError):
    """The debugger, or the stub behind it, could not set a breakpoint."""


@dataclass(frozen=True)
class Halt:
    """How a run ended.  `others` are breakpoints that are not ours, and were hit; `interrupted`:
    Ctrl-C came, whether or not that is why the machine stands."""

    place: KernelVirt
    signal: str = ""  # that the debugger announced
    others: tuple[str, ...] = ()
    interrupted: bool = False


@dataclass(frozen=True)
class Selected:
    """The processor whose registers the debugger shows.  `cpu` is None where its threads are no
    processors (kgdb: they are tasks), `cr3` where the stub does not tell it."""

    cpu: int | None
    cr3: int | None = None


class Runner(Protocol):
    """The debugger's part.  All may raise TargetGone."""

    def go(self, places: Collection[KernelVirt], hardware: bool) -> Halt:
        """Let the machine run until something stops it, a breakpoint of ours at one of `places`
        for one.  Raises NotInserted; the machine may have moved an instruction then."""
        ...

    def register(self, name: str) -> int:
        """Of the processor that stopped, as 64 bits, not negative."""
        ...

    def pointer(self, address: KernelVirt) -> KernelVirt:
        """What lies at a kernel address, as that processor sees it.  Raises MemoryUnreadable."""
        ...


class Running:
    """The machine, which stands between two calls.  Memory read before a run is stale after it.

    Hardware breakpoints, unless `software`: a software one is an instruction that the stub writes
    into the target's memory.  Where the stub has no (more) hardware ones, software ones do.
    `before` is called before each run.
    """

    def __init__(self, runner: Runner, before: Callable[[], None], software: bool = False) -> None:
        self._runner = runner
        self._before = before
        self._hardware = not software
        self._ran = False
        self._end = ""
        self.why = ""  # it stands where nobody asked it to; '' if that is not so

    def run_to(self, places: Collection[KernelVirt]) -> KernelVirt | None:
        """Run until a processor is about to execute one of `places`; which one.

        None: it stands for another reason, which `why` tells.  If it has reached a place and there
        is another reason as well (Ctrl-C, a breakpoint of the user's), the place comes first.  A
        machine that stands at a place to begin with has reached it.  Raises TargetGone,
        NotInserted.
        """
        self.why = self._end
        if self.why:
            return None
        self._before()
        if not self._ran:
            self._ran = True
            here = KernelVirt(self.register("rip"))
            if here in places:
                return here
        halt = self._go(places)
        self._end = _reason(halt)
        if halt.place in places:
            return halt.place
        self.why = self._end or f"the target stopped by itself at {halt.place:#x}"
        return None

    def register(self, name: str) -> int:
        return self._runner.register(name)

    def pointer(self, address: KernelVirt) -> KernelVirt:
        return self._runner.pointer(address)

    def _go(self, places: Collection[KernelVirt]) -> Halt:
        if self._hardware:
            try:
                return self._runner.go(places, True)
            except NotInserted:
                self._hardware = False  # none there, or too few
        return self._runner.go(places, False)


def _reason(halt: Halt) -> str:
    """Why not to go on, apart from the place that was reached."""
    if halt.interrupted or halt.signal == "SIGINT":
        return "interrupted"
    if halt.others:
        return f"breakpoint {', '.join(halt.others)} at {halt.place:#x}"
    if halt.signal not in ("", "SIGTRAP"):
        return f"the target stopped at {halt.place:#x} with {halt.signal}"
    return ""
