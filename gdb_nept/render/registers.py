# SPDX-License-Identifier: GPL-2.0-or-later
"""L2's registers beside L1's: what nept-regs answers.

JSON: vm, vcpu, l2_active, registers [name, l2 and l1: null, or {value, origin, doubt (null, or why
the number may be older)}], lost [text].
"""

from __future__ import annotations

from collections.abc import Sequence

from gdb_nept.nested.guest_registers import GuestRegister
from gdb_nept.nested.registers import Both, Registers
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Table

UNKNOWN = "-"
HEADERS = ("", "L2", "L1", "L2's is from")


def registers_page(found: Registers, shown: Sequence[Both]) -> Page:
    doubts: dict[str, int] = {}
    rows = tuple(_row(one, doubts) for one in shown)
    notes = [f"({number}) {doubt}" for doubt, number in doubts.items()]
    lost = [f"not known: {each}" for each in found.lost]
    table = Table(HEADERS, rows, right=(1, 2))
    blocks: list[str | Table] = [_head(found), table, *filter(None, ("\n".join(notes), *lost))]
    data: dict[str, Data] = {
        "vm": found.vm,
        "vcpu": found.vcpu,
        "l2_active": found.l2_active,
        "registers": [
            {"name": one.name, "l2": _data(one.l2), "l1": _data(one.l1)} for one in shown
        ],
        "lost": list[Data](found.lost),
    }
    return Page(tuple(blocks), data)


def _head(found: Registers) -> str:
    """L2 on VM 0, vCPU 0: rip 0x1000006, rsp 0x1002000, cr3 0x1002000; L2 is active"""
    numbers = []
    for name in ("rip", "rsp", "cr3"):
        one = found.find(name)
        if one is not None and one.l2 is not None:
            numbers.append(f"{name} {one.l2.number:#x}" + (" (?)" if one.l2.doubt else ""))
    where = f"L2 on VM {found.vm}, vCPU {found.vcpu}: {', '.join(numbers)}"
    if found.l2_active:
        return (
            f"{where}; L2 is active\nL1's are what the next VM exit gives it; its general "
            "registers are L2's then"
        )
    return f"{where}; L1 runs\nL1 alone has L2's general registers: no VM exit saves them"


def _row(one: Both, doubts: dict[str, int]) -> tuple[str, ...]:
    mark = ""
    if one.l2 is not None and one.l2.doubt:
        mark = f" ({doubts.setdefault(one.l2.doubt, len(doubts) + 1)})"
    origin = "" if one.l2 is None else one.l2.origin + mark
    return one.name, _number(one.l2), _number(one.l1), origin


def _number(one: GuestRegister | None) -> str:
    return UNKNOWN if one is None else f"{one.number:#x}"


def _data(one: GuestRegister | None) -> Data:
    if one is None:
        return None
    return {"value": hexed(one.number), "origin": one.origin, "doubt": one.doubt or None}
