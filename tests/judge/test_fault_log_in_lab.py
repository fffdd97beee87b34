# SPDX-License-Identifier: GPL-2.0-or-later
"""Every exit that L1 logged in the scenario, put before nept-check again.

L1 stands in its exit handler at the end of the scenario.  The fields of vmcs12 and EPT12's entries
are replaced on the way from the snapshot by those that L1 logged at an exit, so that the state is
that of the exit as far as EPT goes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from bochs_lab import snapshot as lab
from bochs_lab.emulator import BUILT
from bochs_lab.options import LabOptions

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.arch.ept import Eptp
from gdb_nept.arch.exits import EPT_VIOLATION, EptViolation
from gdb_nept.judge.check import Check, Finding, check
from gdb_nept.judge.features import kvm_model, named_model
from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.memory.guest import GuestMemory
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.predict.kvm import Feature
from gdb_nept.target.linux import attach
from gdb_nept.walk.ept import walk_ept
from tests.conftest import kernel_cache
from tests.kernels import facts_of, kvm_on_bochs
from tests.overlay import Overlay

pytestmark = pytest.mark.bochs

#: The normal host of today: a processor with advanced exit information, and a KVM that offers it.
NEWER = LabOptions(kernel="7.2", bochs=BUILT, cpu="tigerlake", park="l1-exit")
MANY = 1400  # EPT exits of the scenario
EVERY = 8  # of those on the usual processor, which nept-watch compares one by one anyway
LOGGED = {
    "vm_exit_reason": "reason",
    "exit_qualification": "qualification",
    "guest_physical_address": "gpa",
    "guest_linear_address": "gla",
    "guest_rip": "rip",
}
ADVANCED = (
    EptViolation.user_linear.mask
    | EptViolation.writable_linear.mask
    | EptViolation.execute_disable_linear.mask
)
Exit = dict[str, Any]


@dataclass(frozen=True)
class Log:
    exits: list[Exit]
    memory: Overlay
    session: Session
    vmcs12: Vmcs12
    l1: GuestMemory
    model: str

    def checked(self, told: Exit) -> Check:
        """What nept-check finds in the state of this exit."""
        self.memory.bytes.clear()
        for name, key in LOGGED.items():
            self._put(name, int(told[key], 16))
        eptp = self.vmcs12.eptp
        without = eptp.value & ~Eptp.accessed_dirty.mask
        self._put("ept_pointer", without | (Eptp.accessed_dirty.mask if told["ad"] else 0))
        cpu = self.session.ept(self.session.pick(None, None), Which.L1).cpu
        steps = walk_ept(self.l1, eptp, L2Phys(int(told["gpa"], 16)), cpu).steps
        for step, entry in zip(steps, told["entries"]):
            place = self.l1.host_physical(L1Phys(step.address))
            self.memory.put(place, int(entry, 16), 8)
        self.session.drop()
        chosen = self.session.pick(None, None)
        return check(self.session, chosen, named_model(self.session, chosen, self.model))

    def _put(self, name: str, number: int) -> None:
        field = self.vmcs12.field(name)
        assert self.vmcs12.address is not None
        base = self.session.kernel.to_physical(self.vmcs12.address)
        self.memory.put(base + field.offset, number, field.size)


def opened(snapshot: Path) -> Log:
    raw: RawMemory[Any] = RawMemory(snapshot / "memory.raw")
    memory = Overlay(raw)
    session = Session(attach(memory, ram=raw.size, cache=kernel_cache()))
    chosen = session.pick(None, None)
    said = json.loads((snapshot / "facts.json").read_text())
    exits = [one for one in said if one.get("reason") in ("0x30", "0x31")]
    vmcs12, l1 = session.vmcs12(chosen), session.l1_memory(chosen)
    return Log(exits, memory, session, vmcs12, l1, kvm_on_bochs(snapshot))


@pytest.fixture(scope="module", params=["usual", "newer"])
def snapshot_of(request: pytest.FixtureRequest, simplest: LabOptions) -> LabOptions:
    """The machine that is asked for, and always the one of today."""
    usual = replace(simplest, park="l1-exit")
    if request.param == "newer" and usual == NEWER:
        pytest.skip("the same machine")
    return usual if request.param == "usual" else NEWER


@pytest.fixture(scope="module")
def log(snapshot_of: LabOptions) -> Log:
    return opened(lab.ensure(snapshot_of))


def test_every_exit_that_l1_logged_agrees(log: Log, snapshot_of: LabOptions) -> None:
    assert len(log.exits) > MANY
    exits = log.exits if snapshot_of.bochs == BUILT else log.exits[::EVERY]
    found = [(log.checked(told).finding, told["case"]) for told in exits]
    assert [one for one in found if one[0] is not Finding.AGREE] == []


def test_kvm_offers_what_the_kernel_has_for_this_processor(
    log: Log, snapshot_of: LabOptions
) -> None:
    known = facts_of(lab.ensure(snapshot_of)).features
    assert kvm_model(log.session, log.session.pick(None, None)).model.kvm.features == known
    newer = {Feature.MBEC, Feature.ADVANCED} <= known
    assert newer == (snapshot_of.kernel == "7.2" and snapshot_of.bochs == BUILT)


def test_bits_11_to_9_are_compared_where_the_processor_tells_them(
    log: Log, snapshot_of: LabOptions
) -> None:
    """With the linear address valid, KVM 7.2 passes them on; the processor of 2.7 tells zeros."""
    violations = [one for one in log.exits if int(one["reason"], 16) == EPT_VIOLATION]
    set_bits = [int(one["qualification"], 16) & ADVANCED for one in violations]
    known = facts_of(lab.ensure(snapshot_of)).features
    assert any(set_bits) == (Feature.ADVANCED in known)
    told = next(one for one, bits in zip(violations, set_bits) if bits or not any(set_bits))
    for bit in (9, 10, 11):
        other = hex(int(told["qualification"], 16) ^ 1 << bit)
        assert log.checked({**told, "qualification": other}).finding is Finding.DIFFER
