# SPDX-License-Identifier: GPL-2.0-or-later
"""Every entry of EPT12 and of EPT02 around each fault of L2, written down in gdb.

In a stock gdb that is attached to the lab: `python import tests.live.record_flags as flags` and
`python flags.record("FILE", faults)`.  The vCPU is stopped at these places of KVM's, and each stop
is a line of JSON:

    entry  the processor is about to run L2 (vmx_prepare_switch_to_guest)
    fault  L2 took an EPT fault, and KVM has done nothing yet (kvm_mmu_page_fault)
    exit   L1 is about to get an exit, and has not run yet (nested_vmx_vmexit)

So from entry to fault or exit the processor alone sets flags, from fault to entry or exit KVM alone
does, and L1 runs from exit to entry.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Callable

from gdb_nept.address import HostPhys, KernelVirt, L1Phys
from gdb_nept.commands.gdb.registry import register
from gdb_nept.errors import MemoryUnreadable, SymbolMissing
from gdb_nept.live.injection import PAGE_FAULT, Call, call_at
from gdb_nept.live.watch import seen_access
from gdb_nept.memory.budget import renew
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.target.ports import Kernel

#: In NESTED L1 enters L2; SYNC makes EPT02 as EPT12 is, after L1's INVEPT (also called for others).
NESTED, ENTRY, FAULT, EXIT, SYNC = "nested", "entry", "fault", "exit", "sync"
#: Of each place its symbol, or an older one behind it, and the module.
PLACES = {
    NESTED: (("nested_vmx_enter_non_root_mode",), "kvm_intel"),
    ENTRY: (("vmx_prepare_switch_to_guest",), "kvm_intel"),
    FAULT: ((PAGE_FAULT,), "kvm"),
    EXIT: (("__nested_vmx_vmexit", "nested_vmx_vmexit"), "kvm_intel"),
    SYNC: (("ept_sync_spte", "ept_sync_page"), "kvm"),
}
#: Where to stop next, after each.
NEXT = {
    SYNC: (NESTED,),
    NESTED: (ENTRY, EXIT),
    ENTRY: (FAULT, EXIT),
    FAULT: (ENTRY, EXIT),
    EXIT: (NESTED,),
}
FRAME, RIGHTS, LARGE, SUPPRESS_VE = 0x000F_FFFF_FFFF_F000, 7, 0x80, 1 << 63

#: By "level:first address that it is for": the physical address of an entry, and it.
Entries = dict[str, tuple[int, int]]


def record(path: str, faults: int, after_sync: bool = False) -> None:
    """Until there were as many faults, and L1 gets the exit after the last of them; `after_sync`:
    let it run to SYNC first."""
    context = register()
    with context.running() as machine, open(path, "w") as file:
        session = context.session()
        place_of = {_address(session.kernel, *PLACES[name]): name for name in PLACES}
        at = EXIT
        wanted = (SYNC,) if after_sync else NEXT[at]
        with session.watched():
            while faults > 0 or at != EXIT:
                renew()
                place = machine.run_to({one for one, name in place_of.items() if name in wanted})
                if place is None:
                    print(machine.why)
                    return
                at = place_of[place]
                found = None
                if at not in (SYNC, NESTED):
                    found = line(context.session(), at, call_at(machine))
                    at = at if found else EXIT  # VM entry has failed: it is L1 that runs
                if found:
                    faults -= at == FAULT
                    file.write(json.dumps(found) + "\n")
                wanted = NEXT[at]


def _address(kernel: Kernel, names: tuple[str, ...], module: str) -> KernelVirt:
    for name in names[:-1]:
        try:
            return kernel.symbols.address(name, module)
        except SymbolMissing:
            continue
    return kernel.symbols.address(names[-1], module)


def line(session: Session, at: str, call: Call) -> dict[str, Any] | None:
    """None if L2 is not what runs.  `second` is the second argument: where a fault was, or the
    reason of an exit."""
    chosen = session.at(call.vcpu)
    if chosen.vcpu.nested is None or not chosen.vcpu.nested.l2_active:
        return None
    ept12 = session.ept(chosen, Which.L1)
    memory, host = session.l1_memory(chosen), session.kernel.physical
    seen = seen_access(chosen)
    return {
        "at": at,
        "second": call.second,
        "seen": None if seen is None else [seen.op.value, seen.stage.value],
        "eptp": ept12.eptp.value,
        "ept12": entries(lambda table: memory.read(L1Phys(table), 4096), ept12.eptp.address),
        "ept02": entries(
            lambda table: host.read(HostPhys(table), 4096),
            session.ept(chosen, Which.SHADOW).eptp.address,
        ),
    }


def entries(read: Callable[[int], bytes], table: int, level: int = 4, start: int = 0) -> Entries:
    """All that are not empty, present or not."""
    found: Entries = {}
    try:
        words = struct.unpack("<512Q", read(table))
    except MemoryUnreadable:
        return found  # L1 has entries that lead nowhere
    for index, value in enumerate(words):
        if not value & ~SUPPRESS_VE:
            continue
        here = start + (index << 9 * level + 3)
        found[f"{level}:{here:#x}"] = (table + 8 * index, value)
        if level > 1 and value & RIGHTS and not value & LARGE:
            found.update(entries(read, value & FRAME, level - 1, here))
    return found
