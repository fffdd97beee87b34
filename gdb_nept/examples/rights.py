# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages that L2 may both write and execute, and pages that L1 protects from writing."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import gdb_nept


def rights(vcpu: gdb_nept.Vcpu) -> Iterator[str]:
    for run in vcpu.ept12.runs():
        if isinstance(run, gdb_nept.Unread):
            yield f"{run.start:#x}..{run.end:#x}: not known: {run.why}"
        elif isinstance(run, gdb_nept.Run) and run.stop is None:
            allowed = run.rights
            if allowed.write and allowed.execute:
                yield f"{run.start:#x}..{run.end:#x}: writable and executable"
            elif allowed.read and not allowed.write:
                yield f"{run.start:#x}..{run.end:#x}: protected from writing"


def main(path: str) -> None:
    with gdb_nept.open_dump(path) as target:
        for line in rights(target.vcpu()):
            print(line)


if __name__ == "__main__":
    main(sys.argv[1])
