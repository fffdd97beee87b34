# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of one EPT: EPT12 in L1's memory and KVM's own EPT in the host's, alike.

SDM vol. 3, June 2026 (325384-092), section 31.3.2 "EPT Translation Mechanism".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from gdb_nept.address import In, Out
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import (
    ADDRESS,
    ENTRY_SIZE,
    LEVEL_NAMES,
    WALK_LENGTHS,
    EptEntry,
    Eptp,
    index,
    misconfigured,
    page_size,
)
from gdb_nept.errors import MemoryUnreadable, NoMemory
from gdb_nept.memory.reader import PhysicalMemory, read_u64
from gdb_nept.walk.result import Cause, Step, Stop, Walk


def walk_ept(
    memory: PhysicalMemory[Out], eptp: Eptp, asked: In, cpu: Capabilities
) -> Walk[In, Out]:
    """Translate `asked` through the EPT at `eptp`, whose tables lie in `memory`.

    Never raises for what a guest did, nor for what cannot be read: the walk then ends in a Stop
    and keeps the steps made so far.
    """
    steps: list[Step[Out]] = []
    stop = unwalkable(eptp) or _beyond_width(asked, eptp)
    root: Any = eptp.address  # and all places: of the tables' space
    table = root
    level = levels = eptp.levels
    while stop is None:
        place = table + index(asked, level) * ENTRY_SIZE
        try:
            entry = EptEntry(read_u64(memory, place))
        except NoMemory as error:
            why = f"the table of {LEVEL_NAMES[level]}s at {table:#x} cannot be there: {error.why}"
            stop = Stop(Cause.NO_MEMORY, level, why)
            break
        except MemoryUnreadable as error:
            stop = Stop(Cause.UNREADABLE, level, str(error), unread=error.kind)
            break
        steps.append(Step(level, place, entry))
        stop = judge(entry, level, cpu)
        if stop is None and entry.leaf_at(level):
            there = cast(Out, entry.page(level) | (asked & (page_size(level) - 1)))
            return Walk(asked, root, levels, tuple(steps), None, there)
        table = entry.value & ADDRESS
        level -= 1
    return Walk(asked, root, levels, tuple(steps), stop, None)


def walk_ept_by_index(
    memory: PhysicalMemory[Out], eptp: Eptp, asked: In, cpu: Capabilities
) -> Walk[In, Out]:
    """The walk of a hypervisor that takes of `asked` only what indexes a table, and does not look
    at the bits above, as KVM and Xen."""
    if asked < eptp.reach:
        return walk_ept(memory, eptp, asked, cpu)
    return replace(walk_ept(memory, eptp, cast(In, asked % eptp.reach), cpu), asked=asked)


def unwalkable(eptp: Eptp) -> Stop | None:
    """The EPTP is the guest's, or KVM's memory's: it can name any length."""
    if eptp.levels in WALK_LENGTHS:
        return None
    return Stop(Cause.NO_WALK, 0, f"no processor walks an EPT of {eptp.levels} levels")


def _beyond_width(asked: int, eptp: Eptp) -> Stop | None:
    if asked < eptp.reach:
        return None
    width = eptp.reach.bit_length() - 1
    why = f"{asked:#x} has bits beyond the {width} that a {eptp.levels}-level EPT translates"
    return Stop(Cause.BEYOND_WIDTH, 0, why)


def judge(entry: EptEntry, level: int, cpu: Capabilities) -> Stop | None:
    """Why the walk ends at this entry, or None if it goes on or arrives (31.3.3)."""
    if not entry.present(cpu.mbec):
        return Stop(Cause.NOT_PRESENT, level, f"the {LEVEL_NAMES[level]} is not present")
    bad = misconfigured(entry, level, cpu)
    if bad is None:
        return None
    reason, mask = bad
    why = f"the {LEVEL_NAMES[level]} is misconfigured: {reason.value} (bits {mask:#x})"
    return Stop(Cause.MISCONFIGURED, level, why, mask)
