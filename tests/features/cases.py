# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases of the second proof: each feature alone, and crossed with rights and flags of EPT.

The landscape is that of tests/guests/generate.py.  features.h says what the numbers are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from tests.guests.generate import (
    RANK_AND_FILE,
    TARGETS,
    WALK_ENTRIES,
    WALKED,
    Case,
    Generated,
    Target,
    landscape,
)
from tests.guests.scenarios import (
    AD,
    DEFECTS,
    EVERYTHING,
    FETCH,
    GA,
    GD,
    PTE,
    READ,
    RWX,
    SUPPRESS_VE,
    USER,
    WRITE,
    Patch,
    R,
    X,
    ept,
    paging,
    walk,
)

PML, PML_FULL, VE, VE_BUSY, MBEC, SPP, SSS, SWITCH, LA57, SHADOW_STACK = (1 << n for n in range(10))
PATCH_SPPT, PATCH_OTHER = 4, 5
PML5E = 5  # as the level of L2's entry whose EPT path a patch is on

A, D = 0x100, 0x200  # flags of EPT entries, which are all set if a case clears none
SOME_RIGHTS = (RWX, R | X, R, X, 0)


@dataclass
class Cases(Generated):
    def each(  # type: ignore[override]
        self,
        group: str,
        features: int,
        ops: Iterable[int],
        target: Target,
        patches: Sequence[Patch] = (),
        flags: int = AD,
        user: bool = False,
    ) -> None:
        """One case an operation; `user`: of user code, at the page that L2 maps for it."""
        for op in ops:
            mode = USER if user else 0
            where = target.address(op, user)
            self.put(Case(group, op, where, flags | mode, tuple(patches), features))


def flag_states(target: Target) -> Iterator[list[Patch]]:
    """Each entry of the path with its accessed flag set and clear, the leaf with the dirty flag."""
    for state in product((0, A), (0, D), repeat=1):
        for others in product((0, A), repeat=len(target.levels) - 1):
            found = [ept(target.leaf, state[0] | state[1])]
            found += [ept(level, bits) for level, bits in zip(target.levels, others) if bits]
            yield [one for one in found if one.keep != EVERYTHING]


# -- page-modification log ----------------------------------------------------------------------


def pml(s: Cases) -> None:
    """Flags on the path of the data, with rights that let the access through, and others."""
    for full, target in product((0, PML_FULL), TARGETS):
        for state, rights in product(flag_states(target), SOME_RIGHTS):
            patches = _with_rights(state, target.leaf, rights)
            s.each(f"pml-{target.name}", PML | full, RANK_AND_FILE, target, patches)
            if rights in (RWX, 0):
                s.each(f"pml-{target.name}", PML | full, (WRITE, FETCH), target, patches, user=True)
            if full:
                s.each(f"pml-{target.name}", PML | full, (WRITE,), target, patches, flags=0)


def _with_rights(state: Sequence[Patch], level: int, rights: int) -> list[Patch]:
    """`state` with the rights of the entry of `level`: one patch an entry."""
    kept = [one for one in state if one.level != level]
    cleared = sum(EVERYTHING & ~one.keep for one in state if one.level == level)
    clear = cleared | (RWX & ~rights)
    return [*kept, *([ept(level, clear)] if clear else [])]


def pml_tables(s: Cases) -> None:
    """Flags of the entries that map L2's tables, where L2's own flags are set, and where not."""
    for full, entry, bits in product((0, PML_FULL), WALK_ENTRIES, (0, A, D, A | D)):
        for rights, clear in product((RWX, R, 0), (0, GA, GA | GD)):
            lost = bits | RWX & ~rights
            patches = [walk(entry, PTE, lost)] if lost else []
            flags = clear if entry == PTE else clear & GA
            patches += [paging(entry, flags)] if flags else []
            for user in (False, True):
                s.each("pml-tables", PML | full, RANK_AND_FILE, WALKED, patches, user=user)
    for entry, level, bits in product(WALK_ENTRIES, range(4, 0, -1), (A, A | D)):
        for full in (0, PML_FULL):
            patches = [walk(entry, level, bits if level == PTE else A)]
            s.each("pml-tables", PML | full, RANK_AND_FILE, WALKED, patches)


# -- EPT-violation #VE --------------------------------------------------------------------------


def ve(s: Cases) -> None:
    """Rights of leaf and directory, with suppress-#VE in either, in both, and in none."""
    for target, leaf, above in product(TARGETS, range(RWX + 1), range(RWX + 1)):
        for place in range(4):
            low = SUPPRESS_VE if place & 1 else 0
            high = SUPPRESS_VE if place & 2 else 0
            patches = [
                ept(target.leaf, RWX, leaf | low),
                ept(target.leaf + 1, RWX, above | high),
            ]
            s.each(f"ve-{target.name}", VE, RANK_AND_FILE, target, patches)
            s.each(f"ve-{target.name}", VE, (READ,), target, patches, flags=0)
            s.each(f"ve-{target.name}", VE | VE_BUSY, (READ, WRITE), target, patches)
            s.each(f"ve-{target.name}", VE, (WRITE, FETCH), target, patches, user=True)


def ve_defects(s: Cases) -> None:
    """Each defect at each level, absent and misconfigured entries among them."""
    for target in TARGETS:
        for level, one, suppress in product(target.levels, DEFECTS, (0, SUPPRESS_VE)):
            clear, bits, beyond = one[1:]
            patches = [ept(level, clear | SUPPRESS_VE, bits & ~SUPPRESS_VE | suppress, beyond)]
            s.each("ve-defects", VE, RANK_AND_FILE, target, patches)
            s.each("ve-defects", VE | PML | PML_FULL, (READ, WRITE), target, patches)


def ve_tables(s: Cases) -> None:
    """From a page walk."""
    for entry, rights, suppress in product(WALK_ENTRIES, range(RWX + 1), (0, SUPPRESS_VE)):
        for busy, flags in product((0, VE_BUSY), (0, AD)):
            patches = [walk(entry, PTE, RWX, rights | suppress)]
            for user in (False, True):
                s.each(
                    *("ve-tables", VE | busy, RANK_AND_FILE, WALKED, patches),
                    flags=flags,
                    user=user,
                )
    for entry, level, suppress in product(WALK_ENTRIES, range(4, 0, -1), (0, SUPPRESS_VE)):
        patches = [walk(entry, level, RWX, suppress)]
        s.each("ve-tables", VE, RANK_AND_FILE, WALKED, patches)


Group = Callable[[Cases], None]
#: By what they need; these two are all that Bochs 2.7 has.
PML_GROUPS: tuple[Group, ...] = (pml, pml_tables)
VE_GROUPS: tuple[Group, ...] = (ve, ve_defects, ve_tables)
GROUPS: tuple[Group, ...] = (*PML_GROUPS, *VE_GROUPS)


def build(count: int | None = None) -> Cases:
    """The scenario with `count` cases (None: all there are), in the order in which L1 runs them."""
    s = Cases()
    landscape(s)
    for group in GROUPS:
        group(s)
    s.finish(count)
    return s
