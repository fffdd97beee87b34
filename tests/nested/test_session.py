# SPDX-License-Identifier: GPL-2.0-or-later
"""What a session keeps from stop to stop of a watch, and what makes it read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gdb_nept.address import KernelVirt
from gdb_nept.errors import NoGuest
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.target.ports import Value
from tests.overlay import Overlay, opened

pytestmark = pytest.mark.bochs


class Watched:
    """A session that has stopped once, with a vCPU found by its address."""

    def __init__(self, snapshot: Path) -> None:
        self.session, self.first = opened(snapshot)
        self.first = self.session.at(self.first.vcpu.address)

    def put(self, value: Value, change: int) -> None:
        memory = self.session.kernel.physical
        assert isinstance(memory, Overlay)
        place = self.session.kernel.to_physical(value.address)
        size = value.type.size
        memory.put(place, (value.number() + change) & ((1 << 8 * size) - 1), size)

    def again(self) -> Chosen:
        self.session.drop()
        return self.session.at(self.first.vcpu.address)


@pytest.fixture
def watched(plain_snapshot: Path) -> Watched:
    return Watched(plain_snapshot)


def generation(kvm: Value) -> Value:
    return kvm.member("memslots").index(0).deref().member("generation")


def test_between_the_stops_of_a_watch_the_vm_is_read_once(watched: Watched) -> None:
    with watched.session.watched():
        assert watched.again().owner is watched.first.owner
        watched.put(watched.first.vcpu.value.member("arch.hflags"), 1 << 12)
        now = watched.again()
        assert now.owner is watched.first.owner
        assert now.vcpu != watched.first.vcpu, "the vCPU is read at each stop"
    assert watched.again().owner is not watched.first.owner, "KVM may be another by now"


@pytest.mark.parametrize("changed", [generation, lambda kvm: kvm.member("arch.kvmclock_offset")])
def test_other_memslots_or_another_vm_are_seen(
    watched: Watched, changed: Callable[[Value], Value]
) -> None:
    with watched.session.watched():
        watched.put(changed(watched.first.owner.value), 2)
        assert watched.again().owner is not watched.first.owner


def test_the_slots_are_those_of_the_new_generation(watched: Watched) -> None:
    slots = watched.session.slots(watched.first).slots
    with watched.session.watched():
        watched.put(slots[0].value.member("userspace_addr"), 0x1000)
        watched.put(generation(watched.first.owner.value), 2)
        (new, *_) = watched.session.slots(watched.again()).slots
        assert new.userspace_addr == slots[0].userspace_addr + 0x1000


def test_the_layout_of_vmcs12_is_looked_up_once(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    session: Session = watched.session
    vmcs12 = session.vmcs12(watched.first)

    def looked_up(*arguments: object) -> None:
        raise AssertionError("looked up again")

    with session.watched():
        monkeypatch.setattr("gdb_nept.kvm.vmcs12.layout_of", looked_up)
        assert session.vmcs12(watched.again()) == vmcs12
    session.drop()
    with pytest.raises(AssertionError, match="looked up again"):
        session.vmcs12(watched.first)


def test_a_vcpu_that_its_vm_does_not_list_is_none(watched: Watched) -> None:
    inside = watched.first.vcpu.value.member("kvm").address - 0x40
    with watched.session.watched(), pytest.raises(NoGuest, match="no VM has a vCPU"):
        watched.session.at(KernelVirt(inside))


def test_a_kernel_that_does_not_tell_a_vm_from_the_next_is_read_each_time(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gdb_nept.nested.session.mark_of", lambda kvm: None)
    with watched.session.watched():
        first = watched.again()
        assert watched.again().owner is not first.owner


@pytest.mark.parametrize("width", [0, 31, 53, 0x7FFFFFFF, -1])
def test_a_physical_width_that_no_processor_has_is_told(plain_snapshot: Path, width: int) -> None:
    session, chosen = opened(plain_snapshot)
    memory = session.kernel.physical
    assert isinstance(memory, Overlay)
    value = chosen.vcpu.value.member("arch.maxphyaddr")
    size = value.type.size
    memory.put(session.kernel.to_physical(value.address), width & (1 << 8 * size) - 1, size)
    session.drop()
    again = session.pick(None, None)
    with pytest.raises(NoGuest, match="MAXPHYADDR"):
        session.ept(again, Which.L1)
    assert session.vmcs12(again).eptp.levels == 4
