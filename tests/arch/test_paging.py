# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from gdb_nept.arch.bits import Word
from gdb_nept.arch.paging import PAGING_4, PAGING_5, PAGING_32, PAGING_PAE, Cr3, Entry, Entry32


@pytest.mark.parametrize("word", [Cr3, Entry, Entry32])
def test_no_two_fields_overlap(word: type[Word]) -> None:
    seen = 0
    for field in word.fields():
        assert not seen & field.mask, field.name
        seen |= field.mask


def test_modes_divide_an_address() -> None:
    address = 0xFFFF_8ABC_DEF1_2345
    assert [PAGING_4.index(address, level) for level in (4, 3, 2, 1)] == [277, 243, 247, 274]
    assert PAGING_5.index(address, 5) == 511
    assert [PAGING_32.index(0xDEADBEEF, level) for level in (2, 1)] == [0x37A, 0x2DB]
    assert [PAGING_PAE.index(0xDEADBEEF, level) for level in (3, 2, 1)] == [3, 0xF5, 0xDB]
    assert [PAGING_4.page_size(level) for level in (1, 2, 3)] == [4096, 1 << 21, 1 << 30]
    assert PAGING_32.page_size(2) == 1 << 22


def test_canonical_addresses() -> None:
    assert PAGING_4.canonical(0x7FFF_FFFF_FFFF)
    assert PAGING_4.canonical(0xFFFF_8000_0000_0000)
    assert not PAGING_4.canonical(0x8000_0000_0000)
    assert PAGING_5.canonical(0xFF11_0000_0000_0000)
    assert not PAGING_4.canonical(0xFF11_0000_0000_0000)
    assert PAGING_32.canonical(0xFFFF_FFFF)
    assert not PAGING_PAE.canonical(1 << 32)


def test_leaves() -> None:
    large = Entry(Entry.build(present=1, large=1, address=0x200000))
    assert [large.leaf_at(level) for level in (1, 2, 3, 4, 5)] == [True, True, True, False, False]
    assert not Entry(1).leaf_at(2)
