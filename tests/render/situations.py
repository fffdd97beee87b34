# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the golden files' questions are asked: the lab's dumps, and states made of them by changing
or leaving out single words.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from bochs_lab import snapshot as lab
from bochs_lab.options import STATES, LabOptions

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.target.linux import attach
from gdb_nept.walk.ept import walk_ept
from tests.conftest import kernel_cache
from tests.context import OfSession
from tests.overlay import Filtered, Overlay, opened

USED = L2Phys(0x2000000)  # a page that EPT12 and EPT02 map
EPT = 1 << 1  # of the secondary controls


@cache
def folder(place: str) -> Path:
    """The snapshot at a park point."""
    if place in STATES:
        options = LabOptions(states=True, park="done")
        return lab.series(options, (*STATES, "done"))[place]
    return lab.ensure(LabOptions(park=place))


def dump(place: str) -> Path:
    return folder(place) / "memory.raw"


def without_ept() -> OfSession:
    """L1 runs its L2 without EPT, as with kvm_intel.ept=0."""
    session, chosen = opened(folder("l2"))
    controls = session.vmcs12(chosen).number("secondary_vm_exec_control")
    return OfSession(opened(folder("l2"), {"secondary_vm_exec_control": controls & ~EPT})[0])


def filtered() -> OfSession:
    """The last table of EPT12 on the way of USED is left out, as makedumpfile leaves out user
    pages, and so is what it leads to."""
    raw: RawMemory[Any] = RawMemory(dump("l2"))
    memory = Filtered(raw)
    session = Session(attach(memory, ram=raw.size, cache=kernel_cache()))
    chosen = session.pick(None, None)
    memory.without |= {place >> 12 for place in places(session, chosen)[-1:]}
    session.drop()
    return OfSession(session)


def places(session: Session, chosen: Chosen) -> list[int]:
    """Where the entries of EPT12 on the way of USED lie in the host."""
    l1, ept = session.l1_memory(chosen), session.ept(chosen, Which.L1)
    steps = walk_ept(ept.memory, ept.eptp, USED, ept.cpu).steps
    return [l1.host_physical(L1Phys(int(step.address))) for step in steps]


def changed() -> OfSession:
    """L1 and KVM took W from USED since nept-diff was asked last."""
    session, chosen = opened(folder("l2"))
    context = OfSession(session)
    context.stops.now(session, chosen)
    memory = session.kernel.physical
    assert isinstance(memory, Overlay)
    leaf = places(session, chosen)[-1]
    ept = session.ept(chosen, Which.SHADOW)
    shadow = walk_ept(ept.memory, ept.eptp, USED, ept.cpu).steps[-1]
    memory.put(leaf, session.kernel.physical.read(leaf, 1)[0] & ~2, 1)  # type: ignore[arg-type]
    memory.put(int(shadow.address), shadow.entry.value & ~2, 8)
    session.drop()
    context.stops.runs.append("continue")
    return context


def misconfigured() -> OfSession:
    """L1 writes a reserved memory type into the entry of a page that L2 uses."""
    session, chosen = opened(folder("l2"))
    ept = session.ept(chosen, Which.L1)
    word = walk_ept(ept.memory, ept.eptp, USED, ept.cpu).steps[-1].entry.value
    return OfSession(opened(folder("l2"), entries={1: word & ~0x38 | 2 << 3}, at=USED)[0])


def wrong_exit() -> OfSession:
    """KVM told L1 a write as a read, at an entry that allows reads."""
    return OfSession(opened(folder("l1-exit"), {"exit_qualification": 0x1A9})[0])


#: By the name of a place that is no park point.
MADE: dict[str, Callable[[], OfSession]] = {
    "without-ept": without_ept,
    "filtered": filtered,
    "changed": changed,
    "misconfigured": misconfigured,
    "wrong-exit": wrong_exit,
}


@lru_cache(maxsize=2)
def of_dump(place: str) -> DumpContext:
    DumpContext(dump(place), ()).session().vms()  # so that the cache of kernels knows this build
    return DumpContext(dump(place), ())


def context(place: str) -> DumpContext | OfSession:
    return MADE[place]() if place in MADE else of_dump(place)
