# SPDX-License-Identifier: GPL-2.0-or-later
"""What nept-watch itself does for a fault, and attaching: over a memory that costs nothing to read.

The memory is the lab's snapshot behind an exit (park point l1-exit).  A fault is two stops, as
nept-watch has them, at each of which everything is forgotten: at the first all is foretold, at the
second it is compared.  (What the processor reported is taken from KVM's answer here, which leaves
it to L1 as it was.)  What the stub and the machine take comes on top.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bochs_lab import snapshot as lab
from bochs_lab.errors import LabError
from bochs_lab.image import image
from bochs_lab.options import LabOptions
from bochs_lab.progress import Silent
from bochs_lab.replay import Replay

from gdb_nept.address import HostPhys
from gdb_nept.judge.candidates import link_of, place_of, seen_by
from gdb_nept.judge.check import compare, foretell
from gdb_nept.judge.features import ATTACHED, named_model
from gdb_nept.judge.ground import ground
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import PageCache
from gdb_nept.nested.guest_registers import guest_registers
from gdb_nept.nested.session import Session
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.linux import attach

FAULTS = 200
ROOT = Path(__file__).resolve().parents[1]


def snapshot() -> Path | None:
    """The lab's, if it is there already."""
    found = lab.path_of(image(LabOptions(park="l1-exit"), Silent()).snapshot_key)
    return found / "memory.raw" if found.is_dir() else None


def attached(place: Path, cache: Path | None = None) -> tuple[LinuxKernel, PageCache[HostPhys]]:
    raw: RawMemory[HostPhys] = RawMemory(place)
    memory = PageCache(raw)
    return attach(memory, raw.size, cache=cache, near=True), memory


class Faults:
    """One fault after the other, of the vCPU whose last exit to L1 was for EPT."""

    def __init__(self, place: Path) -> None:
        self.kernel, self.memory = attached(place)
        self.session = Session(self.kernel)
        self.vcpu = self.session.pick(None, None).vcpu.address

    def stop(self) -> None:
        self.memory.drop()
        self.kernel.forget()
        self.session.drop()

    def one(self) -> bool:
        """Whether KVM did as foretold."""
        self.stop()
        chosen = self.session.at(self.vcpu)
        base, asked = ground(self.session, chosen), named_model(self.session, chosen, ATTACHED)
        vmcs12 = self.session.vmcs12(chosen)
        place, seen = place_of(vmcs12), seen_by(vmcs12.number("exit_qualification"))
        foretold = foretell(self.session, chosen, base, place, model=asked, seen=seen)
        self.stop()
        chosen = self.session.at(self.vcpu)
        vmcs12 = self.session.vmcs12(chosen)
        registers = guest_registers(self.session, chosen)
        place, doubt = place_of(vmcs12), registers.translation_doubt
        link = link_of(base, place, registers.paging, doubt)
        return bool(compare(foretold, vmcs12, place, link, registers).agreeing)


def seconds_a_fault(place: Path, faults: int = FAULTS) -> float:
    made = Faults(place)
    with made.session.watched():
        return _processor(lambda: all(made.one() for _ in range(faults))) / faults


def seconds_to_attach(place: Path) -> float:
    """Of a build that is not in the cache."""
    return _processor(lambda: attached(place))


def seconds_through_stub(place: Path) -> float:
    """The same by nept-target in a stock gdb, through QEMU's stub alone; by the clock, since three
    processes take part.  Raises LabError where QEMU or gdb is not there."""
    with tempfile.TemporaryDirectory() as cache, Replay(place.parent) as stub:
        lines = [
            *stub.gdb_lines(),
            f"source {ROOT}/gdb_nept/init.py",
            "set nept memory phymem",
            "python import time; began = time.monotonic()",
            "nept-target",
            "python print('took', time.monotonic() - began)",
            "kill",
        ]
        words = [word for line in lines for word in ("-ex", line)]
        told = subprocess.run(
            ["gdb", "-nx", "-q", "-batch", *words],
            env={**os.environ, "XDG_CACHE_HOME": cache},
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    took = [line.split()[1] for line in told.splitlines() if line.startswith("took ")]
    if not took:
        raise LabError(f"nept-target did not end: {told}")
    return float(took[0])


def _processor(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
