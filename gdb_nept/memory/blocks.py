# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's RAM blocks, and where they lie, as its monitor tells them.

QEMU softmmu/memory.c, mtree_print_flatview (`info mtree -f`): one line for each stretch of physical
addresses that leads to one memory region, with the offset in it.  A machine has several: RAM below
and above the hole for PCI, one for each NUMA node, ROMs, video memory.  monitor/misc.c,
hmp_gpa2hva: the address in QEMU's own process.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from gdb_nept.address import HostPhys
from gdb_nept.memory.stub import Stub
from gdb_nept.memory.transport import Range

_VIEW = re.compile(r'^\s*AS "memory"', re.MULTILINE)
_LINE = re.compile(
    r"^\s*([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (ram|rom)\): (\S+)(?: @([0-9a-f]{16}))?",
    re.MULTILINE,
)
_PLACE = re.compile(r"^Host virtual address for .* is 0x([0-9a-f]+)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A stretch of RAM or ROM, contiguous in memory region `region` from `offset` on."""

    range: Range
    region: str
    offset: int = 0


def flat_view(mtree: str) -> tuple[Block, ...]:
    """RAM and ROM of the address space "memory" in QEMU's `info mtree -f`, in order; () where the
    text holds none."""
    for view in mtree.split("FlatView #"):
        if _VIEW.search(view):
            return tuple(_block(*found) for found in _LINE.findall(view))
    return ()


def _block(first: str, last: str, kind: str, region: str, offset: str) -> Block:
    found = Range(HostPhys(int(first, 16)), HostPhys(int(last, 16) + 1))
    return Block(found, region, int(offset or "0", 16))


def host_address(stub: Stub, block: Block) -> int | None:
    """Where `block` lies in the process that holds the machine's memory; None if not told."""
    found = _PLACE.search(stub.monitor(f"gpa2hva {block.range.start:#x}"))
    return int(found[1], 16) if found else None


def backend_property(stub: Stub, region: str, name: str) -> object:
    """A property of the memory backend behind `region`, which is named as the backend or as its
    path (qom-get, since QEMU 5.1); None if there is no such."""
    backend = region.rpartition("/")[2]
    try:
        found: object = json.loads(stub.monitor(f"qom-get /objects/{backend} {name}"))
    except ValueError:
        return None
    return found
