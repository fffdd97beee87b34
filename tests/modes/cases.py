# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases: each defect of L2's own entries, of EPT12's, and of both, in each paging mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from random import Random

from tests.guests.generate import spread
from tests.guests.scenarios import DEFECTS
from tests.modes import large, stacks
from tests.modes.landscape import (
    FIVE,
    FOUR,
    PAE,
    PAGED_32,
    PS,
    RW,
    RWX,
    UNPAGED,
    US,
    XD,
    A,
    D,
    P,
    Target,
)
from tests.modes.maker import Change, Maker, few_modes, in_memory, modes
from tests.modes.scenario import (
    CR4_PKE,
    CR4_PKS,
    FETCH,
    OPS,
    READ,
    RMW,
    WRITE,
    Case,
    Mode,
    Scenario,
)

READ_ONLY_FLAGS = "read-only-flags"  # which end Bochs 3.0 as a processor with shadow stacks
PAGINGS = (PAGED_32, PAE, FOUR, FIVE)
RIGHTS_32 = (0, RW, US, RW | US)
RIGHTS = tuple(one | xd for xd, one in product((0, XD), RIGHTS_32))


def rights_of(paging: str) -> tuple[int, ...]:
    return RIGHTS_32 if paging == PAGED_32 else RIGHTS


def rights(s: Maker) -> None:
    """All rights of the leaf with all of one entry above it."""
    for target in s.targets(*PAGINGS):
        entries, every = in_memory(target), rights_of(target.paging)
        leaf, above = entries[-1], entries[:-1]
        for mode, op, mine in product(modes(target.paging), OPS, every):
            change = s.guest(leaf, RW | US, mine)
            s.put("rights", mode, op, target, [change])
            for entry, other in product(above[-1:], every):
                s.put("rights", mode, op, target, [change, s.guest(entry, RW | US, other)])


def upper_rights(s: Maker) -> None:
    """All rights of each entry above the last two."""
    for target in s.targets(PAE, FOUR, FIVE):
        for entry in in_memory(target)[:-2]:
            for mode, op, mine in product(modes(target.paging), OPS, RIGHTS):
                s.put("rights", mode, op, target, [s.guest(entry, RW | US, mine)])


def each_bit(s: Maker) -> None:
    """Each bit of each entry alone the other way round: absent, reserved, and ignored."""
    for target in s.targets(*PAGINGS):
        for entry in in_memory(target):
            value = s.land.value(entry.address or 0)
            for mode, op, place in product(few_modes(target.paging), OPS, range(8 * entry.size)):
                bit = 1 << place
                change = s.guest(entry, bit, bit & ~value)
                s.put("each-bit", mode, op, target, [change])
    for target in s.targets(PAGED_32):
        small = replace(Mode(PAGED_32), pse=False)
        for entry in in_memory(target):
            for op, place in product(OPS, range(32)):
                bit = 1 << place
                value = s.land.value(entry.address or 0)
                s.put("each-bit", small, op, target, [s.guest(entry, bit, bit & ~value)])


def flags(s: Maker) -> None:
    """Accessed and dirty flags of L2's entries, with the rights of EPT12 for one of the tables."""
    for target in s.targets(*PAGINGS):
        entries = in_memory(target)
        masks = [(0, A)] * (len(entries) - 1) + [(0, A, D, A | D)]
        for state in product(*masks):
            cleared = [s.guest(entry, bits) for entry, bits in zip(entries, state) if bits]
            for ad, op in product((False, True), OPS):
                for mode in (Mode(target.paging), Mode(target.paging, 3)):
                    s.put("flags", mode, op, target, cleared, ad)
                mode = Mode(target.paging)
                for entry, lacking in product(entries, (2, 4, 6, 7)):
                    table = s.ept(entry.table.gpa, 1, lacking)
                    s.put("flags", mode, op, target, [*cleared, table], ad)
                for lacking in (1, 2, 4, 7):
                    data = s.ept(target.data.gpa, 1, lacking)
                    s.put("flags", mode, op, target, [*cleared, data], ad)


def read_only_flags(s: Maker) -> None:
    """Flags of a read-only leaf, written to by a supervisor with CR0.WP clear."""
    for target in s.targets(*PAGINGS):
        leaf = in_memory(target)[-1]
        for cleared, op, ad in product((0, A, D, A | D), OPS, (False, True)):
            change = s.guest(leaf, RW | cleared)
            s.put(READ_ONLY_FLAGS, Mode(target.paging, wp=False), op, target, [change], ad)


def ept_defects(s: Maker) -> None:
    """Each defect of EPT12 on the way to each table, and to the data."""
    for target in s.targets(UNPAGED, *PAGINGS):
        pages = [entry.table.gpa for entry in in_memory(target)] + [target.data.gpa]
        for gpa, level, defect in product(pages, range(4, 0, -1), DEFECTS):
            change = s.broken(gpa, level, defect)
            for mode, op, ad in product(_plain(target.paging), OPS, (False, True)):
                s.put("ept-defects", mode, op, target, [change], ad)
        for gpa, level, kept in product(pages, (2, 1), range(RWX + 1)):
            change = s.ept(gpa, level, RWX, kept)
            for mode, op, ad in product(_plain(target.paging), OPS, (False, True)):
                s.put("ept-rights", mode, op, target, [change], ad)


def _plain(paging: str) -> list[Mode]:
    if paging == UNPAGED:
        return [Mode(UNPAGED), Mode(UNPAGED, 3), Mode(UNPAGED, real=True)]
    return [Mode(paging), Mode(paging, 3)]


#: What is wrong with an entry of L2's: bits cleared, and set.
GUEST_DEFECTS = ((P, 0), (RW, 0), (US, 0), (0, XD), (0, 1 << 51), (A, 0), (A | D, 0))
EPT_DEFECTS = ((RWX, 0), (2, 0), (1, 0), (4, 0), (5, 0), (0, 1 << 40), (0x38, 0x10))


def both(s: Maker) -> None:
    """A defect of one of L2's entries with one of EPT12's on the way to a table or the data."""
    for target in s.targets(*PAGINGS):
        entries = in_memory(target)
        pages = [entry.table.gpa for entry in entries] + [target.data.gpa]
        for entry, (clear, set) in product(entries, GUEST_DEFECTS):
            mine = s.guest(entry, clear, set)
            for gpa, (ept_clear, ept_set) in product(pages, EPT_DEFECTS):
                change = s.ept(gpa, 1, ept_clear, ept_set)
                for mode, op in product(few_modes(target.paging)[:2], (READ, WRITE, RMW, FETCH)):
                    s.put("both", mode, op, target, [mine, change], ad=op == RMW)


def pdptes(s: Maker) -> None:
    """PDPTE registers that differ from the entries in memory: absent, or leading elsewhere; and
    other entries in memory, which nothing may come of."""
    usual, decoy = s.land.pdptes, s.land.value(s.land.roots[PAE].l1 + 8)
    ignored = 0xE18  # 11:9, PCD, PWT
    for one in (usual[1], usual[1] | ignored, 0, usual[1] & ~P, decoy, usual[1] | 1 << 9):
        registers = (usual[0], one, *usual[2:])
        for target, op, cpl in product(s.targets(PAE), OPS, (0, 3)):
            mode = Mode(PAE, cpl, pdptes=registers)
            s.put("pdptes", mode, op, target)
            for entry in in_memory(target):
                s.put("pdptes", mode, op, target, [s.guest(entry, P)])
    memory = s.land.roots[PAE].l1 + 8
    for target, op, place in product(s.targets(PAE), OPS, range(64)):
        bit = 1 << place
        change = Change(memory, bit, bit & ~decoy)
        s.put("pdptes", Mode(PAE), op, target, [change])


KEY = 5
KEY_AT = 59  # in a leaf
KEY_RIGHTS = (0, 1, 2, 3)  # access-disable and write-disable
EVERY_KEY = 0x5555_5555


def keys(s: Maker) -> None:
    """Protection keys: what PKRU and IA32_PKRS say of the page's key, and of all others."""
    for target in s.targets(FOUR, FIVE):
        if "high" in target.name or "upper" in target.name:
            continue
        leaf = in_memory(target)[-1]
        for mode, on, mine, others in product(
            _key_modes(target.paging), (CR4_PKE, CR4_PKS, CR4_PKE | CR4_PKS), KEY_RIGHTS, (0, 3)
        ):
            value = EVERY_KEY * others & ~(3 << 2 * KEY) | mine << 2 * KEY
            for pkru, pkrs in ((value, 0), (0, value)):
                with_keys = replace(mode, keys=on, pkru=pkru, pkrs=pkrs)
                for op, key, rights in product(OPS, (KEY, 0), (RW | US, US, RW, 0)):
                    change = s.guest(leaf, RW | US, rights | key << KEY_AT)
                    s.put("keys", with_keys, op, target, [change])


def _key_modes(paging: str) -> list[Mode]:
    return [Mode(paging), Mode(paging, 3), Mode(paging, wp=False), Mode(paging, smap=True)]


RANDOM = 30_000  # of each paging mode
SEED = 12
DEFECT_BITS = (P, RW, US, A, D, PS, 1 << 12, 1 << 51, 1 << 40, 1 << 62, XD)


def at_random(s: Maker) -> None:
    """Several defects at once, of L2's entries and of EPT12's."""
    for paging in PAGINGS:
        random = Random(f"{SEED} {paging}")
        targets, states = list(s.targets(paging)), modes(paging)
        if not targets:
            continue
        states = random.sample(states, min(len(states), 24))
        for _ in range(RANDOM):
            target = random.choice(targets)
            changes = list(_random_changes(s, random, target))
            mode, op, ad = random.choice(states), random.choice(OPS), random.random() < 0.5
            s.put("random", mode, op, target, changes, ad)


def _random_changes(s: Maker, random: Random, target: Target) -> Iterator[Change]:
    entries = in_memory(target)
    for entry in entries:
        if random.random() < 0.4:
            bit = random.choice(DEFECT_BITS)
            value = s.land.value(entry.address or 0)
            yield s.guest(entry, bit, bit & ~value)
    for gpa in [entry.table.gpa for entry in entries] + [target.data.gpa]:
        if random.random() < 0.25:
            level = random.choice((1, 1, 1, 2, 3, 4))
            yield s.broken(gpa, level, random.choice(DEFECTS))


GROUPS: tuple[Callable[[Maker], None], ...] = (
    rights,
    upper_rights,
    each_bit,
    flags,
    read_only_flags,
    ept_defects,
    both,
    pdptes,
    keys,
    at_random,
)


MORE_SHARE = 0.3  # of the count of the usual groups: what is chosen of the others


def build(
    count: int | None = None, five: bool = False, without: frozenset[str] = frozenset()
) -> Scenario:
    """All cases, or `count` of the usual ones and MORE_SHARE as many of those with large leaves;
    with `five` those of 5-level paging, else those of all other modes; `without` some groups."""
    chosen: list[Case] = []
    for groups, share in ((GROUPS, 1.0), (large.GROUPS, MORE_SHARE)):
        maker = Maker((FIVE,) if five else (UNPAGED, PAGED_32, PAE, FOUR))
        for group in groups:
            group(maker)
        wanted = [case for case in maker.scenario.chosen if case.group not in without]
        chosen += spread(wanted, None if count is None else int(share * count))
    scenario = Scenario(chosen=chosen)
    scenario.order()
    return scenario


def with_stacks(count: int | None = None, five: bool = False) -> Scenario:
    """All cases with shadow stacks, or `count` of them; those of 5-level paging, or all others."""
    maker = Maker((FIVE,) if five else (PAGED_32, PAE, FOUR))
    for group in stacks.GROUPS:
        group(maker)
    scenario = Scenario(chosen=spread(maker.scenario.chosen, count))
    scenario.order()
    return scenario
