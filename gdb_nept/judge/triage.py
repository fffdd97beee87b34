# SPDX-License-Identifier: GPL-2.0-or-later
"""What is to be known of a dump before anybody looks at it: its nested vCPUs, the exit that each
reflected last, and what contradicts what.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gdb_nept.arch.exits import EPT_MISCONFIGURATION, EPT_VIOLATION, ExitReason
from gdb_nept.errors import NeptError, NoGuest
from gdb_nept.judge.check import Check, Finding, check
from gdb_nept.kvm.vm import Vm
from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.kvm.vms import VmList
from gdb_nept.nested.agreement import WRONG, Verdict
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.nested.verdict import verdict


@dataclass
class Nested:
    """A vCPU in VMX operation.  `check` and `walk` are of its last exit, if that was one of EPT;
    `anomalies` are what contradicts, `missing` what could not be told, and why."""

    vm: int
    vcpu: int
    l2_active: bool
    vmcs12: Vmcs12 | None = None
    check: Check | None = None
    walk: Verdict | None = None
    anomalies: list[str] = field(default_factory=list)
    missing: list[NeptError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def part(self) -> Iterator[None]:
        """What fails within costs that part alone."""
        try:
            yield
        except NoGuest as error:
            self.notes.append(error.message)
        except NeptError as error:
            self.missing.append(error)


@dataclass(frozen=True)
class Triage:
    """`vms` is None where there is no KVM, or where its VMs cannot be listed."""

    vms: VmList | None
    nested: tuple[Nested, ...]
    missing: tuple[NeptError, ...] = ()
    notes: tuple[str, ...] = ()


def triage(session: Session) -> Triage:
    """Never raises for what one of the VMs holds."""
    try:
        found = session.vms()
    except NoGuest as error:
        if session.kernel.module_problem:  # whether KVM is there at all is not known
            return Triage(None, (), (error,))
        return Triage(None, (), notes=(error.message,))
    except NeptError as error:
        return Triage(None, (), (error,))
    return Triage(found, tuple(one for vm in found.vms for one in _nested(session, vm)))


def _nested(session: Session, vm: Vm) -> Iterator[Nested]:
    for vcpu in vm.vcpus:
        state = vcpu.nested
        if state is None or not state.vmxon:
            continue
        one = Nested(vm.index, vcpu.place, state.l2_active)
        if state.disagreement:
            one.anomalies.append(state.disagreement)
        _look(session, Chosen(vm, vcpu), one)
        yield one


def _look(session: Session, chosen: Chosen, one: Nested) -> None:
    with one.part():
        one.vmcs12 = session.vmcs12(chosen)
        one.anomalies += one.vmcs12.problems
    if one.vmcs12 is None:
        return
    with one.part():
        refusal = session.ept(chosen, Which.L1).refusal
        if refusal:
            one.anomalies.append(f"VM entry refuses the EPTP: {refusal}")
    reason = ExitReason(one.vmcs12.number("vm_exit_reason"))
    if reason.basic not in (EPT_VIOLATION, EPT_MISCONFIGURATION):
        return
    with one.part():
        one.check = check(session, chosen)
    if one.check is None:
        return
    with one.part():
        one.walk = verdict(session.journey(chosen, one.check.place.gpa))


def differs(one: Nested) -> bool:
    """What nept-check or nept-walk would end with status 3 for."""
    told = one.check is not None and one.check.finding is Finding.DIFFER
    return told or (one.walk is not None and one.walk.agreement in WRONG)
