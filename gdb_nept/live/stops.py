# SPDX-License-Identifier: GPL-2.0-or-later
"""The states of vCPUs at the stops of a live machine: what nept-diff compares.

Once the state of a vCPU was asked for, it is taken at each stop by itself, so that there is
something to compare with at the next.  Where that takes long (a slow link, a large guest), it would
hold up every step of the user's: then it is taken only when it is asked for.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Optional

from gdb_nept.address import KernelVirt
from gdb_nept.errors import NeptError
from gdb_nept.kvm.vm import birth_of
from gdb_nept.live.state import State, state_of
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session

QUICK = 0.25  # seconds that a stop may be held up

#: struct kvm and struct kvm_vcpu, and when the VM was made.
Place = tuple[KernelVirt, KernelVirt, Optional[int]]


@dataclass(frozen=True)
class Taken:
    """A state, the stop at which it was taken, when that began, and the seconds that it took; by a
    clock that only goes forward."""

    state: State
    stop: int
    began: float
    seconds: float

    @property
    def quick(self) -> bool:
        return self.seconds <= QUICK


@dataclass
class _Vcpu:
    """The newest state, the newest of an earlier stop, and the one that the user marked.

    `passing`: it is taken in passing at each stop.  `doubtful`: memory was written since."""

    newest: Taken
    passing: bool
    earlier: Taken | None = None
    mark: Taken | None = None
    doubtful: bool = False


class Stops:
    """Of one kernel.  `runs` is given what tells that the machine ran, once or more often."""

    def __init__(self) -> None:
        self.runs: deque[object] = deque(("before us",), maxlen=1)
        self._vcpus: dict[Place, _Vcpu] = {}
        self._stop = 0

    def forget(self) -> None:
        """Another kernel."""
        self._vcpus.clear()

    def doubt(self) -> None:
        """Its memory may be another, though it did not run."""
        for known in self._vcpus.values():
            known.doubtful = True

    def arrive(self) -> bool:
        """It stands, where the user will see it; whether there is something to take."""
        if self.runs:
            self.runs.clear()
            self._stop += 1
        return any(known.passing for known in self._vcpus.values())

    def take(self, session: Session) -> None:
        """What is to be taken in passing.  What cannot be, or not in time, is left out from now on
        and until it is asked for again, and so is everything if Ctrl-C comes."""
        deadline = time.monotonic() + QUICK
        wanted = [place for place, known in self._vcpus.items() if known.passing]
        for place in wanted:
            self._vcpus[place].passing = False
        for place in wanted:
            try:
                chosen = session.at(place[1])
                if _place(chosen) == place:
                    self._take(session, chosen, deadline)
            except NeptError:
                continue  # nobody has asked for it; nept-diff says with which stop it compares

    def now(self, session: Session, chosen: Chosen) -> Taken:
        """The state at this stop.  Raises as state_of()."""
        self.arrive()
        known = self._vcpus.get(_place(chosen))
        if known is not None and known.newest.stop == self._stop and not known.doubtful:
            return known.newest
        return self._take(session, chosen)

    def earlier(self, chosen: Chosen) -> Taken | None:
        """The newest state of an earlier stop, if there is one."""
        known = self._vcpus.get(_place(chosen))
        return known.earlier if known else None

    def mark(self, chosen: Chosen) -> None:
        """Keep the newest state until another is marked."""
        known = self._vcpus[_place(chosen)]
        known.mark = known.newest

    def marked(self, chosen: Chosen) -> Taken | None:
        known = self._vcpus.get(_place(chosen))
        return known.mark if known else None

    def _take(self, session: Session, chosen: Chosen, deadline: float = math.inf) -> Taken:
        began = time.monotonic()
        state = state_of(session, chosen, deadline)
        taken = Taken(state, self._stop, began, time.monotonic() - began)
        known = self._vcpus.get(_place(chosen))
        if known is None:
            self._vcpus[_place(chosen)] = _Vcpu(taken, taken.quick)
            return taken
        if known.newest.stop != taken.stop:
            known.earlier = known.newest
        known.newest, known.passing, known.doubtful = taken, taken.quick, False
        return taken


def _place(chosen: Chosen) -> Place:
    return chosen.owner.address, chosen.vcpu.address, birth_of(chosen.owner.value)
