# SPDX-License-Identifier: GPL-2.0-or-later
"""What must happen, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from gdb_nept.address import L2Phys, L2Virt, Out
from gdb_nept.arch.exits import (
    APIC_ACCESS,
    EPT_MISCONFIGURATION,
    EPT_VIOLATION,
    PML_FULL,
    SPP_EVENT,
    TRIPLE_FAULT,
)
from gdb_nept.predict.access import Plain
from gdb_nept.walk.result import Walk


class Outcome(Plain):
    """What comes of an access; the value is the name in output and JSON."""

    TRANSLATED = "translated"
    VIOLATION = "violation"
    MISCONFIG = "misconfig"
    APIC_ACCESS = "apic_access"  # to the APIC-access page, which L1 virtualizes
    PML_FULL = "pml_full"
    SPP = "spp"
    VE = "ve"  # the violation is delivered to the guest as #VE, with no exit
    L0_INTERNAL = "l0_internal"  # a failure in L0's emulator that L1 is not told of
    PAGE_FAULT = "page_fault"
    GENERAL_PROTECTION = "general_protection"  # in L2
    TRIPLE_FAULT = "triple_fault"  # of L2, as an exit for L1
    SHUTDOWN = "shutdown"  # L0 ends L1's VM
    UNKNOWN = "unknown"  # a table on the way cannot be read


#: The only place where an outcome gets its number (SDM vol. 3, appendix C).
REASONS = {
    Outcome.VIOLATION: EPT_VIOLATION,
    Outcome.MISCONFIG: EPT_MISCONFIGURATION,
    Outcome.APIC_ACCESS: APIC_ACCESS,
    Outcome.PML_FULL: PML_FULL,
    Outcome.SPP: SPP_EVENT,
    Outcome.TRIPLE_FAULT: TRIPLE_FAULT,
}


@dataclass(frozen=True)
class Prediction(Generic[Out]):
    """The exit of one access, computed from tables, controls and capabilities alone.

    `mask` has the bits of the qualification that are defined in this case, by rule.  `gpa` and
    `gla` are None where the SDM leaves the field undefined (or where the access did not tell).
    `rules` names the deviations of the model that took part.
    """

    outcome: Outcome
    walk: Walk[L2Phys, Out]
    why: str
    qualification: int = 0
    mask: int = 0
    gpa: L2Phys | None = None
    gla: L2Virt | None = None
    change: str = ""  # the single change that would let the access through
    rules: tuple[str, ...] = ()
    never_run: tuple[str, ...] = ()  # rules that decide, from the manual alone (never_run.py)

    @property
    def reason(self) -> int | None:
        return REASONS.get(self.outcome)

    @property
    def hpa(self) -> Out | None:
        return self.walk.address if self.outcome is Outcome.TRANSLATED else None
