# SPDX-License-Identifier: GPL-2.0-or-later
"""How large the pages are that EPT12 and EPT02 map, and how many shadow pages each VM has."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import gdb_nept


def leaf_sizes(table: gdb_nept.Table[Any, Any]) -> Counter[int]:
    """Leaves by their size in bytes."""
    found: Counter[int] = Counter()
    for run in table.runs():
        if isinstance(run, gdb_nept.Run) and run.stop is None:
            found[run.page_size] += run.length
    return found


def sizes(target: gdb_nept.Target) -> Iterator[str]:
    for vm in target.vms():
        yield f"VM {vm.number}: {_shadow_pages(vm)} shadow pages"
        for vcpu in vm.vcpus:
            for name in ("ept12", "ept02", "ept01"):
                try:
                    leaves = leaf_sizes(getattr(vcpu, name))
                except gdb_nept.NeptError:
                    continue  # it has none
                told = ", ".join(f"{leaves[size]} of {size >> 10}K" for size in sorted(leaves))
                yield f"  vCPU {vcpu.number}, {name}: {told or 'nothing'}"


def _shadow_pages(vm: gdb_nept.Vm) -> str:
    pages = vm.shadow_pages()
    return f"{len(pages.pages)}" + "".join(f" ({problem})" for problem in pages.problems)


def main(path: str) -> None:
    with gdb_nept.open_dump(path) as target:
        for line in sizes(target):
            print(line)


if __name__ == "__main__":
    main(sys.argv[1])
