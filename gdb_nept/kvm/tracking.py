# SPDX-License-Identifier: GPL-2.0-or-later
"""What KVM counts for each page of a memslot: who wants its writes, and who forbids large pages.

arch/x86/kvm/mmu/page_track.c, mmu.c account_shadowed().
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.address import KernelVirt, L1Phys
from gdb_nept.arch.ept import page_size
from gdb_nept.kvm.memslots import Slot
from gdb_nept.target.ports import Value


@dataclass(frozen=True)
class Tracking:
    """What KVM counts for one 4-KByte page of a slot.

    `write_tracked`: shadow pages (or other users) that want writes to the page intercepted.
    `large_page_users`: level -> how many reasons forbid a large page that covers it.
    None: this slot keeps no such count.
    """

    write_tracked: int | None
    large_page_users: tuple[tuple[int, int | None], ...]


def tracking(slot: Slot, gpa: L1Phys) -> Tracking:
    """Of the page at `gpa`, which `slot` holds.  Raises MemoryUnreadable."""
    place = index_in_slot(slot, gpa, 1)
    arch = slot.value.member("arch")
    users = tuple((level, _large_page_users(arch, slot, gpa, level)) for level in (2, 3))
    return Tracking(_write_tracked(arch, place), users)


def _write_tracked(arch: Value, place: int) -> int | None:
    if arch.has("gfn_write_track"):  # 6.6+: page-track has no modes any more
        counts = arch.member("gfn_write_track")
    else:  # 4.9 to 6.5: an array of modes, KVM_PAGE_TRACK_WRITE is 0
        counts = arch.member("gfn_track").index(0)
    entry = _element(counts, place)
    return None if entry is None else entry.number()


def _element(pointer: Value, place: int) -> Value | None:
    """Element `place` of the C array that `pointer` points to; None for a null pointer."""
    start = pointer.pointer()
    if not start:
        return None
    element = pointer.type.element()
    return Value(pointer.kernel, element, KernelVirt(start + place * element.size))


def _large_page_users(arch: Value, slot: Slot, gpa: L1Phys, level: int) -> int | None:
    place = index_in_slot(slot, gpa, level)
    entry = _element(arch.member("lpage_info").index(level - 2), place)
    return None if entry is None else entry.member("disallow_lpage").number()


def index_in_slot(slot: Slot, gpa: L1Phys, level: int) -> int:
    """Which page of `level` within the slot holds `gpa` (gfn_to_index())."""
    size = page_size(level)
    return gpa // size - slot.start // size
