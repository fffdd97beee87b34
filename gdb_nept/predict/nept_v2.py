# SPDX-License-Identifier: GPL-2.0-or-later
"""What the 2012 series "nEPT v2" would have injected: to recognise that class of bug.

Its nested_ept_inject_page_fault() left the exit reason at EPT violation, put the page fault's error
code where an exit qualification belongs, and set no guest-linear address.  (The series was never
merged in that form; the first merged one is in Linux 3.12.)
"""

from __future__ import annotations

from gdb_nept.address import Out
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.predict.access import Access, Controls, Op
from gdb_nept.predict.case import FETCH, SDM, WRITE, Case
from gdb_nept.predict.hardware import explain
from gdb_nept.predict.kvm import Kvm
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.guest_paging import PageFault
from gdb_nept.walk.result import Cause

#: What it offered L1, as far as a KVM's features tell.
KVM = Kvm("v2-2012", frozenset(), SDM)


def inject(
    memory: PhysicalMemory[Out],
    eptp: Eptp,
    access: Access,
    cpu: Capabilities,
    controls: Controls,
) -> Prediction[Out]:
    """What L1 would have found in vmcs12."""
    walk = walk_ept(memory, eptp, access.gpa, cpu)
    case = Case(walk, access, eptp, cpu, controls, SDM)
    stop = walk.stop
    if stop is not None and stop.cause in (Cause.UNREADABLE, Cause.NO_MEMORY, Cause.NO_WALK):
        return Prediction(Outcome.UNKNOWN, walk, stop.why)
    lacking = case.needed & ~case.allowed
    if stop is None and not lacking:
        return Prediction(Outcome.TRANSLATED, walk, "EPT12 allows it")
    why, change = (stop.why, "") if stop is not None else explain(case, lacking)
    # FETCH was set only where L2 has NX or SMEP on: not known here
    unknown = PageFault.fetch.mask if case.needed & FETCH else 0
    return Prediction(
        Outcome.VIOLATION,
        walk,
        f"{why}; the 2012 series injects the error code of a page fault",
        qualification=_error_code(case),
        mask=ALL_BITS & ~unknown,
        gpa=access.gpa,
        gla=None,
        change=change,
    )


def _error_code(case: Case[Out]) -> int:
    """That of the page fault which its walk of EPT12 came to."""
    stop = case.walk.stop
    reserved = stop is not None and stop.cause is Cause.MISCONFIGURED
    reads_first = case.access.emulated and case.access.op is Op.RMW and stop is not None
    return PageFault.build(
        present=int(stop is None or reserved),
        write=int(bool(case.needed & WRITE) and not reads_first),
        user=int(case.access.emulated),
        reserved=int(reserved),
    )
