# SPDX-License-Identifier: GPL-2.0-or-later
"""Every exit that KVM makes for L1 because of EPT12, as it happens, against the prediction.

At the first instruction of KVM's injection point EPT12 is as the access found it, and vmcs12 still
tells of an older exit.  There everything is predicted.  Then KVM is let go on until it returns from
there, and only then is read what it has written.  (Another processor of L1's can change EPT12
between KVM's own walk and that instruction: then the two differ, and rightly.)

Where the access went is what KVM has found at fault.  If its page faults are followed, it is what
the processor has reported, where that access must exit by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Union

from gdb_nept.address import KernelVirt, L2Phys
from gdb_nept.arch.exits import EPT_VIOLATION
from gdb_nept.errors import NeptError, TargetGone
from gdb_nept.judge.candidates import Place, Seen, link_of, place_of, seen_by
from gdb_nept.judge.check import Check, Finding, Foretold, compare, foretell
from gdb_nept.judge.features import fixed_model, named_model
from gdb_nept.judge.ground import Ground, ground
from gdb_nept.live.injection import (
    Call,
    Point,
    call_at,
    faulting_address,
    injection_point,
    page_fault_point,
)
from gdb_nept.live.kept import Following, Kept, begin_following, end_following
from gdb_nept.memory.budget import renew
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.guest_registers import guest_registers
from gdb_nept.nested.session import Session
from gdb_nept.predict.access import Access
from gdb_nept.predict.model import Model
from gdb_nept.target.running import Running


@dataclass(frozen=True)
class Reflected:
    """An exit that KVM made for L1.  `seen` is what the processor reported of the access, None if
    it left L2 for another reason, or KVM keeps no note of it."""

    vm: int
    vcpu: int
    gpa: L2Phys
    seen: Seen | None
    check: Check

    @property
    def agrees(self) -> bool:
        return self.check.finding is Finding.AGREE

    @property
    def differs(self) -> bool:
        return not self.agrees and self.check.finding is not Finding.UNKNOWN


@dataclass(frozen=True)
class Unread:
    """An exit that could not be predicted or compared, and why."""

    vm: int
    vcpu: int
    why: str
    agrees: bool = False
    differs: bool = True
    seen: None = None


Event = Union[Reflected, Kept, Unread]
NOWHERE = (-1, -1)  # numbers of a VM and a vCPU that are not known


@dataclass(frozen=True)
class Pending:
    """A call of the injection point that has begun."""

    call: Call
    gpa: L2Phys
    seen: Seen | None
    foretold: Foretold


@dataclass
class Watch:
    """`attach` gives the session on the target as it stands now.  `only` is the struct kvm_vcpu of
    the vCPU to watch, None for all; `follow`: also the faults of L2 that L0 deals with alone.
    `area`: L2 physical addresses (low, high not included); faults elsewhere are let `passed`."""

    attach: Callable[[], Session]
    machine: Running
    model: str
    only: KernelVirt | None = None
    follow: bool = False
    area: tuple[int, int] | None = None
    passed: int = 0
    points: tuple[Point, ...] = ()
    #: The event that events() gave last.
    last: Event | None = None
    _begun: dict[tuple[KernelVirt, int], Pending | Following | Unread] = field(default_factory=dict)
    #: vCPUs in a page fault that L1 has not been told of yet, and where they faulted.
    _faulting: dict[KernelVirt, L2Phys] = field(default_factory=dict)

    def prepare(self) -> None:
        """Find the functions to stop at.  Raises NoGuest, SymbolMissing, BadInput for a model that
        there is not."""
        session = self.attach()
        fixed_model(self.model)
        self.points = (injection_point(session.kernel, session.vms()),)
        if self.follow:
            self.points += (page_fault_point(session.kernel),)

    def events(self) -> Iterator[Event]:
        """Each as it ends, until the machine stands for another reason (`machine.why`)."""
        with self.attach().watched():
            yield from self._events()

    def _events(self) -> Iterator[Event]:
        while True:
            places = {point.address for point in self.points} | {back for back, _ in self._begun}
            renew()
            place = self.machine.run_to(places)
            if place is None:
                return
            if any(place == point.address for point in self.points):
                self._begins(place)
                continue
            end = (place, self.machine.register("rsp"))
            event = self._ends(self._begun[end]) if end in self._begun else None
            self.last = event or self.last
            self._begun.pop(end, None)
            if event is not None:
                yield event

    def unfinished(self) -> Iterator[Event]:
        """The exits that KVM had begun to make when the watch ended."""
        for begun in self._begun.values():
            if not isinstance(begun, Following):
                yield Unread(*NOWHERE, "the watch ended before this exit was compared")

    def _begins(self, place: KernelVirt) -> None:
        """What lies in registers comes first: Ctrl-C in what follows must not lose the call."""
        call = call_at(self.machine)
        if self.only not in (None, call.vcpu):
            return
        injects = place == self.points[0].address
        if injects:
            self._begun[call.end] = Unread(*NOWHERE, "interrupted")
        session = self.attach()
        begun: Pending | Following | Unread | None
        try:
            begun = self._injects(session, call) if injects else self._faults(session, call)
        except TargetGone:
            raise
        except NeptError as error:
            begun = Unread(*_numbers(session, call.vcpu), f"not predicted: {error.message}")
        if begun is not None:
            self._begun[call.end] = begun
        else:
            self._begun.pop(call.end, None)

    def _within(self, gpa: L2Phys) -> bool:
        return self.area is None or self.area[0] <= gpa < self.area[1]

    def _injects(self, session: Session, call: Call) -> Pending | None:
        gpa = self._faulting.pop(call.vcpu, None)
        chosen = session.at(call.vcpu)
        seen = seen_access(chosen)
        base, asked = ground(session, chosen), named_model(session, chosen, self.model)
        if gpa is None or seen is None or not _exits(base, seen.at(gpa), asked):
            gpa = faulting_address(session.kernel, call)
        if not self._within(gpa):
            self.passed += 1
            return None
        place = Place(gpa, None)
        foretold = foretell(session, chosen, base, place, model=asked, seen=seen)
        return Pending(call, gpa, seen, foretold)

    def _faults(self, session: Session, call: Call) -> Following | None:
        chosen = session.at(call.vcpu)
        begun = begin_following(session, chosen, call, seen_access(chosen), self.model)
        if begun is not None:
            self._faulting[call.vcpu] = begun.before.asked
        return begun

    def _ends(self, begun: Pending | Following | Unread) -> Event | None:
        if isinstance(begun, Unread):
            return begun
        vcpu, returned = begun.call.vcpu, self.machine.register("rax")
        session = self.attach()
        try:
            if isinstance(begun, Pending):
                return _reflected(session, begun)
            if self._faulting.pop(vcpu, None) is None:
                return None
            if not self._within(begun.before.asked):
                self.passed += 1
                return None
            return end_following(session, begun, returned)
        except TargetGone:
            raise
        except NeptError as error:
            return Unread(*_numbers(session, vcpu), f"not compared: {error.message}")


def seen_access(chosen: Chosen) -> Seen | None:
    """The access that made the processor leave L2, if it left because of one."""
    last = chosen.vcpu.last_exit
    if last is None or last.qualification is None or last.reason.basic != EPT_VIOLATION:
        return None
    return seen_by(last.qualification)


def _exits(base: Ground, access: Access, asked: Model) -> bool:
    """Whether KVM must tell L1 of the processor's own access, and not of one that L0's emulator
    makes in its place."""
    return base.predict(access, asked).reason is not None


def _reflected(session: Session, begun: Pending) -> Reflected:
    """KVM has written vmcs12: only now is it looked at."""
    chosen = session.at(begun.call.vcpu)
    vmcs12 = session.vmcs12(chosen)
    registers = guest_registers(session, chosen)
    place, doubt = place_of(vmcs12), registers.translation_doubt
    link = link_of(begun.foretold.base, place, registers.paging, doubt)
    found = compare(begun.foretold, vmcs12, place, link, registers)
    return Reflected(chosen.vm, chosen.place, begun.gpa, begun.seen, found)


def _numbers(session: Session, vcpu: KernelVirt) -> tuple[int, int]:
    """Those of nept-vms, -1 where even they cannot be read."""
    try:
        chosen = session.at(vcpu)
    except TargetGone:
        raise
    except NeptError:
        return NOWHERE
    return chosen.vm, chosen.place
