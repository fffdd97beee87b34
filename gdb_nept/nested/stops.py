# SPDX-License-Identifier: GPL-2.0-or-later
"""The states of vCPUs at the stops of a live machine: what nept-diff compares.

Once the state of a vCPU was asked for, it is taken at each stop by itself, so that there is
something to compare with at the next.  Where that takes long (a slow link, a large guest), it would
hold up every step of the user's: then it is taken only when it is asked for.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from gdb_nept.address import KernelVirt
from gdb_nept.errors import NeptError
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session
from gdb_nept.nested.state import State, state_of

QUICK = 0.25  # seconds that a stop may be held up


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
    """The newest state, the newest of an earlier stop, and the one that the user marked."""

    newest: Taken
    earlier: Taken | None = None
    mark: Taken | None = None


class Stops:
    """Of one kernel; vCPUs are told apart by their struct kvm and struct kvm_vcpu."""

    def __init__(self) -> None:
        self._vcpus: dict[tuple[KernelVirt, KernelVirt], _Vcpu] = {}
        self._stop = 0
        self._stands = False

    def forget(self) -> None:
        """Another kernel."""
        self._vcpus.clear()

    def ran(self) -> None:
        """The machine ran, once or more often."""
        self._stands = False

    def stopped(self, session: Session) -> None:
        """It stands, where the user will see it.  What cannot be read is left out: nobody has
        asked for it."""
        self._arrive()
        for (kvm, vcpu), known in self._vcpus.items():
            if known.newest.quick and known.newest.stop != self._stop:
                with suppress(NeptError):
                    chosen = session.at(vcpu)
                    if chosen.owner.address == kvm:
                        self._take(session, chosen)

    def now(self, session: Session, chosen: Chosen) -> Taken:
        """The state at this stop.  Raises as state_of()."""
        self._arrive()
        known = self._vcpus.get(_place(chosen))
        if known is not None and known.newest.stop == self._stop:
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

    def _arrive(self) -> None:
        if not self._stands:
            self._stands = True
            self._stop += 1

    def _take(self, session: Session, chosen: Chosen) -> Taken:
        began = time.monotonic()
        state = state_of(session, chosen)
        taken = Taken(state, self._stop, began, time.monotonic() - began)
        known = self._vcpus.get(_place(chosen))
        if known is None:
            self._vcpus[_place(chosen)] = _Vcpu(taken)
        else:
            known.newest, known.earlier = taken, known.newest
        return taken


def _place(chosen: Chosen) -> tuple[KernelVirt, KernelVirt]:
    return chosen.owner.address, chosen.vcpu.address
