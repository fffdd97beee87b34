# SPDX-License-Identifier: GPL-2.0-or-later
"""The memslots of each VM, as a part of what nept-vms answers.

JSON, in each of `vms`: memslots (null if they cannot be read) {space, generation, updating, slots
[id, start, size, userspace_addr, flags [KVM's names], flags_value, dirty_bitmap (null if there is
none), address]}.
"""

from __future__ import annotations

from typing import cast

from gdb_nept.kvm.memslots import SPACES, MemSlots, Slot, SlotFlags
from gdb_nept.kvm.vm import Vm
from gdb_nept.kvm.vms import VmList
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Table

HEADERS = ("slot", "from", "to", "size", "host virtual", "flags")


def with_slots(page: Page, found: VmList, drawn: bool) -> Page:
    """The page of nept-vms with the memslots in its data and, if `drawn`, in tables."""
    rows = cast("list[dict[str, Data]]", page.data["vms"])
    vms: list[Data] = [{**row, "memslots": _data(vm.slots)} for row, vm in zip(rows, found.vms)]
    blocks = [block for vm in found.vms for block in _drawn(vm)] if drawn else []
    return Page((*page.blocks, *blocks), {**page.data, "vms": vms}, page.status)


def flag_names(flags: SlotFlags) -> list[str]:
    """LOG_DIRTY_PAGES, READONLY, ...; a bit without a name by its number."""
    return [f"{one.number:#x}" if one.name == "other" else one.short for one in flags.named()]


def _drawn(vm: Vm) -> list[str | Table]:
    if vm.slots is None:
        return [f"Memslots of VM {vm.index} cannot be read."]
    found = vm.slots
    change = ", an update is in progress" if found.update_in_progress else ""
    space = SPACES[found.space] if found.space < len(SPACES) else str(found.space)
    head = f"Memslots of VM {vm.index}, L1 physical -> virtual address of its process"
    generation = "not known" if found.generation is None else f"{found.generation:#x}"
    head += f" ({space} space, generation {generation}{change})"
    if not found.slots:
        return [f"{head}: none"]
    return [f"{head}:", Table(HEADERS, tuple(map(_row, found.slots)), right=(0, 3))]


def _row(slot: Slot) -> tuple[str, ...]:
    return (
        str(slot.id),
        text.address(slot.start),
        text.address(slot.end - 1),
        text.size(slot.size),
        f"{slot.userspace_addr:#x}",
        " ".join(flag_names(slot.flags)) or "-",
    )


def _data(found: MemSlots | None) -> Data:
    if found is None:
        return None
    return {
        "space": found.space,
        "generation": hexed(found.generation),
        "updating": found.update_in_progress,
        "slots": [_slot_data(slot) for slot in found.slots],
    }


def _slot_data(slot: Slot) -> Data:
    return {
        "id": slot.id,
        "start": hexed(slot.start),
        "size": slot.size,
        "userspace_addr": hexed(slot.userspace_addr),
        "flags": list[Data](flag_names(slot.flags)),
        "flags_value": hexed(slot.flags.value),
        "dirty_bitmap": hexed(slot.dirty_bitmap or None),
        "address": hexed(slot.address),
    }
