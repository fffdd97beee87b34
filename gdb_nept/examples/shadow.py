# SPDX-License-Identifier: GPL-2.0-or-later
"""EPT12 against KVM's shadow of it, every leaf: what differs, and what has which verdict."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import gdb_nept


def shadow(vcpu: gdb_nept.Vcpu) -> Iterator[str]:
    sizes: Counter[str] = Counter()
    for one in vcpu.compare():
        if isinstance(one, gdb_nept.Unread):
            yield f"{one.start:#x}..{one.end:#x}: {one.why}"
            continue
        sizes[one.agreement.value] += one.end - one.start
        if one.agreement in (gdb_nept.Agreement.STALE, gdb_nept.Agreement.BROKEN):
            told = vcpu.walk(gdb_nept.L2Phys(one.start)).verdict
            yield f"{one.start:#x}..{one.end:#x}: {one.agreement.value}: {told.sentence}"
    yield from (f"{name}: {size >> 12} pages" for name, size in sizes.items())


def main(path: str) -> None:
    with gdb_nept.open_dump(path) as target:
        for line in shadow(target.vcpu()):
            print(line)


if __name__ == "__main__":
    main(sys.argv[1])
