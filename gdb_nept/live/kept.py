# SPDX-License-Identifier: GPL-2.0-or-later
"""A fault of L2 that L0 deals with alone, and why L1 never sees it.

The processor faults in EPT02.  Where EPT12 allows the access, KVM mends its shadow, or emulates the
instruction, and lets L2 go on (arch/x86/kvm/mmu/mmu.c kvm_mmu_page_fault()).
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.address import HostPhys, L1Phys, L2Phys
from gdb_nept.arch.exits import ExitReason
from gdb_nept.judge.candidates import Seen
from gdb_nept.judge.features import named_model
from gdb_nept.judge.ground import ground
from gdb_nept.kvm.spte import SpteKind
from gdb_nept.live.injection import Call
from gdb_nept.nested.agreement import Verdict
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.journey import Journey
from gdb_nept.nested.session import Session
from gdb_nept.nested.verdict import verdict
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.walk.result import Step

TO_VMM = 0  # what kvm_mmu_page_fault() returns where KVM_RUN returns to the VMM


KEPT = (Outcome.TRANSLATED, Outcome.APIC_ACCESS)


@dataclass(frozen=True)
class Following:
    """A call of kvm_mmu_page_fault() that has begun, with the tables as it found them."""

    call: Call
    reason: ExitReason
    seen: Seen | None
    before: Journey
    foreseen: Prediction[L1Phys] | None


@dataclass(frozen=True)
class Kept:
    """`foreseen` is what the access must lead to by EPT12; None if it is not known which access it
    was.  `old` and `new` are the last entry of EPT02 on the way, before and after; `meant` is what
    the old one meant to KVM."""

    vm: int
    vcpu: int
    gpa: L2Phys
    reason: ExitReason
    seen: Seen | None
    verdict: Verdict
    foreseen: Prediction[L1Phys] | None
    meant: SpteKind | None
    old: Step[HostPhys] | None
    new: Step[HostPhys] | None
    to_vmm: bool

    @property
    def agrees(self) -> bool:
        """Whether L0 was right to keep it.  An access to the APIC-access page makes its exit only
        after KVM has put the page into EPT02."""
        return self.foreseen is None or self.foreseen.outcome in KEPT

    @property
    def differs(self) -> bool:
        """The model says that L1 must see it."""
        unknown = self.foreseen is not None and self.foreseen.outcome is Outcome.UNKNOWN
        return not (self.agrees or unknown)


def begin_following(
    session: Session, chosen: Chosen, call: Call, seen: Seen | None, model: str
) -> Following | None:
    """None for a fault of L1's own, or of an L2 that L1 runs without EPT."""
    nested, last = chosen.vcpu.nested, chosen.vcpu.last_exit
    if nested is None or not nested.l2_active or last is None:
        return None
    if not session.vmcs12(chosen).ept_enabled:
        return None
    gpa = L2Phys(call.second)
    foreseen = None
    if seen is not None:
        asked = named_model(session, chosen, model)
        foreseen = ground(session, chosen).predict(seen.at(gpa), asked)
    return Following(call, last.reason, seen, session.journey(chosen, gpa), foreseen)


def end_following(session: Session, begun: Following, returned: int) -> Kept:
    """At the return of kvm_mmu_page_fault(), which made no exit for L1."""
    chosen = session.at(begun.call.vcpu)
    after = session.journey(chosen, begun.before.asked)
    return Kept(
        vm=chosen.vm,
        vcpu=chosen.place,
        gpa=begun.before.asked,
        reason=begun.reason,
        seen=begun.seen,
        verdict=verdict(begun.before),
        foreseen=begun.foreseen,
        meant=_meaning(begun.before),
        old=_last(begun.before),
        new=_last(after),
        to_vmm=returned & 0xFFFFFFFF == TO_VMM,
    )


def _meaning(journey: Journey) -> SpteKind | None:
    last = journey.shadow.last if journey.shadow else None
    return last.kind if last else None


def _last(journey: Journey) -> Step[HostPhys] | None:
    steps = journey.shadow.walk.steps if journey.shadow else ()
    return steps[-1] if steps else None
