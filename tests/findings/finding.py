# SPDX-License-Identifier: GPL-2.0-or-later
"""A departure of somebody else's program from the SDM, and the accesses that show it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tests.features.cases import MMIO_GPA, MMIO_LINEAR, Cases
from tests.guests.generate import Case, Target, landscape
from tests.guests.scenarios import AD, GA, GD, GW, PTE, RWX, UC, P, Patch

#: In L1's memory, where neither a PC nor the lab's VMM has anything: L0 must emulate an access.
MMIO = 0xD000_0000


@dataclass(frozen=True)
class Finding:
    """`before` are accesses that must come first, `rule` is its name among our rules, `expected`
    what the processor of the SDM does.  `versions` are of Bochs, or lines of kernels;
    `warns` is the function that L0's kernel warns of besides."""

    rule: str
    versions: tuple[str, ...]
    title: str
    manual: str
    where: str
    expected: str
    case: Case
    before: tuple[Case, ...] = ()
    warns: str = ""


def one(
    name: str,
    op: int,
    target: Target,
    patches: Iterable[Patch],
    flags: int = AD,
    features: int = 0,
) -> Case:
    return Case(name, op, target.address(op), flags, tuple(patches), features)


def scenario(findings: Iterable[Finding]) -> Cases:
    """The accesses of all, of which the last of each group is the one that shows it, and has a
    text for L1 to say."""
    s = Cases()
    landscape(s)
    s.region(MMIO_GPA, PTE, MMIO, RWX | UC)
    s.guest(MMIO_LINEAR, MMIO_GPA, PTE, P | GW | GA | GD)
    for finding in findings:
        for case in finding.before:
            s.put(case)
        s.put(replace(finding.case, said=_said(finding)))
    s.finish(None)
    return s


def _said(finding: Finding) -> str:
    return f"{finding.title}\n  {finding.manual}\n  expected: {finding.expected}"
