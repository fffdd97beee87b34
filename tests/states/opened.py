# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot of each state, opened, and how it is asked for in a test: `@at("nx", "pae")`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

from gdb_nept.address import HostPhys, L2Phys
from gdb_nept.judge.features import named_model
from gdb_nept.judge.ground import ground
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.agreement import Verdict
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.guest_registers import GuestRegisters, guest_registers
from gdb_nept.nested.session import Session
from gdb_nept.nested.verdict import verdict
from gdb_nept.predict.linear import LinearPrediction, predict_linear
from gdb_nept.target.linux import attach
from gdb_nept.walk.guest_paging import GuestPaging
from tests.conftest import kernel_cache
from tests.kernels import kvm_on_bochs
from tests.states.told import Probe, Told

#: Where L1 runs; L2 runs at the others.
L1_RUNS = (
    *("nx-exit", "pae-exit", "controls-off-exit", "controls-on-exit", "composing"),
    *("eptp-written", "eptp-new", "eptp-ad", "ad-cleared", "ad-invept"),
)
PAGE_KINDS = ("rwx", "r", "rx", "rw", "hole", "w")
DATA_GPA, SLOT_GPA, MOVED_GPA, UNDER_SLOT_GPA = 0x2000000, 0x2400000, 0x2410000, 0x4000000
APIC, TSS = 0xFEE00000, 0xFFFBD000


@dataclass(frozen=True)
class State:
    """A snapshot, opened."""

    name: str
    session: Session
    chosen: Chosen
    told: Told
    on_bochs: str  # the attached KVM on that processor, as a model

    @property
    def registers(self) -> GuestRegisters:
        return guest_registers(self.session, self.chosen)

    def foretold(self, probe: Probe, paging: GuestPaging | None = None) -> LinearPrediction:
        base = ground(self.session, self.chosen)
        paging = paging or self.registers.paging
        by = named_model(self.session, self.chosen, self.on_bochs)
        return predict_linear(
            base.memory, base.eptp, probe.access, paging, base.cpu, base.controls, by
        )

    def verdict(self, gpa: int) -> Verdict:
        return verdict(self.session.journey(self.chosen, L2Phys(gpa)))


@lru_cache(maxsize=4)
def opened(name: str, snapshot: Path, log: Path) -> State:
    memory: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
    session = Session(attach(memory, ram=memory.size, cache=kernel_cache()))
    chosen = session.pick(None, None)
    return State(name, session, chosen, Told.by(log), kvm_on_bochs(snapshot))


def at(*names: str) -> pytest.MarkDecorator:
    """In each of these states."""
    return pytest.mark.parametrize("state", names, indirect=True)
