# SPDX-License-Identifier: GPL-2.0-or-later
"""L1 as it was during a case: its memory at the end of the run, with the case's words in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gdb_nept.address import L1Phys, L2Virt
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.linear import LinearAccess, LinearPrediction, predict_linear
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Outcome
from gdb_nept.walk.guest_paging import Cr0, Cr4, Efer, GuestPaging
from tests.modes.landscape import A, D
from tests.modes.scenario import (
    FETCH,
    IMPLICIT,
    READ,
    RMW,
    STACK_OPS,
    STACK_READ,
    STACK_WRITE,
    STACK_WRITE_USER,
    WRITE,
    Case,
    Mode,
    Scenario,
)
from tests.proof.machine import EPTP_AD, NO_CONTROLS, Memory

OPS = {
    **{READ: Op.READ, WRITE: Op.WRITE, RMW: Op.RMW, FETCH: Op.FETCH},
    **{STACK_READ: Op.READ, STACK_WRITE: Op.WRITE, STACK_WRITE_USER: Op.WRITE},
}
WIDTH = 4  # bytes of an access
DESCRIPTOR_WIDTH, TYPE_AT = 8, 5  # bytes of a descriptor; which of them has its accessed flag


@dataclass(frozen=True)
class Changed:
    """Memory with some words replaced, of the sizes that they are read in."""

    memory: Memory
    words: dict[int, bytes]

    def read(self, address: L1Phys, size: int) -> bytes:
        found = self.words.get(address)
        if found is not None and len(found) == size:
            return found
        return self.memory.read(address, size)


@dataclass(frozen=True)
class Step:
    """One access of L2's on the way, and what must come of it."""

    access: LinearAccess
    found: LinearPrediction


@dataclass
class ModesMachine:
    """What a prediction is made from, but for the case."""

    scenario: Scenario
    memory: Memory
    cpu: Capabilities
    registers: bool = True  # PAE by the PDPTE registers; else by the entries in memory
    pagings: dict[Mode, GuestPaging] = field(default_factory=dict)
    fetches: dict[tuple[object, ...], Step] = field(default_factory=dict)

    def eptp_of(self, case: Case) -> Eptp:
        return Eptp(self.scenario.land.eptp | (EPTP_AD if case.ad else 0))

    def controls_of(self, case: Case) -> Controls:
        return NO_CONTROLS

    def paging_of(self, mode: Mode) -> GuestPaging:
        found = self.pagings.get(mode)
        if found is None:
            found = self.pagings[mode] = self._paging(mode)
        return found

    def _paging(self, mode: Mode) -> GuestPaging:
        cr3 = self.scenario.cr3_of(mode)
        return GuestPaging(
            *(Cr0(mode.cr0), cr3, Cr4(mode.cr4), Efer(mode.efer)),
            self.cpu.maxphyaddr,
            self.scenario.pdptes_of(mode) if self.registers else (),
            mode.ac,
            mode.pkru,
            mode.pkrs,
        )

    def during(self, case: Case) -> Changed:
        words = {at: value.to_bytes(size, "little") for at, value, size in case.patches}
        return Changed(self.memory, words)

    def accesses(self, case: Case) -> list[LinearAccess]:
        """What L2 does: fetches its stub, and makes the access; selectors are loaded by a read of
        the descriptor and a write of its accessed flag, both the processor's own."""
        linear, user = L2Virt(self.scenario.linear_of(case)), case.mode.cpl == 3
        if case.op == FETCH:
            return [LinearAccess(linear, 1, Op.FETCH, user)]
        stub = LinearAccess(L2Virt(self.scenario.stub_linear(case)), 1, Op.FETCH, user)
        if case.op != IMPLICIT:
            on_stack, user = case.op in STACK_OPS, user or case.op == STACK_WRITE_USER
            op = OPS[case.op]
            return [stub, LinearAccess(linear, WIDTH, op, user, shadow_stack=on_stack)]
        read = LinearAccess(linear, DESCRIPTOR_WIDTH, Op.READ, user, implicit=True)
        flag = LinearAccess(L2Virt(linear + TYPE_AT), 1, Op.WRITE, user, implicit=True)
        return [stub, read, flag]

    def steps(self, case: Case, model: Model) -> list[Step]:
        """Up to the first access that does not go through.  Reads the case and L1's tables, never
        the log."""
        memory, eptp, paging = self.during(case), self.eptp_of(case), self.paging_of(case.mode)
        found = []
        for access in self.accesses(case):
            step = self._usual_fetch(case, access, model)
            if step is None:
                one = predict_linear(memory, eptp, access, paging, self.cpu, NO_CONTROLS, model)
                step = Step(access, one)
            found.append(step)
            one = step.found
            if one.outcome is not Outcome.TRANSLATED:
                break
        return found

    def _usual_fetch(self, case: Case, access: LinearAccess, model: Model) -> Step | None:
        """The fetch of the stub, if the case changes nothing on the way there: the same each time
        for each kind of access."""
        if access.op is not Op.FETCH or case.op == FETCH:
            return None
        if any(at in self.scenario.on_way_to_code for at, _, _ in case.patches):
            return None
        key = case.mode, case.ad, case.op, model
        found = self.fetches.get(key)
        if found is None:
            memory = Changed(self.memory, {})
            one = predict_linear(
                *(memory, self.eptp_of(case), access, self.paging_of(case.mode), self.cpu),
                NO_CONTROLS,
                model,
            )
            found = self.fetches[key] = Step(access, one)
        return found

    def predict(self, case: Case, model: Model) -> LinearPrediction:
        """Of the access that decides."""
        return self.steps(case, model)[-1].found

    def entries_after(self, case: Case, steps: Sequence[Step]) -> list[int]:
        """L2's own entries for the address of the case, with the flags that were set (5.8)."""
        patched = {at: value for at, value, _ in case.patches}
        entries = []
        for entry in self.scenario.land.targets[case.target].entries:
            if entry.address is None:
                continue
            value = patched.get(entry.address, self.scenario.land.value(entry.address))
            gpa = entry.table.gpa + (entry.address - entry.table.l1)
            for step in steps:
                if any(_updates(one, gpa) for one in step.found.before):
                    dirties = entry.leaf and step.access.op in (Op.WRITE, Op.RMW)
                    value |= A | (D if dirties else 0)
            entries.append(value)
        return entries


def _updates(access: Access, gpa: int) -> bool:
    return access.stage is Stage.WALK and access.op is Op.RMW and access.gpa == gpa
