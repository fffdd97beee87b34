# SPDX-License-Identifier: GPL-2.0-or-later
"""A command on a target without end, as a process of its own: python3 endless.py tables|vms [N].

What it did of what it may is told at the end, also after Ctrl-C.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from gdb_nept.address import KernelVirt, L1Phys  # noqa: E402
from gdb_nept.arch.cpu import HOST  # noqa: E402
from gdb_nept.arch.ept import Eptp  # noqa: E402
from gdb_nept.commands import terminal  # noqa: E402
from gdb_nept.commands.command import Command  # noqa: E402
from gdb_nept.commands.context import Context  # noqa: E402
from gdb_nept.commands.output import Sink  # noqa: E402
from gdb_nept.commands.vms import vms  # noqa: E402
from gdb_nept.errors import NeptError  # noqa: E402
from gdb_nept.memory.budget import Budget, current  # noqa: E402
from gdb_nept.nested.listing import Listing  # noqa: E402
from gdb_nept.nested.session import Session  # noqa: E402
from gdb_nept.render.ept import ept_page  # noqa: E402
from gdb_nept.render.page import Page  # noqa: E402
from gdb_nept.walk.runs import with_holes  # noqa: E402
from gdb_nept.walk.scan import Scan  # noqa: E402
from tests.context import NoTarget  # noqa: E402
from tests.kvm.fake import FakeKernel, new_vcpu, new_vm  # noqa: E402
from tests.kvm.offsets import debian  # noqa: E402

FIRST, STRIDE = 0xFFFF_9000_0000_0000, 0x10_0000
EPTP = Eptp(Eptp.build(address=0x1000, walk_length=3, memory_type=6))


class Many(FakeKernel):
    """Its list of VMs goes on for ever, and each is like the first."""

    def __init__(self) -> None:
        super().__init__(debian())
        self.vm = new_vm(self, [new_vcpu(self)])
        head = self.symbols.addresses["vm_list"] = self.allocate(16)
        self.node = self.vm.member("vm_list").address - self.vm.address
        self.put_u64(head, FIRST + self.node)

    def read(self, address: KernelVirt, size: int) -> bytes:
        if address < FIRST:
            return super().read(address, size)
        number, offset = divmod(address - FIRST, STRIDE)
        if offset == self.node and size == 8:
            return (FIRST + (number + 1) * STRIDE + self.node).to_bytes(8, "little")
        return super().read(KernelVirt(self.vm.address + offset), size)


class Deep:
    """Tables of four pages: every entry of one leads to the next, and no two leaves are alike."""

    def read(self, address: L1Phys, size: int) -> bytes:
        page = address & ~0xFFF
        last = page >= 0x4000
        words = (
            (place << 13 | 0x35) if last else (page + 0x1007)
            for place in range(address, address + size, 8)
        )
        return b"".join(word.to_bytes(8, "little") for word in words)


class Here(NoTarget):
    """Of what a command asks for, the session alone."""

    def __init__(self) -> None:
        self.found = Session(Many())

    def session(self) -> Session:
        return self.found

    def number(self, written: str) -> int:
        return int(written, 0)

    def doubt(self) -> None:
        self.found.drop()


def tables(context: Context, args: Namespace) -> Page:
    """Show tables without end."""
    scan: Scan[L1Phys, L1Phys] = Scan(Deep(), EPTP, HOST, 0, EPTP.reach)
    rows = with_holes(scan.found(), 0, EPTP.reach)
    return ept_page(Listing("endless", "ept", EPTP, HOST, rows, EPTP.reach, ()))


def main(kind: str, *words: str) -> int:
    budgets: list[Budget] = []
    asked = vms if kind == "vms" else Command("tables", (), tables)

    def run(context: Context, args: Namespace) -> Page:
        budgets.append(current() or Budget())
        found = asked.run(context, args)
        assert isinstance(found, Page)
        return found

    sink = Sink(sys.stdout.write, rows=10, meter=terminal.meter())
    try:
        status = Command(asked.name, asked.arguments, run).write_answer(Here(), words, sink)
    except NeptError as error:
        status = terminal.failed(error)
    except KeyboardInterrupt:
        status = terminal.interrupted()
    budget = budgets[0]
    done = (budget.used, budget.limit) if kind == "tables" else (budget.fields, budget.most_fields)
    print(f"\ndone {done[0]} of {done[1]}")
    return status.value


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
