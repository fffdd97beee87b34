# SPDX-License-Identifier: GPL-2.0-or-later
"""What a Linux L1 recorded of its L2's EPT faults, from the lines "L1 ..." of L0's console.

L1's kernel says it itself: its tracepoint kvm_exit gives reason, RIP and qualification, and a
probe at the start of kvm_mmu_page_fault the guest-physical address.  Each exit has both, in turn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

REASONS = {"EPT_VIOLATION": 48, "EPT_MISCONFIG": 49}
PORT_PHASE = 0x510  # as in tests/linux_l1/l2vmm.c
_EXIT = re.compile(r"kvm_exit: vcpu 0 reason (\w+) rip (\w+) info1 (\w+) ")
_FAULT = re.compile(r"fault: \(kvm_mmu_page_fault\S*.*\) gpa=(\w+)")
_PORT = re.compile(r"kvm_pio: pio_write at (\w+) size \d count 1 val (\w+)")


@dataclass(frozen=True)
class Fault:
    """An exit of L2 as L1 saw it.  With reason 49 the SDM leaves the qualification undefined."""

    phase: int  # what L2 was doing; 0 before it says so
    reason: int
    rip: int
    qualification: int
    gpa: int  # L2 physical


@dataclass
class Run:
    """One L2, from its start to its end, under one set of parameters of L1's kvm-intel."""

    parameters: str
    faults: list[Fault] = field(default_factory=list)

    def seen(self, phase: int) -> list[tuple[int, int, int]]:
        """Reason, qualification and address of each fault of a phase."""
        return [(f.reason, f.qualification, f.gpa) for f in self.faults if f.phase == phase]


def release(console: str) -> str:
    """L1's kernel, by its own word."""
    return str(re.findall(r"^L1 RELEASE (\S+)$", console, re.MULTILINE)[0])


def runs(console: str) -> list[Run]:
    """Every run that L1 told of, in order.  Raises ValueError for a trace that makes no sense."""
    found: list[Run] = []
    phase, leaving = 0, None
    for line in console.splitlines():
        if line.startswith("L1 RUN "):
            found.append(Run(line[len("L1 RUN ") :]))
            phase, leaving = 0, None
        if not line.startswith("L1 TRACE "):
            continue
        text = line[len("L1 TRACE ") :]
        if port := _PORT.match(text):
            phase = int(port[2], 16) if int(port[1], 16) == PORT_PHASE else phase
        elif (left := _EXIT.match(text)) and leaving is None:
            leaving = left
        elif (fault := _FAULT.match(text)) and leaving is not None:
            found[-1].faults.append(_fault(phase, leaving, fault))
            leaving = None
        else:
            raise ValueError(line)
    return found


def _fault(phase: int, leaving: re.Match[str], fault: re.Match[str]) -> Fault:
    rip, qualification = (int(leaving[number], 16) for number in (2, 3))
    return Fault(phase, REASONS[leaving[1]], rip, qualification, int(fault[1], 16))
