# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases with large leaves in EPT12, under L2's tables and under the page that they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from random import Random

from tests.guests.scenarios import DEFECTS
from tests.modes.landscape import FIVE, FOUR, PAE, PAGED_32, RW, RWX, US, XD, A, D, P, Target
from tests.modes.maker import Change, Maker, in_memory, modes
from tests.modes.scenario import FETCH, OPS, READ, WRITE, Mode

PAGINGS = (PAGED_32, PAE, FOUR, FIVE)
SIZES = (2, 3)  # levels of EPT12 with leaves of 2 MBytes and of 1 GByte
EPT_A, EPT_D = 1 << 8, 1 << 9
PS_BIT = 7  # without it the entry would lead to a table where there is none
ADDRESS_END = 40  # MAXPHYADDR of the processors that the cases are for
FLAG_STATES = ((0, 0), (A, 0), (A, A), (0, A), (0, D), (0, A | D))  # cleared: above, in the leaf


def plain(paging: str) -> list[Mode]:
    return [Mode(paging, large=True), Mode(paging, 3, large=True)]


def pages(target: Target) -> list[int]:
    """The L2 addresses of the tables on the way, and of the data."""
    return [entry.table.gpa for entry in in_memory(target)] + [target.data.gpa]


def few(s: Maker) -> Iterator[Target]:
    """One target for each size of L2's own pages."""
    return (one for one in s.targets(*PAGINGS, large=True) if not one.name.endswith("-high"))


def leaf_bits(s: Maker) -> None:
    """Each bit of a large leaf alone the other way round, except for what would lead elsewhere."""
    for target in few(s):
        mode = Mode(target.paging, large=True)
        for gpa, level in product(pages(target), SIZES):
            leaf = s.large(gpa, level)
            reserved = 12 + 9 * (level - 1)
            for place in (*range(PS_BIT), *range(PS_BIT + 1, reserved), *range(ADDRESS_END, 64)):
                bit = 1 << place
                change = s.ept(gpa, level, bit, bit & ~leaf.set)
                for op, ad in product(OPS, (False, True)):
                    s.put("large-bits", mode, op, target, [leaf, change], ad)


def leaf_rights(s: Maker) -> None:
    """All rights of a large leaf with its flags set and not, and of the entry above it."""
    for target in s.targets(*PAGINGS, large=True):
        for gpa, level, kept in product(pages(target), SIZES, range(RWX + 1)):
            leaf = s.large(gpa, level)
            mine = [s.ept(gpa, level, RWX, kept | flags) for flags in (0, EPT_A, EPT_A | EPT_D)]
            above = s.ept(gpa, level + 1, RWX, kept)
            for mode, op, ad in product(plain(target.paging), OPS, (False, True)):
                for change in (*mine[: 3 if ad else 1], above):
                    s.put("large-rights", mode, op, target, [leaf, change], ad)


def leaf_defects(s: Maker) -> None:
    """Each defect of a large leaf, and of the entries above it."""
    for target in few(s):
        for gpa, level in product(pages(target), SIZES):
            leaf = s.large(gpa, level)
            for broken, defect in product(range(4, level - 1, -1), DEFECTS):
                change = s.broken(gpa, broken, defect)
                for mode, op in product(plain(target.paging), OPS):
                    s.put("large-defects", mode, op, target, [leaf, change], mode.cpl == 3)


def flags(s: Maker) -> None:
    """Accessed and dirty flags of L2's entries, with a large leaf that lacks rights under each."""
    for target in s.targets(*PAGINGS, large=True):
        *above, last = in_memory(target)
        mode = Mode(target.paging, large=True)
        for (upper, lower), gpa, level in product(FLAG_STATES, pages(target), SIZES):
            cleared = [s.guest(entry, upper) for entry in above] + [s.guest(last, lower)]
            leaf = s.large(gpa, level)
            for lacking, op, ad in product((0, 2, 4, 6, 7), OPS, (False, True)):
                change = s.ept(gpa, level, lacking)
                s.put("large-flags", mode, op, target, [*cleared, leaf, change], ad)


GUEST_DEFECTS = ((P, 0), (RW, 0), (US, 0), (0, XD), (0, 1 << 51), (A, 0), (A | D, 0))
EPT_DEFECTS = ((RWX, 0), (2, 0), (1, 0), (4, 0), (5, 0), (0, 1 << 40), (0x38, 0x10), (0, 1 << 13))


def both(s: Maker) -> None:
    """A defect of one of L2's entries with one of a large leaf under a table or the data."""
    for target in few(s):
        for entry, (clear, set) in product(in_memory(target), GUEST_DEFECTS):
            mine = s.guest(entry, clear, set)
            for gpa, (ept_clear, ept_set) in product(pages(target), EPT_DEFECTS):
                for number, mode in enumerate(plain(target.paging)):
                    level = SIZES[number]
                    changes = [mine, s.large(gpa, level), s.ept(gpa, level, ept_clear, ept_set)]
                    for op in (READ, WRITE, FETCH):
                        s.put("large-both", mode, op, target, changes, ad=op == WRITE)


def everywhere(s: Maker) -> None:
    """Large leaves under all tables and the data, of one size and of both, with L2's rights."""
    for target in s.targets(*PAGINGS, large=True):
        leaf = in_memory(target)[-1]
        for first, second in product(SIZES, SIZES):
            levels = [(first, second)[place % 2] for place in range(len(target.entries) + 1)]
            all_large = [s.large(gpa, level) for gpa, level in zip(pages(target), levels)]
            for mode, op, rights in product(modes(target.paging), OPS, (RW | US, US, RW)):
                change = s.guest(leaf, RW | US, rights)
                s.put("large-all", replace(mode, large=True), op, target, [*all_large, change])


RANDOM = 10_000  # of each paging mode
SEED = 14
DEFECT_BITS = (P, RW, US, A, D, 1 << 51, 1 << 40, 1 << 62, XD)  # none that leads elsewhere


def at_random(s: Maker) -> None:
    """Leaves of any size and several defects at once, of L2's entries and of EPT12's."""
    for paging in PAGINGS:
        random = Random(f"{SEED} {paging}")
        targets = list(s.targets(paging, large=True))
        if not targets:
            continue
        for _ in range(RANDOM):
            target = random.choice(targets)
            changes = list(_random_changes(s, random, target))
            mode, op = random.choice(plain(paging)), random.choice(OPS)
            s.put("large-random", mode, op, target, changes, random.random() < 0.5)


def _random_changes(s: Maker, random: Random, target: Target) -> Iterator[Change]:
    for entry in in_memory(target):
        if random.random() < 0.3:
            bit = random.choice(DEFECT_BITS)
            value = s.land.value(entry.address or 0)
            yield s.guest(entry, bit, bit & ~value)
    for gpa in pages(target):
        level = random.choice((1, *SIZES))
        if level > 1:
            yield s.large(gpa, level)
        if random.random() < 0.25:
            yield s.broken(gpa, random.randrange(level, 5), random.choice(DEFECTS))


GROUPS = (leaf_bits, leaf_rights, leaf_defects, flags, both, everywhere, at_random)
