# SPDX-License-Identifier: GPL-2.0-or-later
"""The memslots that nept-vms --slots adds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from gdb_nept.__main__ import main
from gdb_nept.address import HostVirt, KernelVirt, L1Phys
from gdb_nept.kvm.memslots import UPDATE_IN_PROGRESS, MemSlots, Slot, SlotFlags
from gdb_nept.kvm.vm import Vm
from gdb_nept.kvm.vms import VmList
from gdb_nept.render.page import WIDTH, Page
from gdb_nept.render.slots import flag_names, with_slots
from gdb_nept.render.text import draw
from gdb_nept.target.ports import Value

NOTHING = cast(Value, None)


def slot(number: int, start: int, size: int, flags: int, bitmap: int = 0) -> Slot:
    return Slot(
        number,
        0,
        L1Phys(start),
        size,
        HostVirt(0x7F0000000000 + start),
        SlotFlags(flags),
        KernelVirt(bitmap),
        KernelVirt(0xFFFF888000001000),
        NOTHING,
    )


def shown(slots: MemSlots | None, drawn: bool = True) -> Page:
    vm = Vm(0, KernelVirt(0x1000), 1, "vmm", None, (), slots, (), NOTHING)
    return with_slots(Page(("VMs",), {"vms": [{"index": 0}]}), VmList((vm,), ()), drawn)


SLOTS = MemSlots(
    0,
    UPDATE_IN_PROGRESS | 6,
    (
        slot(0, 0, 32 << 20, 1, bitmap=0xFFFF888000002000),
        slot(2, 0xFFF00000, 64 << 10, 2 | 1 << 16),
    ),
    "tree",
)


def test_slots_are_a_table_with_generation_and_flags() -> None:
    text = draw(shown(SLOTS))
    assert "(normal space, generation 0x8000000000000006, an update is in progress):" in " ".join(
        text.split()
    )
    rows = [line.split() for line in text.splitlines() if "0x7f" in line]
    assert rows == [
        ["0", "0x0000000000", "0x0001ffffff", "32M", "0x7f0000000000", "LOG_DIRTY_PAGES"],
        ["2", "0x00fff00000", "0x00fff0ffff", "64K", "0x7f00fff00000", "READONLY", "INVALID"],
    ]
    assert max(map(len, text.splitlines())) <= WIDTH


def test_slots_are_data_even_if_not_drawn() -> None:
    page = shown(SLOTS, drawn=False)
    assert page.blocks == ("VMs",)
    vms = cast(Any, page.data["vms"])
    assert vms[0]["index"] == 0
    found = vms[0]["memslots"]
    assert (found["generation"], found["updating"]) == ("0x8000000000000006", True)
    assert found["slots"][0]["dirty_bitmap"] == "0xffff888000002000"
    assert found["slots"][1] == {
        "id": 2,
        "start": "0xfff00000",
        "size": 65536,
        "userspace_addr": "0x7f00fff00000",
        "flags": ["READONLY", "INVALID"],
        "flags_value": "0x10002",
        "dirty_bitmap": None,
        "address": "0xffff888000001000",
    }


def test_slots_that_cannot_be_read_are_told() -> None:
    page = shown(None)
    assert "cannot be read" in draw(page)
    assert cast(Any, page.data["vms"])[0]["memslots"] is None
    assert draw(shown(MemSlots(0, 2, (), "tree"))).endswith("generation 0x2): none")


def test_a_flag_without_a_name_is_a_number() -> None:
    assert flag_names(SlotFlags(2 | 1 << 9)) == ["READONLY", "0x200"]


@pytest.mark.bochs
def test_the_slots_of_a_real_vm(plain_snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = ["--dump", str(plain_snapshot / "memory.raw")]
    assert main([*dump, "vms", "--slots", "--json"]) == 0
    vms = json.loads(capsys.readouterr().out)["vms"]
    assert [len(vm["memslots"]["slots"]) for vm in vms] == [vm["slots"] for vm in vms]
    flags = [one["flags"] for one in vms[0]["memslots"]["slots"]]
    assert flags == [[], [], ["READONLY"]]
    assert main([*dump, "vms", "--slots"]) == 0
    assert "READONLY" in capsys.readouterr().out
