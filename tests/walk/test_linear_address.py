# SPDX-License-Identifier: GPL-2.0-or-later
"""Which linear addresses there are, by L2's mode: canonical or not, with metadata masked or not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.address import L2Virt
from gdb_nept.walk.guest_paging import Cr0, Cr4, Efer, GuestPaging, Reference
from gdb_nept.walk.linear_address import (
    lass_violation,
    not_canonical,
    too_wide,
    unmasked,
    wrapped,
)

PG, PAE, LA57, LAM_SUP, LMA = 1 << 31, 1 << 5, 1 << 12, 1 << 28, 1 << 10
LAM_U57, LAM_U48 = 1 << 61, 1 << 62

FOUR = GuestPaging(Cr0(PG), 0, Cr4(PAE), Efer(LMA), 46)
FIVE = GuestPaging(Cr0(PG), 0, Cr4(PAE | LA57), Efer(LMA), 46)
OF_32_BITS = GuestPaging(Cr0(PG), 0, Cr4(0), Efer(0), 36)
WITH_PAE = GuestPaging(Cr0(PG), 0, Cr4(PAE), Efer(0), 36)
UNPAGED = GuestPaging(Cr0(0), 0, Cr4(0), Efer(0), 36)


@pytest.mark.parametrize(
    ("paging", "linear", "refused"),
    [
        (FOUR, 0x7FFF_FFFF_FFFF, False),
        (FOUR, 0x8000_0000_0000, True),
        (FOUR, 0xFFFF_7FFF_FFFF_FFFF, True),
        (FOUR, 0xFFFF_8000_0000_0000, False),
        (FOUR, 0xFF00_0000_0000_0000, True),
        (FIVE, 0x8000_0000_0000, False),
        (FIVE, 0xFF_FFFF_FFFF_FFFF, False),
        (FIVE, 0x100_0000_0000_0000, True),
        (FIVE, 0xFEFF_FFFF_FFFF_FFFF, True),
        (FIVE, 0xFF00_0000_0000_0000, False),
        (OF_32_BITS, 0xFFFF_FFFF, False),
        (WITH_PAE, 0xFFFF_FFFF, False),
        (UNPAGED, 0xFFFF_FFFF, False),
    ],
)
def test_canonical_by_mode(paging: GuestPaging, linear: int, refused: bool) -> None:
    assert bool(not_canonical(paging, L2Virt(linear))) is refused


@pytest.mark.parametrize("paging", [OF_32_BITS, WITH_PAE, UNPAGED])
def test_addresses_have_32_bits_outside_ia_32e_mode(paging: GuestPaging) -> None:
    assert too_wide(paging, L2Virt(1 << 32))
    assert not too_wide(paging, L2Virt(0xFFFF_FFFF))
    assert wrapped(paging, (1 << 32) + 5) == 5
    assert not too_wide(FOUR, L2Virt(0xFFFF_8000_0000_0000))
    assert wrapped(FOUR, (1 << 64) + 5) == 5


def with_lam(paging: GuestPaging, cr3: int = 0, cr4: int = 0) -> GuestPaging:
    return GuestPaging(paging.cr0, cr3, Cr4(paging.cr4.value | cr4), paging.efer, paging.maxphyaddr)


TAG = 0x2A << 57  # bits 62:57


@pytest.mark.parametrize(
    ("paging", "linear", "translated"),
    [
        # vmx_get_untagged_addr(): U57 wins over U48, whatever the paging mode
        (with_lam(FOUR, LAM_U57), TAG | 0x7F00_0000_1000, 0x7F00_0000_1000),
        (with_lam(FOUR, LAM_U57 | LAM_U48), 0x1 << 50 | 0x1000, 0x1 << 50 | 0x1000),
        (with_lam(FOUR, LAM_U48), 0x7FFF << 48 | 0x1000, 0x1000),
        (with_lam(FIVE, LAM_U57), TAG | 0x12_3400_0000_1000, 0x12_3400_0000_1000),
        # the highest translated bit is spread, bit 63 stays: the result is not canonical
        (with_lam(FOUR, LAM_U48), 0x8000_0000_1000, 0x7FFF_8000_0000_1000),
        # supervisor pointers: CR4, and by the paging mode
        (with_lam(FOUR, cr4=LAM_SUP), 0x8123_8000_0000_1000, 0xFFFF_8000_0000_1000),
        (with_lam(FIVE, cr4=LAM_SUP), 0x81FF_8000_0000_1000, 0xFFFF_8000_0000_1000),
        (with_lam(FOUR, cr4=LAM_SUP), TAG | 0x1000, TAG | 0x1000),
        (with_lam(FOUR, LAM_U48), 0x8123_8000_0000_1000, 0x8123_8000_0000_1000),
        (FOUR, TAG | 0x1000, TAG | 0x1000),
        (with_lam(WITH_PAE, LAM_U57), 0x1000, 0x1000),
    ],
)
def test_lam(paging: GuestPaging, linear: int, translated: int) -> None:
    assert unmasked(paging, L2Virt(linear), fetch=False) == translated
    assert unmasked(paging, L2Virt(linear), fetch=True) == linear


LASS, SMAP = 1 << 27, 1 << 21
LOW, HIGH = L2Virt(0x1000), L2Virt(0xFFFF_8000_0000_1000)


@pytest.mark.parametrize(
    ("access", "cr4", "ac", "refused"),
    [
        # user-mode accesses: bit 63 alone decides
        (Reference(HIGH, write=False, user=True), LASS, False, True),
        (Reference(HIGH, write=True, user=True), LASS, True, True),
        (Reference(HIGH, write=False, fetch=True, user=True), LASS, False, True),
        (Reference(LOW, write=True, user=True), LASS | SMAP, False, False),
        # one that CPL 3 makes to a system structure is a supervisor's
        (Reference(HIGH, write=False, user=True, implicit=True), LASS | SMAP, False, False),
        (Reference(LOW, write=False, user=True, implicit=True), LASS | SMAP, True, True),
        (Reference(LOW, write=False, implicit=True), LASS, False, False),
        # a supervisor's data accesses: only with SMAP, and not while AC lifts it
        (Reference(LOW, write=False), LASS | SMAP, False, True),
        (Reference(LOW, write=False), LASS | SMAP, True, False),
        (Reference(LOW, write=True), LASS, False, False),
        (Reference(HIGH, write=True), LASS | SMAP, False, False),
        # its fetches: whatever SMAP and AC are
        (Reference(LOW, write=False, fetch=True), LASS, True, True),
        (Reference(HIGH, write=False, fetch=True), LASS, True, False),
        (Reference(LOW, write=False, fetch=True), SMAP, False, False),
    ],
)
def test_lass(access: Reference, cr4: int, ac: bool, refused: bool) -> None:
    paging = replace(with_lam(FOUR, cr4=cr4), ac=ac)
    assert bool(lass_violation(paging, access)) is refused
    outside = replace(paging, efer=Efer(0))
    assert lass_violation(outside, access) == ""
