# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of L2's, and pages, that can be under large leaves of EPT12 as well.

Each lies in its block of 1 GByte where it lies in L1's memory, so that a leaf of 2 MBytes or of
1 GByte leads where the usual path does.
"""

from __future__ import annotations

from tests.modes.landscape import (
    BIT_32,
    FIVE,
    FOUR,
    GIB,
    LARGE,
    LARGE_HIGH,
    LARGE_LOW,
    LEAF,
    MIB,
    PAE,
    PAGE,
    PAGED_32,
    PS,
    PSE_36,
    Landscape,
    put_code,
    put_long,
    usual,
)


def build() -> Landscape:
    """All of it."""
    s = usual()
    _large(s)
    return s


def _large(s: Landscape) -> None:
    for name, block in (("low", LARGE_LOW), ("high", LARGE_HIGH)):
        page = s.places[name].l1
        s.places[LARGE + name] = s.map(block + page, page)
    four = tuple(LARGE + name for name in ("pml4", "pdpt", "pd", "pt"))
    five = (LARGE + "pml5", *four)
    _large_32(s)
    _large_pae(s)
    s.roots[LARGE + FOUR] = s.table(four[0], 4)
    put_code(s, FOUR, (four[0], "pdpt-code", "pd-code", "pt-code"), LARGE)
    put_long(s, FOUR, "4", 1 << 39, four, LARGE)
    s.roots[LARGE + FIVE] = s.table(five[0], 5)
    put_code(s, FIVE, (five[0], "pml4-code", "pdpt-code", "pd-code", "pt-code"), LARGE)
    put_long(s, FIVE, "5", 1 << 48 | 1 << 39, five, LARGE)


def _large_32(s: Landscape) -> None:
    low, high = s.places[LARGE + "low"], s.places[LARGE + "high"]
    names = LARGE + "pd32", LARGE + "pt32"
    s.roots[LARGE + PAGED_32] = s.table(names[0], 2)
    base, offset = low.gpa & ~(4 * MIB - 1), low.gpa & 4 * MIB - 1
    beyond = high.gpa >> BIT_32 << PSE_36
    offset_high = high.gpa & 4 * MIB - 1
    base_high = high.gpa & (1 << BIT_32) - 1 & ~(4 * MIB - 1) | beyond
    s.target(LARGE + "32-4k", PAGED_32, 4 * MIB + 3 * PAGE, names, low.gpa | LEAF, low)
    s.target(LARGE + "32-4m", PAGED_32, 8 * MIB + offset, names[:1], base | LEAF | PS, low)
    linear, leaf = 12 * MIB + offset_high, base_high | LEAF | PS
    s.target(LARGE + "32-pse36", PAGED_32, linear, names[:1], leaf, high)
    put_code(s, PAGED_32, (names[0], "pt32-code"), LARGE)


def _large_pae(s: Landscape) -> None:
    """By a PDPTE register that no other mode has; the table it is loaded from is never read."""
    low, high = s.places[LARGE + "low"], s.places[LARGE + "high"]
    s.roots[LARGE + PAE] = s.roots[PAE]
    put_code(s, PAE, ("pdpt-pae", "pd-pae-code", "pt-pae-code"), LARGE)
    names = ("pdpt-pae", LARGE + "pd-pae", LARGE + "pt-pae")
    start = 2 * GIB
    s.target(LARGE + "pae-4k", PAE, start + 2 * MIB + 3 * PAGE, names, low.gpa | LEAF, low)
    s.target(LARGE + "pae-4k-high", PAE, start + 2 * MIB + 4 * PAGE, names, high.gpa | LEAF, high)
    for number, (name, data) in enumerate((("2m", low), ("2m-high", high))):
        base, offset = data.gpa & ~(2 * MIB - 1), data.gpa & 2 * MIB - 1
        linear = start + (2 + number) * 2 * MIB + offset
        s.target(LARGE + f"pae-{name}", PAE, linear, names[:2], base | LEAF | PS, data)
    s.large_pdptes = (s.pdptes[0], 0, s.words[s.roots[PAE].l1 + 8 * 2][0], 0)
