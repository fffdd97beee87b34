# SPDX-License-Identifier: GPL-2.0-or-later
"""One line a dump: which kernel, which VMs run an L2, and what became of their last exit."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import gdb_nept


def triage(target: gdb_nept.Target) -> str:
    return "; ".join([f"Linux {target.release}", *_nested(target)])


def _nested(target: gdb_nept.Target) -> Iterator[str]:
    count = 0
    for vm in target.vms():
        count += 1
        for vcpu in vm.vcpus:
            if vcpu.nested:
                runs = "L2" if vcpu.l2_active else "L1"
                yield f"VM {vm.number} vCPU {vcpu.number} runs {runs}, check: {_checked(vcpu)}"
    yield f"{count} VMs"


def _checked(vcpu: gdb_nept.Vcpu) -> str:
    try:
        return vcpu.check().finding.value
    except gdb_nept.NeptError as error:
        return error.message


def main(paths: list[str]) -> None:
    for path in paths:
        try:
            with gdb_nept.open_dump(path) as target:
                print(f"{path}: {triage(target)}")
        except gdb_nept.NeptError as error:
            print(f"{path}: {error.message}")


if __name__ == "__main__":
    main(sys.argv[1:])
