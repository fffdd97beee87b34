# SPDX-License-Identifier: GPL-2.0-or-later
"""The generated scenario: accesses by the hundred thousand, for the proof of the predictions.

    python3 -m tests.guests.generate [--cases N] FILE    writes the file that L1 reads
    python3 -m tests.guests.generate [--cases N] --list-groups

Few pages and many patches: there is one page of each size, whose EPT path is its own at every
level, and one tree of L2's page tables that EPT12 maps by a path of its own.  Each case changes
entries of these paths.  A case is the access and the entries that it meets; no two are equal.
"""

from __future__ import annotations

import argparse
import math
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Protocol, TypeVar

from tests.guests.scenarios import (
    AD,
    BIT_7,
    CHUNK_A,
    CODE,
    CROSS_CODE,
    CROSS_DATA,
    DEFECTS,
    EVERYTHING,
    FAR,
    FETCH,
    GA,
    GD,
    GIB,
    GU,
    GW,
    HOME,
    HOME_END,
    INS,
    LEVELS,
    MIB,
    NX,
    OUTS,
    PAGE,
    PARK,
    PATCH_GUEST,
    PATCH_NEXT,
    PATCH_WALK,
    PDE,
    PDPTE,
    PML4E,
    PTE,
    READ,
    RMW,
    RWX,
    SCRATCH,
    SMALL,
    SMALL_GPA,
    TABLES,
    USER,
    WB,
    WRITE,
    P,
    Patch,
    R,
    Scenario,
    W,
    X,
    ept,
    paging,
    walk,
)

LOW_12 = 0xFFF
LOW_8 = 0xFF
NO_NAME = 0xFFFF_FFFF
WIDEST = 52  # bits of the widest physical address
EPT_OPEN = 0x700  # accessed, dirty, user execute, which a case with features finds set
LEAST_WIDTH = 40  # MAXPHYADDR of the processors that the cases are for
SPREAD = 0.618  # of a group's length: the step that picks a part of it
TABLE = P | GW | GU | GA  # what L1 puts into the entries of L2's that lead to a table
LEAF = P | GW | GA | GD
RANK_AND_FILE = (READ, WRITE, FETCH, RMW)
OFFSETS = {READ: 0, WRITE: SCRATCH, RMW: 0, FETCH: CODE, OUTS: 0x40, INS: SCRATCH + 8}


@dataclass(frozen=True)
class Target:
    """A page whose path is its own.  `leaf` is the level of its EPT leaf; 4-KiB pages of L2's own
    tables map it, for the supervisor at `linear` and for user code two pages on."""

    name: str
    linear: int
    gpa: int
    leaf: int

    def address(self, op: int, user: bool = False) -> int:
        return self.linear + 2 * PAGE * user + OFFSETS[op]

    def entry(self, level: int) -> str:
        return {PDE: "2m", PDPTE: "1g"}[level] if level == self.leaf > PTE else LEVELS[level]

    @property
    def levels(self) -> range:
        return range(PML4E, self.leaf - 1, -1)


DATA_TREE = 0x5000_0000_0000
SMALL_PAGE = Target("4k", DATA_TREE, FAR + 0x1234_5000, PTE)
LARGE_PAGE = Target("2m", DATA_TREE + 2 * MIB, FAR + 5 * GIB + 0x0600_0000 + MIB, PDE)
HUGE_PAGE = Target("1g", DATA_TREE + 4 * MIB, FAR + 10 * GIB + SMALL + 2 * PAGE, PDPTE)
TARGETS = (SMALL_PAGE, LARGE_PAGE, HUGE_PAGE)

# L2's page tables that EPT12 maps by a path of their own, and a page that lies under them
WALK_TREE, WALK_TABLES = 0x6000_0000_0000, FAR + 13 * GIB + 0x0028_0000
WALKED = Target("walked", WALK_TREE, SMALL_GPA + 3 * PAGE, PTE)

# Pages in front of each target (and of what L2's own tables refuse), for accesses over the end
CROSS_TREE = 0x5100_0000_0000
BEFORE_DATA, BEFORE_CODE = SMALL_GPA + 4 * PAGE, SMALL_GPA + 5 * PAGE
REFUSED = (
    ("absent", 0),
    ("read-only", LEAF & ~GW),
    ("nx", LEAF | NX),
    ("reserved", LEAF | 1 << 51),
)

# The L1 pages of all these, at SMALL_GPA and linear = L2 address for L1 to have them signed
SIGNED = (
    SMALL,
    CHUNK_A + MIB,
    SMALL + 2 * PAGE,
    SMALL + 3 * PAGE,
    SMALL + 4 * PAGE,
    SMALL + 5 * PAGE,
)


@dataclass(frozen=True)
class Case:
    group: str
    op: int
    linear: int
    flags: int
    patches: tuple[Patch, ...]
    features: int = 0  # tests/features/features.h; none in the cases of this file
    said: str = ""  # by L1, if it is to tell of the case

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from all others: the access, and the entries as it finds them."""
        change: dict[tuple[int, int, int], int] = {}
        for patch in self.patches:
            base = _found(patch, self.linear)
            if self.features and patch.space != PATCH_GUEST:
                base |= EPT_OPEN
            value = base & patch.keep | patch.set | patch.beyond << LEAST_WIDTH
            if value != base:
                change[patch.space, patch.level, patch.walk] = value
        return self.op, self.linear, self.flags & ~PARK, self.features, frozenset(change.items())


def _found(patch: Patch, linear: int) -> int:
    """The entry of a patch without its address and flags: what the landscape has there."""
    if patch.space == PATCH_WALK:
        return RWX | WB if patch.level == PTE else RWX
    if patch.space == PATCH_GUEST:
        user = GU if linear & 2 * PAGE else 0
        return LEAF | user if patch.level == PTE else TABLE
    leaf = PTE
    for target in TARGETS:
        base = target.linear
        if patch.space == PATCH_NEXT:
            base = CROSS_TREE + (target.linear - DATA_TREE)
        if base <= linear < base + 2 * MIB:
            leaf = target.leaf
    if patch.level > leaf:
        return RWX
    return RWX | WB | (BIT_7 if leaf > PTE else 0)


@dataclass
class Generated(Scenario):
    chosen: list[Case] = field(default_factory=list)
    seen: set[tuple[object, ...]] = field(default_factory=set)

    def add(
        self,
        group: str,
        ops: Iterable[int],
        target: Target,
        patches: Sequence[Patch] = (),
        ad: Sequence[int] = (0, AD),
        user: bool = False,
    ) -> None:
        for flags, op in product(ad, ops):
            where = target.address(op, user)
            self.put(Case(group, op, where, flags | (USER if user else 0), tuple(patches)))

    def put(self, case: Case) -> None:
        """A case that an earlier group has is left out."""
        if case.key not in self.seen:
            self.seen.add(case.key)
            self.chosen.append(case)

    def finish(self, count: int | None) -> None:
        """Puts the cases into the file's tables; those of one EPT pointer together."""
        cases = sorted(spread(self.chosen, count), key=lambda case: case.flags & AD)
        assert len({case.key for case in cases}) == len(cases)
        self.chosen = cases
        for case in cases:
            flags = case.flags | (PARK if case is cases[-1] else 0)
            self._pack(case, flags)

    def _pack(self, case: Case, flags: int) -> None:
        if case.patches and case.patches not in self.known_patches:
            self.known_patches[case.patches] = len(self.patches)
            self.patches += [patch.pack() for patch in case.patches]
        first = self.known_patches.get(case.patches, 0)
        numbers = (len(case.patches), case.op, flags, 0, case.features)
        self.cases.append(struct.pack("<QIIBBBBI", case.linear, self._name(case), first, *numbers))

    def _name(self, case: Case) -> int:
        """The place of its text among the strings."""
        if not case.said:
            return NO_NAME
        place = len(self.strings)
        self.strings += case.said.encode() + b"\0"
        return place


class Grouped(Protocol):
    """A case of any proof."""

    @property
    def group(self) -> str: ...


AnyCase = TypeVar("AnyCase", bound=Grouped)


def spread(cases: list[AnyCase], count: int | None) -> list[AnyCase]:
    """`count` of the cases, from each group in proportion, in steps that keep no rhythm of the
    group's own loops."""
    if count is None or count >= len(cases):
        return cases
    groups: dict[str, list[AnyCase]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    found: list[AnyCase] = []
    for group in groups.values():
        wanted = min(len(group), math.ceil(count * len(group) / len(cases)))
        found += [group[place] for place in sorted(_steps(len(group), wanted))]
    return found


def _steps(length: int, wanted: int) -> list[int]:
    step = max(1, int(length * SPREAD))
    while math.gcd(step, length) != 1:
        step += 1
    return [number * step % length for number in range(wanted)]


# -- the landscape ------------------------------------------------------------------------------


def landscape(s: Generated) -> None:
    s.region(HOME, PTE, HOME, RWX | WB, count=(HOME_END - HOME) // PAGE)
    s.guest(0, 0, PDE, LEAF, count=256)
    s.guest(HOME, HOME, PDE, LEAF | GU)
    for number, page in enumerate(SIGNED):
        s.region(SMALL_GPA + number * PAGE, PTE, page, RWX | WB)
        s.page(SMALL_GPA + number * PAGE, page, True)
    s.region(SMALL_PAGE.gpa, PTE, SMALL, RWX | WB)
    s.region(LARGE_PAGE.gpa & -2 * MIB, PDE, CHUNK_A, RWX | WB)
    s.region(HUGE_PAGE.gpa & -GIB, PDPTE, 0, RWX | WB)
    s.region(WALK_TABLES, PTE, TABLES, RWX | WB, count=3)
    for target in TARGETS:
        s.guest(target.linear, target.gpa, PTE, LEAF)
        s.guest(target.linear + 2 * PAGE, target.gpa, PTE, LEAF | GU)
    for page, bits in ((0, LEAF), (2, LEAF | GU)):
        tables = (WALK_TABLES, TABLES)
        s.guest(WALK_TREE + page * PAGE, WALKED.gpa, PTE, bits, tables=tables)
    for second in range(len(TARGETS) + len(REFUSED)):
        cross_maps(s, second)


def cross_maps(s: Generated, second: int) -> None:
    """Before each second page: one for data, and one with code, each for supervisor and user."""
    for number, first in enumerate((BEFORE_DATA, BEFORE_CODE)):
        for user in (0, GU):
            place = cross_address(second, number, bool(user))
            s.guest(place, first, PTE, LEAF | user)
            if second < len(TARGETS):
                s.guest(place + PAGE, TARGETS[second].gpa & -PAGE, PTE, LEAF | user)
            elif REFUSED[second - len(TARGETS)][1]:
                bits = REFUSED[second - len(TARGETS)][1]
                s.guest(place + PAGE, SMALL_PAGE.gpa, PTE, bits | user)


def cross_address(second: int, code: int, user: bool) -> int:
    """The page in front; bit 13 tells user pages from the supervisor's, as in a Target."""
    return CROSS_TREE + second * 2 * MIB + 2 * PAGE * user + 4 * PAGE * code


# -- the groups ---------------------------------------------------------------------------------


def every_entry() -> Iterator[tuple[Target, int]]:
    """Each kind of EPT entry once: four levels of the small page, the leaves of the large ones."""
    for level in SMALL_PAGE.levels:
        yield SMALL_PAGE, level
    yield LARGE_PAGE, PDE
    yield HUGE_PAGE, PDPTE


def low_bits(s: Generated) -> None:
    """All combinations of the low 12 bits of an entry."""
    for target, level in every_entry():
        group = f"low-bits-{target.entry(level)}"
        for value in range(LOW_12 + 1):
            patches = [ept(level, LOW_12, value)]
            s.add(group, (READ, WRITE, FETCH), target, patches)
            s.add(group, (RMW,), target, patches, ad=(0,) if value & 0x100 else (AD,))
            if value <= LOW_8:
                s.add(f"user-{group}", (READ, WRITE, FETCH), target, patches, user=True)


def rights(s: Generated) -> None:
    """Rights split over all levels of a path."""
    for target in TARGETS:
        group = f"rights-{target.name}"
        for split in product(range(RWX + 1), repeat=len(target.levels)):
            patches = [ept(level, RWX, xwr) for level, xwr in zip(target.levels, split)]
            s.add(group, RANK_AND_FILE, target, patches)
            s.add(f"user-{group}", (FETCH,), target, patches, ad=(0,), user=True)


def reserved(s: Generated) -> None:
    """Each bit over the low ones that the processor takes for reserved, or ignores."""
    for target, level in every_entry():
        first = {"2m": range(12, 21), "1g": range(12, 30)}.get(target.entry(level), range(0))
        for place in (*first, *range(LEAST_WIDTH, 64)):
            for xwr in (RWX, R | X, R, X, W, 0):
                patches = [ept(level, RWX, xwr | 1 << place)]
                s.add(f"reserved-{target.entry(level)}", RANK_AND_FILE, target, patches)


def elsewhere(s: Generated) -> None:
    """Addresses where there is no memory, of tables and of pages; data is read only."""
    for target, level in every_entry():
        for place, xwr in product(range(30, LEAST_WIDTH), (RWX, R | X, R)):
            s.add("elsewhere", (READ,), target, [ept(level, RWX, xwr | 1 << place)])


def memory_types(s: Generated) -> None:
    """Type and IPAT of the leaf, its rights, and those of the entry above."""
    for target in TARGETS:
        for kind, leaf, above in product(range(16), range(RWX + 1), range(RWX + 1)):
            patches = [ept(target.leaf, 0x7F, leaf | kind << 3), ept(target.leaf + 1, RWX, above)]
            if target.leaf > PTE:
                patches[0] = ept(target.leaf, 0x7F, leaf | kind << 3 | BIT_7)
            s.add(f"memory-types-{target.name}", (READ, WRITE, FETCH), target, patches, ad=(0,))


def precedence(s: Generated) -> None:
    """Two defects on one path: which counts?"""
    for target in TARGETS:
        for upper, lower in combinations(target.levels, 2):
            for one, other in product(DEFECTS, repeat=2):
                patches = [ept(upper, *one[1:]), ept(lower, *other[1:])]
                s.add(f"precedence-{target.name}", RANK_AND_FILE, target, patches)


#: How a page walk meets the tables: operation, EPT's flags, which flags of L2's entry are clear.
WALKS = ((READ, 0, 0), (WRITE, 0, GA | GD), (FETCH, AD, GA), (RMW, AD, 0))
WALK_ENTRIES = (PDPTE, PDE, PTE)


def walk_low_bits(s: Generated) -> None:
    """All low 12 bits of the EPT leaves of L2's own tables."""
    for entry, value in product(WALK_ENTRIES, range(LOW_12 + 1)):
        for op, ad, clear in WALKS:
            patches = [walk(entry, PTE, LOW_12, value)]
            if clear:
                patches.append(paging(entry, clear if entry == PTE else clear & GA))
            s.add(f"walk-low-bits-{LEVELS[entry]}", (op,), WALKED, patches, ad=(ad,))
    for value, user in product(range(LOW_8 + 1), (False, True)):
        # L2 cannot run without its PML4: only a fetch gets as far as this
        s.add("walk-low-bits-pml4e", (FETCH,), WALKED, [walk(PML4E, PTE, LOW_8, value)], user=user)


def walk_rights(s: Generated) -> None:
    """Rights split over the EPT path of L2's own tables."""
    for split in product(range(RWX + 1), repeat=4):
        patches = [walk(PTE, level, RWX, xwr) for level, xwr in zip(range(4, 0, -1), split)]
        for op, ad, clear in WALKS[:3]:
            extra = [paging(PTE, clear)] if clear else []
            s.add("walk-rights", (op,), WALKED, [*patches, *extra], ad=(ad,))


def walk_defects(s: Generated) -> None:
    """Each level of the EPT path of each table; and a defect on the way to the data as well."""
    for entry, level, one in product(WALK_ENTRIES, range(PML4E, 0, -1), DEFECTS):
        for user in (False, True):
            patches = [walk(entry, level, *one[1:])]
            s.add("walk-defects", (READ, WRITE, FETCH), WALKED, patches, user=user)
    for entry, one, other in product(WALK_ENTRIES, DEFECTS, DEFECTS):
        patches = [walk(entry, PTE, *one[1:]), ept(PTE, *other[1:])]
        s.add("walk-and-data", (READ, WRITE, FETCH), WALKED, patches)


def guest_flags(s: Generated) -> None:
    """L2's own rights and flags, where EPT12 lets its table be written, and where not."""
    for value, clear in product(range(0x80), (0, W, W | X, RWX)):
        patches = [paging(PTE, 0x7F, value)] + ([walk(PTE, PTE, clear)] if clear else [])
        for user in (False, True):
            s.add("guest-flags", RANK_AND_FILE, WALKED, patches, user=user)
    for entry, clear in product((PDPTE, PDE), (0, W, W | X, RWX)):
        for value in range(0x40):
            patches = [paging(entry, 0x3F, value)] + ([walk(entry, PTE, clear)] if clear else [])
            for user in (False, True):
                s.add("guest-flags", (READ, WRITE, FETCH), WALKED, patches, user=user)


def guest_bits(s: Generated) -> None:
    """Each bit of each of L2's own entries the other way round, with and without EPT in the way.

    The address bits under 30 stay: L2 would walk through what is no table.
    """
    data = ((), (ept(PTE, RWX),), (ept(PTE, 0, 1 << 51),), (ept(PTE, W),))
    for level, place, more in product(range(PML4E, 0, -1), (*range(12), *range(30, 64)), data):
        for user in (False, True):
            set_there = LEAF | (GU if user else 0) if level == PTE else TABLE
            flipped = 1 << place & ~set_there
            patches = [paging(level, 1 << place, flipped), *more]
            # A table that becomes a large page may be L1's memory, which nobody may write
            large = level in (PDE, PDPTE) and 1 << place == BIT_7
            ops = (READ,) if large else RANK_AND_FILE
            s.add("guest-bits", ops, SMALL_PAGE, patches, user=user)


FIRST_PAGES = ((), (ept(PTE, W | X),), (ept(PTE, W),), (ept(PTE, X),), (ept(PTE, RWX),))


def crossing(s: Generated) -> None:
    """Accesses over the end of a page, the second page (and the first) with less than all."""
    for number, target in enumerate(TARGETS):
        for level in target.levels:
            for value in range(LOW_8 + 1) if level == target.leaf else ():
                cross(s, number, [_next(level, LOW_8, value)])
            for one, first in product(DEFECTS, FIRST_PAGES):
                cross(s, number, [_next(level, *one[1:3]), *first])
    for number in range(len(REFUSED)):
        for first in FIRST_PAGES:
            cross(s, len(TARGETS) + number, first)


def _next(level: int, clear: int, bits: int) -> Patch:
    return Patch(EVERYTHING & ~clear, bits, PATCH_NEXT, level)


def cross(s: Generated, second: int, patches: Sequence[Patch]) -> None:
    for op, ad, user in product(RANK_AND_FILE, (0, AD), (False, True)):
        code = op == FETCH
        place = cross_address(second, code, user) + (CROSS_CODE if code else CROSS_DATA)
        flags = ad | (USER if user else 0)
        s.put(Case("crossing", op, place, flags, tuple(patches)))


def string_io(s: Generated) -> None:
    """The memory operand of an I/O instruction, which KVM's emulator reads or writes."""
    for target in TARGETS:
        for level, one in product(target.levels, DEFECTS):
            s.add("string-io", (OUTS, INS), target, [ept(level, *one[1:])])
    for entry, level, one in product(WALK_ENTRIES, range(PML4E, 0, -1), DEFECTS):
        s.add("string-io", (OUTS, INS), WALKED, [walk(entry, level, *one[1:])])
    for split in product(range(RWX + 1), repeat=2):
        patches = [ept(level, RWX, xwr) for level, xwr in zip((PDE, PTE), split)]
        s.add("string-io", (OUTS, INS), SMALL_PAGE, patches)


GROUPS = (
    low_bits,
    rights,
    reserved,
    elsewhere,
    memory_types,
    precedence,
    walk_low_bits,
    walk_rights,
    walk_defects,
    guest_flags,
    guest_bits,
    crossing,
    string_io,
)


def build(count: int | None = None) -> Generated:
    """The scenario with `count` cases (None: all there are), in the order in which L1 runs them."""
    s = Generated()
    landscape(s)
    for group in GROUPS:
        group(s)
    s.finish(count)
    return s


def build_pairs(ad: int, count: int | None = None) -> Generated:
    """A scenario of its own: all low 8 bits of a PDE with all low 8 bits of the PTE under it, EPT's
    flags on (AD) or off.  They are so many that they would crowd the others out of a sample."""
    s = Generated()
    landscape(s)
    for above, leaf in product(range(LOW_8 + 1), repeat=2):
        patches = [ept(PDE, LOW_8, above), ept(PTE, LOW_8, leaf)]
        s.add("pairs", (READ, WRITE, FETCH), SMALL_PAGE, patches, ad=(ad,))
    s.finish(count)
    return s


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Writes a generated scenario for L1.")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE")
    parser.add_argument("--cases", type=int, metavar="N", help="about so many, from every group")
    parser.add_argument("--list-groups", action="store_true", help="the cases of each group")
    parsed = parser.parse_args(arguments)
    scenario = build(parsed.cases)
    if parsed.file is not None:
        parsed.file.write_bytes(scenario.pack())
    if parsed.list_groups:
        for group, number in Counter(case.group for case in scenario.chosen).items():
            print(f"{number:8} {group}")
    print(f"{len(scenario.chosen):8} cases, {len(scenario.patches)} patches")
    return 0


if __name__ == "__main__":
    sys.exit(main())
