# SPDX-License-Identifier: GPL-2.0-or-later
"""Why is this L2 stuck?  Where its last EPT exit was, what the tables say there, who is at fault.

An access that must fault for L1, and that L1 was told of, waits for L1.  One that must not fault,
and whose shadow is stale or broken, is repeated for good.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import gdb_nept


def stuck(vcpu: gdb_nept.Vcpu) -> Iterator[str]:
    check = vcpu.check()
    gpa = check.place.gpa
    yield f"last exit that L1 saw: {check.told.reason.name} at L2 physical {gpa:#x}"
    yield f"held against the prediction: {check.finding.value}"
    yield from (f"explained by: {each}" for each in check.explanations)
    walked = vcpu.walk(gpa)
    yield f"the tables now: {walked.agreement.value}: {walked.verdict.sentence}"
    if walked.fault is not gdb_nept.Fault.NOBODY:
        yield f"at fault: {walked.fault.value}: {walked.verdict.why}"
    for op in gdb_nept.Op:
        found = vcpu.predict(gdb_nept.Access(gpa, op))
        yield f"a {op.value} there must end in: {found.outcome.value} ({found.why})"


def main(path: str) -> None:
    with gdb_nept.open_dump(path) as target:
        for line in stuck(target.vcpu()):
            print(line)


if __name__ == "__main__":
    main(sys.argv[1])
