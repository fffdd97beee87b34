# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers that no guest has, since VM entry refuses them (SDM vol. 3, 29.3.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gdb_nept.walk.guest_entry import refusal
from gdb_nept.walk.guest_paging import Cr0, Cr4, Efer, GuestPaging

PE, WP, PG = 1, 1 << 16, 1 << 31
PSE, PAE, LA57, PCIDE, CET, FRED = 1 << 4, 1 << 5, 1 << 12, 1 << 17, 1 << 23, 1 << 32
SCE, LME, LMA, NXE = 1, 1 << 8, 1 << 10, 1 << 11
LONG = GuestPaging(Cr0(PG | PE), 0x1000, Cr4(PAE), Efer(LMA | LME), 39)
WITH_PAE = replace(LONG, efer=Efer(0), pdptrs=(0x1001, 0x2019, 0, 0x3001))


def changed(paging: GuestPaging, **registers: Any) -> GuestPaging:
    kinds = {"cr0": Cr0, "cr4": Cr4, "efer": Efer}
    made = {name: kinds[name](value) for name, value in registers.items() if name in kinds}
    return replace(paging, **{**registers, **made})


@pytest.mark.parametrize(
    "paging",
    [
        LONG,
        WITH_PAE,
        changed(LONG, cr0=0, cr4=0, efer=0),  # real mode
        changed(LONG, cr0=PE, efer=LME),  # on the way to IA-32e mode
        changed(LONG, cr0=PE, efer=0, cr4=LA57 | PAE),
        changed(LONG, cr0=PG | PE, cr4=PSE, efer=NXE | SCE),
        changed(LONG, cr0=PG | PE | WP, cr4=PAE | CET | FRED | PCIDE | LA57),
        changed(LONG, cr3=3 << 61 | (1 << 39) - 1),  # LAM, and all of MAXPHYADDR
        changed(
            WITH_PAE, pdptrs=(~1 & (1 << 64) - 1,) * 4
        ),  # of one not present no bit is looked at
        changed(LONG, pdptrs=(0x1E7,) * 4),  # nor are they outside PAE paging
        changed(WITH_PAE, pdptrs=()),  # not known
        changed(LONG, cr0=0x80050033, cr4=0x3706F8, efer=0xD01),  # a Linux
    ],
)
def test_what_a_guest_can_have(paging: GuestPaging) -> None:
    assert refusal(paging) == ""


@pytest.mark.parametrize(
    ("paging", "why"),
    [
        (changed(WITH_PAE, cr0=PG), "L2's CR0 has PG (bit 31) without PE (bit 0)"),
        (changed(LONG, cr0=PG | PE | 1 << 32), "L2's CR0 has reserved bits set (0x100000000)"),
        (changed(LONG, cr0=PE), "L2's IA32_EFER has LMA (bit 10) without CR0.PG (bit 31)"),
        (changed(LONG, cr4=0), "L2's IA32_EFER has LMA (bit 10) without CR4.PAE (bit 5)"),
        (changed(LONG, efer=LMA), "L2's IA32_EFER has LMA (bit 10) without LME (bit 8)"),
        (
            changed(LONG, efer=LME),
            "L2's IA32_EFER has LME (bit 8) and CR0.PG (bit 31) without LMA (bit 10)",
        ),
        (changed(LONG, efer=LMA | LME | 2), "L2's IA32_EFER has reserved bits set (0x2)"),
        (changed(LONG, cr4=PAE | CET), "L2's CR4 has CET (bit 23) without CR0.WP (bit 16)"),
        (
            changed(WITH_PAE, cr4=PAE | PCIDE),
            "L2's CR4 has PCIDE (bit 17) without IA32_EFER.LMA (bit 10)",
        ),
        (changed(LONG, cr3=1 << 39), "L2's CR3 has reserved bits set (0x8000000000)"),
        (changed(LONG, cr3=1 << 63), "L2's CR3 has reserved bits set (0x8000000000000000)"),
        (
            changed(WITH_PAE, pdptrs=(1, 0, 0x1E7, 0)),
            "L2's PDPTE register 2 has reserved bits set (0x1e6)",
        ),
        (
            changed(WITH_PAE, pdptrs=(1 << 63 | 1, 0, 0, 0)),
            "L2's PDPTE register 0 has reserved bits set (0x8000000000000000)",
        ),
    ],
)
def test_what_vm_entry_refuses(paging: GuestPaging, why: str) -> None:
    assert refusal(paging) == why


@pytest.mark.parametrize("place", [15, 26, 29, 30, 31, *range(33, 64)])
def test_each_reserved_bit_of_cr4(place: int) -> None:
    why = f"L2's CR4 has reserved bits set ({1 << place:#x})"
    assert refusal(changed(LONG, cr4=PAE | 1 << place)) == why


def test_a_user_without_protection() -> None:
    real = changed(LONG, cr0=0, cr4=0, efer=0)
    assert refusal(real, user=True) == "L2 is at CPL 3 without CR0.PE (bit 0)"
    assert refusal(LONG, user=True) == ""
