# SPDX-License-Identifier: GPL-2.0-or-later
"""What an SPTE means, in every format."""

from __future__ import annotations

import pytest

from gdb_nept.kvm import spte_format as formats
from gdb_nept.kvm.spte import AdType, Spte, SpteKind, decode_spte
from gdb_nept.kvm.spte_format import SpteFormat
from gdb_nept.kvm.spte_words import MmioWord, Software

PRESENT, WB, IPAT, LARGE, A, D = 1 << 11, 6 << 3, 1 << 6, 1 << 7, 1 << 8, 1 << 9


HOST_W, MMU_W = 1 << 57, 1 << 58


FORMATS = [
    formats.SINCE_7_2,
    formats.SINCE_6_10,
    formats.SINCE_5_13,
    formats.SINCE_5_4,
    formats.SINCE_4_12,
    formats.OLDEST,
]


NAMES = [form.name for form in FORMATS]


def short(spte: Spte) -> list[str]:
    return [part.short for part in spte.parts]


@pytest.mark.parametrize("form", FORMATS, ids=NAMES)
def test_no_two_software_bits_overlap(form: SpteFormat) -> None:
    for word in (form.software, form.mmio):
        taken = 0
        for field in word.fields():
            assert not taken & field.mask
            taken |= field.mask


@pytest.mark.parametrize("form", FORMATS, ids=NAMES)
def test_empty(form: SpteFormat) -> None:
    assert decode_spte(form.empty, 1, form).kind is SpteKind.EMPTY
    assert decode_spte(0, 4, form).kind is SpteKind.EMPTY


def test_a_leaf_of_5_13() -> None:
    # seen in EPT01 of a Debian 6.1
    spte = decode_spte(0x6000000_03603B77, 1, formats.SINCE_5_13)
    assert (spte.kind, spte.address) == (SpteKind.LEAF, 0x3603000)
    assert (spte.read, spte.write, spte.execute) == (True, True, True)
    assert (spte.accessed, spte.dirty) == (True, True)
    assert (spte.host_writable, spte.mmu_writable, spte.protection) == (True, True, "")
    assert (spte.memory_type, spte.ad_type) == ("WB IPAT", AdType.ENABLED)
    assert short(spte)[-3:] == ["MMU-present", "host-writable", "MMU-writable"]


def test_a_table() -> None:
    spte = decode_spte(0x550E907, 4, formats.SINCE_5_13)
    assert (spte.kind, spte.address, spte.memory_type) == (SpteKind.TABLE, 0x550E000, "")
    assert spte.present


def test_a_large_page_has_no_low_address_bits() -> None:
    value = 0x40000000 | PRESENT | LARGE | WB | 7 | 1 << 63
    spte = decode_spte(value, 2, formats.SINCE_6_10)
    assert (spte.kind, spte.address) == (SpteKind.LEAF, 0x40000000)


def test_an_access_tracked_leaf_keeps_its_rights_aside() -> None:
    value = 0x5000 | PRESENT | WB | HOST_W | MMU_W | 1 << 52 | 5 << 54
    spte = decode_spte(value, 1, formats.SINCE_5_13)
    assert spte.kind is SpteKind.ACCESS_TRACKED
    assert (spte.read, spte.write, spte.execute) == (True, False, True)
    assert not spte.entry.present()
    assert (spte.accessed, spte.ad_type) == (False, AdType.DISABLED)
    assert "access-tracked" in spte.protection


def test_an_access_tracked_leaf_of_older_formats() -> None:
    spte = decode_spte(0x5000 | 1 << 62 | 5 << 52, 1, formats.SINCE_4_12)
    assert (spte.kind, spte.read, spte.execute) == (SpteKind.ACCESS_TRACKED, True, True)
    spte = decode_spte(0x5000 | 1 << 52 | 1 << 54, 1, formats.SINCE_5_4)
    assert (spte.kind, spte.read, spte.execute) == (SpteKind.ACCESS_TRACKED, True, False)


@pytest.mark.parametrize(
    ("bits", "why"),
    [
        (0, "not writable on the host"),
        (HOST_W, "shadowed table"),
        (HOST_W | MMU_W, "next write"),
        (HOST_W | MMU_W | 2, ""),
    ],
)
def test_why_a_leaf_is_not_writable(bits: int, why: str) -> None:
    spte = decode_spte(0x5000 | PRESENT | WB | 5 | bits, 1, formats.SINCE_5_13)
    assert why in spte.protection
    assert bool(spte.protection) == bool(why)


def test_write_protection_instead_of_pml() -> None:
    spte = decode_spte(0x5000 | PRESENT | 2 << 52 | A | 5, 1, formats.SINCE_5_13)
    assert (spte.ad_type, spte.accessed) == (AdType.WRPROT_ONLY, True)


@pytest.mark.parametrize(
    ("form", "value", "generation"),
    [
        (formats.SINCE_7_2, 1 << 63 | 6 | 0xFEE00000 | 5 << 3 | 3 << 52, 5 | 3 << 7),
        (formats.SINCE_6_10, 1 << 63 | 6 | 0xFEE00000 | 5 << 3 | 3 << 52, 5 | 3 << 8),
        (formats.SINCE_5_13, 6 | 0xFEE00000 | 5 << 3 | 3 << 52, 5 | 3 << 8),
        (formats.SINCE_5_4, 3 << 52 | 6 | 0xFEE00000 | 5 << 3 | 1 << 54, 5 | 1 << 9),
        (formats.SINCE_4_12, 1 << 62 | 6 | 0xFEE00000 | 5 << 3, 5),
        (formats.OLDEST, 3 << 62 | 6 | 0xFEE00000 | 5 << 3, 5),
    ],
    ids=NAMES,
)
def test_mmio(form: SpteFormat, value: int, generation: int) -> None:
    spte = decode_spte(value, 1, form)
    assert spte.kind is SpteKind.MMIO
    assert spte.mmio
    assert (spte.mmio.address, spte.mmio.generation) == (0xFEE00000, generation)
    assert not spte.present


def test_mmio_with_the_address_split_against_l1tf() -> None:
    lower, reserved = 0x7FFFFF000, 0xF800000000  # 40 bits, as on the lab's processor
    form = SpteFormat("", Software, MmioWord, 7, 6, rsvd_mask=reserved, lower_gfn_mask=lower)
    gpa = 0x12_3456_7000
    value = 6 | gpa | reserved | (gpa & reserved) << 5
    spte = decode_spte(value, 1, form)
    assert spte.mmio
    assert spte.mmio.address == gpa


def test_frozen_and_other_non_present_values() -> None:
    assert decode_spte(0x5A0, 1, formats.SINCE_5_13).kind is SpteKind.FROZEN
    assert decode_spte(1 << 63 | 0x5A0, 1, formats.SINCE_6_10).kind is SpteKind.FROZEN
    odd = decode_spte(0x5007, 1, formats.SINCE_5_13)  # hardware would use it, KVM does not know it
    assert odd.kind is SpteKind.OTHER
    assert odd.entry.present()


def test_mmio_is_not_cached_where_kvm_does_not() -> None:
    form = SpteFormat("", Software, MmioWord, 7, 6, caches_mmio=False)
    assert decode_spte(6, 1, form).kind is SpteKind.OTHER
