# SPDX-License-Identifier: GPL-2.0-or-later
"""Walks through small tables, and what Linux keeps in entries that are not present."""

from __future__ import annotations

import pytest

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.arch.paging import Entry
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.target.pagetable import PageTables, Translation
from tests.target.memories import Pieces

TABLE = 0x67
INVERT = Entry.address.mask
SME = 1 << 47


def walk(pte: int, levels: int = 4, pde: int = 0x4000 | TABLE, sme: int = 0) -> Translation:
    """Address 0x7f0000603123 through tables at 0x1000 (top), 0x2000, 0x3000, 0x4000."""
    words = {
        0x1000 + 8 * 0xFE: 0x2000 | TABLE | sme,
        0x2000: 0x3000 | TABLE | sme,
        0x3000 + 8 * 3: pde,
        0x4000 + 8 * 3: pte,
        0x9000: 0x1000 | TABLE,
    }
    root = 0x9000 if levels == 5 else 0x1000
    tables = PageTables(SparseMemory(words), HostPhys(root), levels, sme)
    return tables.walk(HostVirt(0x7F0000603123))


@pytest.mark.parametrize("levels", [4, 5])
def test_every_step_is_kept(levels: int) -> None:
    found = walk(0x8000000012345067, levels)
    assert (found.physical, found.page_size, found.why) == (0x12345123, 4096, "")
    assert [step.level for step in found.steps] == list(range(levels, 0, -1))
    last = found.steps[-1]
    assert (last.name, last.table, last.index, last.address) == ("PTE", 0x4000, 3, 0x4018)


def test_large_page_with_pat_bit_and_encryption_bit() -> None:
    found = walk(0, pde=0x40000000 | 1 << 12 | SME | 0xE7, sme=SME)
    assert (found.physical, found.page_size) == (0x40003123, 1 << 21)
    assert found.steps[-1].name == "PDE"


@pytest.mark.parametrize(
    ("pte", "physical", "words"),
    [
        (0, None, "never touched"),
        ((0x12345000 | 0x160) ^ INVERT, 0x12345123, "PROT_NONE"),
        (0x12345000 | 0x160, 0x12345123, "PROT_NONE"),  # before the L1TF fix: not inverted
        (2 << 59 | 0x1234 << 9, None, "swapped out: the PTE is 0x1000000000246800 (swap file 2)"),
        (29 << 59 | 0x1234 << 9, None, "migration"),
        (31 << 59 | 1 << 9, None, "marker"),
    ],
)
def test_why_a_pte_is_not_present(pte: int, physical: int | None, words: str) -> None:
    found = walk(pte)
    assert found.physical == physical
    assert words in found.why


def test_why_a_pde_is_not_present() -> None:
    assert "the PDE is 0 " in walk(0, pde=0).why
    splitting = walk(0, pde=0x40000000 | 0xE6)
    assert splitting.physical == 0x40003123
    assert "split" in splitting.why
    hidden = walk(0, pde=(0x40000000 | 0x1E0) ^ INVERT)
    assert hidden.physical == 0x40003123
    assert "PROT_NONE" in hidden.why
    moved = walk(0, pde=29 << 59 | 1 << 20)
    assert moved.physical is None
    assert "migration" in moved.why


def test_what_cannot_be_walked() -> None:
    top = bytes(8 * 255) + (0x777000 | TABLE).to_bytes(8, "little")
    tables = PageTables(Pieces({0x1000: top}), HostPhys(0x1000), 4)
    assert "canonical" in tables.walk(KernelVirt(1 << 63)).why
    lost = tables.walk(KernelVirt(255 << 39))
    assert "the PDPTE cannot be read" in lost.why
    assert len(lost.steps) == 1
    with pytest.raises(MemoryUnreadable, match="canonical"):
        tables.to_physical(KernelVirt(1 << 63))
