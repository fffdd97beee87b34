# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases of the second proof: each feature alone, and crossed with rights and flags of EPT.

The landscape is that of tests/guests/generate.py.  features.h says what the numbers are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from tests.guests.generate import (
    DATA_TREE,
    LOW_12,
    RANK_AND_FILE,
    SMALL_PAGE,
    TARGETS,
    WALK_ENTRIES,
    WALKED,
    Case,
    Generated,
    Target,
    cross_address,
    landscape,
)
from tests.guests.scenarios import (
    AD,
    CROSS_DATA,
    DEFECTS,
    EVERYTHING,
    FETCH,
    GA,
    GD,
    GW,
    PAGE,
    PATCH_NEXT,
    PDE,
    PML4E,
    PTE,
    READ,
    RMW,
    RWX,
    SMALL_GPA,
    SUPPRESS_VE,
    USER,
    WRITE,
    XU_BIT,
    Patch,
    R,
    W,
    X,
    ept,
    paging,
    walk,
)

PML, PML_FULL, VE, VE_BUSY, MBEC, SPP, SSS, SWITCH, LA57, SHADOW_STACK = (1 << n for n in range(10))
IRET, NMI_BLOCKED, NMI_EXITING, VIRTUAL_NMIS, PML_ONE_LEFT, MOVS = (1 << n for n in range(10, 16))
PATCH_SPPT, PATCH_OTHER = 4, 5
#: What MOVS reads: a page that the scenario must have, if it has such a case.
MMIO_LINEAR, MMIO_GPA = DATA_TREE + 16 * PAGE, SMALL_GPA + 64 * PAGE
PML5E = 5  # as the level of L2's entry whose EPT path a patch is on

A, D = 0x100, 0x200  # flags of EPT entries, which are all set if a case clears none
SSS_BIT, SPP_BIT = 1 << 60, 1 << 61
SUB_PAGE = 128
SUB_PAGE_OFFSETS = (0, 64, 120, 124)  # the last is a write over the end of a sub-page
EVEN = 0x5555_5555_5555_5555  # one bit a sub-page
RESERVED_IN_SPPT = (*range(1, 12), *range(40, 64))
SOME_RIGHTS = (RWX, R | X, R, X, 0)
RIGHTS_MBEC = tuple(rights | user for rights, user in product(range(RWX + 1), (0, XU_BIT)))


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


# -- mode-based execute control -----------------------------------------------------------------


def mbec(s: Cases) -> None:
    """All four rights of leaf and directory, and of every other entry."""
    for target, leaf, above in product(TARGETS, RIGHTS_MBEC, RIGHTS_MBEC):
        patches = [
            ept(target.leaf, RWX | XU_BIT, leaf),
            ept(target.leaf + 1, RWX | XU_BIT, above),
        ]
        executing(s, f"mbec-{target.name}", MBEC, target, patches)
    for target in TARGETS:
        for level, bits, suppress in product(target.levels, RIGHTS_MBEC, (0, SUPPRESS_VE)):
            patches = [ept(level, RWX | XU_BIT, bits | suppress)]
            executing(s, f"mbec-{target.name}", MBEC | VE, target, patches)
            executing(s, f"mbec-{target.name}", MBEC, target, patches, flags=0)


def executing(
    s: Cases, group: str, features: int, target: Target, patches: Sequence[Patch], flags: int = AD
) -> None:
    """Of supervisor and user, and a fetch by the supervisor from a page of the user's."""
    s.each(group, features, RANK_AND_FILE, target, patches, flags)
    s.each(group, features, RANK_AND_FILE, target, patches, flags, user=True)
    where = target.address(FETCH, user=True)
    s.put(Case(group, FETCH, where, flags, tuple(patches), features))


def mbec_flags(s: Cases) -> None:
    """With the flags of the path set and clear, and the log full."""
    for target in TARGETS:
        for state, bits in product(flag_states(target), (R | W | X, R | XU_BIT, R | X, XU_BIT)):
            leaf = [one for one in state if one.level == target.leaf]
            cleared = sum(EVERYTHING & ~one.keep for one in leaf)
            patches = [one for one in state if one.level != target.leaf]
            patches.append(ept(target.leaf, cleared | RWX | XU_BIT, bits))
            executing(s, "mbec-flags", MBEC, target, patches)
            executing(s, "mbec-flags", MBEC | PML | PML_FULL, target, patches)


def mbec_tables(s: Cases) -> None:
    """Of the entries that map L2's tables, which are never executed."""
    for entry, bits, flags in product(WALK_ENTRIES, RIGHTS_MBEC, (0, AD)):
        patches = [walk(entry, PTE, RWX | XU_BIT, bits)]
        executing(s, "mbec-tables", MBEC, WALKED, patches, flags)
        executing(s, "mbec-tables", MBEC | VE, WALKED, patches, flags)


def mbec_low_bits(s: Cases) -> None:
    """All low 12 bits of a small page's leaf, and of an entry above it."""
    for level, value in product((PTE, PDE), range(1 << 12)):
        patches = [ept(level, LOW_12, value | A | D)]
        s.each("mbec-low-bits", MBEC, (READ, FETCH), SMALL_PAGE, patches)
        s.each("mbec-low-bits", MBEC, (WRITE, FETCH), SMALL_PAGE, patches, user=True)


# -- sub-page write permissions ------------------------------------------------------------------


def spp(s: Cases) -> None:
    """Eligible or not, by rights and bit 61 of the leaf, and what the vector says."""
    vectors = (0, 1, 1 << 4, 1 << 62, EVEN, EVEN & ~(1 << 4), 2, EVEN | 1 << 63)
    for rights, above, marked, vector in product(
        range(RWX + 1), (RWX, R | X, R, X), (0, SPP_BIT), vectors
    ):
        patches = [
            ept(PTE, RWX, rights | marked),
            ept(PDE, RWX, above),
            Patch(0, vector, PATCH_SPPT, PTE),
        ]
        ops = RANK_AND_FILE if vector == EVEN else (WRITE, RMW)
        s.each("spp", SPP, ops, SMALL_PAGE, patches)
        s.each("spp", SPP, (WRITE,), SMALL_PAGE, patches, flags=0, user=True)
        s.each("spp", SPP | VE, (WRITE,), SMALL_PAGE, patches)


def spp_places(s: Cases) -> None:
    """Writes all over the page, over the end of a sub-page among them, with each bit alone set and
    alone clear."""
    for number, alone in product(range(32), (False, True)):
        vector = 1 << 2 * number if alone else EVEN & ~(1 << 2 * number)
        patches = (ept(PTE, W, SPP_BIT), Patch(0, vector, PATCH_SPPT, PTE))
        for near, offset in product((-1, 0, 1), SUB_PAGE_OFFSETS):
            where = SMALL_PAGE.linear + (number + near) % 32 * SUB_PAGE + offset
            if where % PAGE in range(16, PAGE - 16):  # not over the signature, nor over code
                s.put(Case("spp-places", WRITE, where, AD, patches, SPP))


def spp_ends(s: Cases) -> None:
    """Over the end of the page into one that may not be written: the first page is judged first."""
    where = cross_address(0, 0, False) + CROSS_DATA
    for vector, first, second in product((0, EVEN, 1 << 62, EVEN - (1 << 62)), (R, RWX), (R, 0)):
        patches = (
            ept(PTE, RWX, first | SPP_BIT),
            Patch(EVERYTHING & ~RWX, second, PATCH_NEXT, PTE),
            Patch(0, vector, PATCH_SPPT, PTE),
        )
        for op, flags in product((WRITE, RMW), (0, AD)):
            s.put(Case("spp-ends", op, where, flags, patches, SPP))


def spp_tables(s: Cases) -> None:
    """Each level of the SPP table: absent, and with each reserved bit."""
    for level in range(4, PTE, -1):
        for bits in (0, *(1 << place for place in RESERVED_IN_SPPT)):
            if bits:
                entry = Patch(EVERYTHING, bits, PATCH_SPPT, level)
            else:
                entry = Patch(EVERYTHING & ~1, 0, PATCH_SPPT, level)
            for rights, features in product((R, R | X, X, RWX), (SPP, SPP | VE)):
                patches = [ept(PTE, RWX, rights | SPP_BIT), entry, Patch(0, EVEN, PATCH_SPPT, PTE)]
                s.each("spp-tables", features, (WRITE, RMW), SMALL_PAGE, patches)
    for place in range(64):
        patches = [ept(PTE, W, SPP_BIT), Patch(0, EVEN | 1 << place, PATCH_SPPT, PTE)]
        s.each("spp-tables", SPP, (WRITE,), SMALL_PAGE, patches)


def spp_flags(s: Cases) -> None:
    """With flags of EPT clear, and the log in force: an allowed write is one as any other."""
    for full, state, vector in product((0, PML_FULL), flag_states(SMALL_PAGE), (EVEN, 0)):
        leaf = [one for one in state if one.level == PTE]
        cleared = sum(EVERYTHING & ~one.keep for one in leaf)
        patches = [one for one in state if one.level != PTE]
        patches += [ept(PTE, cleared | W, SPP_BIT), Patch(0, vector, PATCH_SPPT, PTE)]
        s.each("spp-flags", SPP | PML | full, (READ, WRITE, RMW), SMALL_PAGE, patches)
    # bit 61 of a large leaf, and of L2's tables, means nothing
    for target in TARGETS[1:]:
        patches = [ept(target.leaf, W, SPP_BIT), Patch(0, EVEN, PATCH_SPPT, PTE)]
        s.each("spp-flags", SPP, RANK_AND_FILE, target, patches)
    for entry, clear in product(WALK_ENTRIES, (0, GA)):
        patches = [walk(entry, PTE, W, SPP_BIT), *([paging(entry, clear)] if clear else [])]
        s.each("spp-flags", SPP, RANK_AND_FILE, WALKED, patches)
        s.each("spp-flags", SPP, RANK_AND_FILE, WALKED, patches, flags=0)


# -- EPTP switching -----------------------------------------------------------------------------


def switching(s: Cases) -> None:
    """VMFUNC to an EPT whose PML4E is another one, right before the access."""
    for target, other, leaf in product(TARGETS, range(RWX + 1), SOME_RIGHTS):
        patches = [Patch(EVERYTHING & ~RWX, other, PATCH_OTHER, PML4E), ept(target.leaf, RWX, leaf)]
        for features in (SWITCH, SWITCH | VE, SWITCH | PML, SWITCH | PML | PML_FULL):
            switched(s, features, target, patches)
        switched(s, SWITCH, target, patches, flags=0)
        switched(s, SWITCH, target, patches, user=True)
    for place in (3, 5, 7, 11, *range(40, 64)):  # reserved, and ignored
        patches = [Patch(EVERYTHING, 1 << place, PATCH_OTHER, PML4E)]
        switched(s, SWITCH, SMALL_PAGE, patches)
    for level, one in product(range(1, 4), DEFECTS):
        # what the EPT switched from refuses at its own PML4E does not count
        patches = [ept(PML4E, RWX), ept(level, *one[1:])]
        switched(s, SWITCH, SMALL_PAGE, patches)
        switched(s, SWITCH | VE, SMALL_PAGE, patches)


def switched(
    s: Cases,
    features: int,
    target: Target,
    patches: Sequence[Patch],
    flags: int = AD,
    user: bool = False,
) -> None:
    s.each("switching", features, (READ, WRITE, FETCH), target, patches, flags, user)


# -- supervisor shadow stacks -------------------------------------------------------------------

#: L2's own leaf of a shadow-stack page: read-only and dirty.
SHADOW = paging(PTE, GW)


def shadow_stacks(s: Cases) -> None:
    """EPTP bit 7 in force: bit 60 of the leaf, its rights, and those of the entry above."""
    for target, leaf, above, marked in product(
        TARGETS, range(RWX + 1), (RWX, R | X, X, RWX & ~X, 0), (0, SSS_BIT)
    ):
        patches = [ept(target.leaf, RWX, leaf | marked), ept(target.leaf + 1, RWX, above)]
        shadow_and_others(s, SSS, target, patches)
        shadow_and_others(s, SSS, target, patches, flags=0)
        shadow_and_others(s, SSS | VE, target, patches)
    for level, one in product(range(PML4E, 0, -1), DEFECTS):
        patches = [ept(level, one[1], one[2] | (SSS_BIT if level == PTE else 0), one[3])]
        if level > PTE:
            patches.append(ept(PTE, 0, SSS_BIT))
        shadow_and_others(s, SSS, SMALL_PAGE, patches)


def shadow_and_others(
    s: Cases, features: int, target: Target, patches: Sequence[Patch], flags: int = AD
) -> None:
    """A read and a write of the shadow stack, and accesses that are none."""
    stack = [*patches, SHADOW]
    s.each("shadow-stacks", features | SHADOW_STACK, (READ, WRITE), target, stack, flags)
    s.each("shadow-stacks", features, RANK_AND_FILE, target, patches, flags)
    s.each("shadow-stacks", features, (READ, WRITE), target, patches, flags, user=True)


def shadow_flags(s: Cases) -> None:
    """Flags on the path of a shadow stack, and the log."""
    for full, target in product((0, PML_FULL), TARGETS):
        for state, leaf in product(flag_states(target), (RWX, R)):
            lost = [one for one in state if one.level == target.leaf]
            cleared = sum(EVERYTHING & ~one.keep for one in lost)
            patches = [one for one in state if one.level != target.leaf]
            patches.append(ept(target.leaf, cleared | RWX, leaf | SSS_BIT))
            features = SSS | SHADOW_STACK | PML | full
            s.each("shadow-flags", features, (READ, WRITE), target, [*patches, SHADOW])
    for entry, rights, suppress in product(WALK_ENTRIES, range(RWX + 1), (0, SUPPRESS_VE)):
        patches = [walk(entry, PTE, RWX, rights | suppress), SHADOW]
        for features, flags in product((SSS, SSS | VE), (0, AD)):
            s.each("shadow-flags", features | SHADOW_STACK, (READ, WRITE), WALKED, patches, flags)


# -- five levels of L2's own paging -------------------------------------------------------------


def la57(s: Cases) -> None:
    """L2 walks one table more: of the data, of each of its tables, and of the fifth level's."""
    for target, leaf, above in product(TARGETS, range(RWX + 1), range(RWX + 1)):
        patches = [ept(target.leaf, RWX, leaf), ept(target.leaf + 1, RWX, above)]
        for features, flags in ((LA57, AD), (LA57, 0), (LA57 | VE, AD), (LA57 | MBEC, AD)):
            s.each("la57", features, RANK_AND_FILE, target, patches, flags)
            s.each("la57", features, (WRITE, FETCH), target, patches, flags, user=True)
    for entry, rights, flags in product(WALK_ENTRIES, range(RWX + 1), (0, AD)):
        for features, clear in product((LA57, LA57 | VE), (0, GA)):
            patches = [walk(entry, PTE, RWX, rights), *([paging(entry, clear)] if clear else [])]
            s.each("la57-tables", features, RANK_AND_FILE, WALKED, patches, flags)
            s.each("la57-tables", features, (READ, FETCH), WALKED, patches, flags, user=True)


def la57_top(s: Cases) -> None:
    """All low bits of the leaf that maps L2's PML5, which only a fetch gets as far as."""
    for value, features, flags in product(range(1 << 12), (LA57, LA57 | VE), (0, AD)):
        patches = [walk(PML5E, PTE, LOW_12, value)]
        s.each("la57-top", features, (FETCH,), SMALL_PAGE, patches, flags)
        s.each("la57-top", features, (FETCH,), WALKED, patches, flags, user=True)
    for target, value, full in product(TARGETS, (0, A, D, A | D), (0, PML_FULL)):
        patches = [walk(PML5E, PTE, value)] if value else []
        s.each("la57-top", LA57 | PML | full, RANK_AND_FILE, target, patches)


# -- IRET, and what it does to the blocking of NMIs ---------------------------------------------

#: What L1 has asked for; with NMI exiting alone bit 12 is not defined (SDM 30.2.3).
NMIS = (0, NMI_BLOCKED, VIRTUAL_NMIS | NMI_EXITING, NMI_BLOCKED | VIRTUAL_NMIS | NMI_EXITING)
NMIS_UNDEFINED = (NMI_BLOCKED | NMI_EXITING, NMI_EXITING)


def iret(s: Cases) -> None:
    """Each kind of exit that an IRET makes when it reads its stack: where the access would go
    through there is no case, since L2 has no frame there."""
    for target, nmis, user in product(TARGETS, (*NMIS, *NMIS_UNDEFINED), (False, True)):
        for level, one in product(target.levels, DEFECTS):
            if _refuses_reads(one, level):
                for features, flags in ((0, AD), (0, 0), (VE, AD), (PML | PML_FULL, AD)):
                    patches = [ept(level, *one[1:])]
                    whole = IRET | nmis | features
                    s.each(f"iret-{target.name}", whole, (READ,), target, patches, flags, user)
    for entry, nmis, rights in product(WALK_ENTRIES, (*NMIS, *NMIS_UNDEFINED), (0, X, R | X)):
        for features, flags in ((0, AD), (0, 0), (VE, AD)):
            if rights & R and not flags:
                continue  # that walk only reads
            patches = [walk(entry, PTE, RWX, rights)]
            s.each("iret-tables", IRET | nmis | features, (READ,), WALKED, patches, flags)
    for entry, nmis in product(WALK_ENTRIES, (*NMIS, *NMIS_UNDEFINED)):
        full = IRET | nmis | PML | PML_FULL
        s.each("iret-full", full, (READ,), WALKED, [walk(entry, PTE, D)])
    # the first dirty flag takes the last entry of the log, so that the second finds it full
    for (above, below), nmis in product(combinations(WALK_ENTRIES, 2), (*NMIS, *NMIS_UNDEFINED)):
        patches = [walk(above, PTE, D), walk(below, PTE, D)]
        s.each("iret-full", IRET | nmis | PML | PML_ONE_LEFT, (READ,), WALKED, patches)


def _refuses_reads(one: tuple[str, int, int, bool], level: int) -> bool:
    """A defect of DEFECTS with which an entry of this level is no way to read."""
    name, clear, _, _ = one
    if name in ("bit-51", "beyond", "absent-reserved"):
        return True
    if name == "type-bits" and level == PTE:
        return True
    return bool(clear & R)


Group = Callable[[Cases], None]
#: By what they need; these two are all that Bochs 2.7 has.
PML_GROUPS: tuple[Group, ...] = (pml, pml_tables)
VE_GROUPS: tuple[Group, ...] = (ve, ve_defects, ve_tables)
MBEC_GROUPS: tuple[Group, ...] = (mbec, mbec_flags, mbec_tables, mbec_low_bits)
SPP_GROUPS: tuple[Group, ...] = (spp, spp_places, spp_ends, spp_tables, spp_flags)
OTHER_GROUPS: tuple[Group, ...] = (switching, shadow_stacks, shadow_flags)
GROUPS: tuple[Group, ...] = (*PML_GROUPS, *VE_GROUPS, *MBEC_GROUPS, *SPP_GROUPS, *OTHER_GROUPS)

#: All that a KVM offers to L1: vmx/nested.c nested_vmx_setup_secondary_ctls().  #VE, sub-page
#: permissions and EPTP bit 7 are offered by none, MBEC from 7.2 on.
KVM_GROUPS: tuple[Group, ...] = (*PML_GROUPS, *MBEC_GROUPS, switching, iret)

#: A scenario of their own: L1 then has five levels, too.
LA57_GROUPS: tuple[Group, ...] = (la57, la57_top)


def build(count: int | None = None, groups: Sequence[Group] = GROUPS) -> Cases:
    """The scenario with `count` cases (None: all there are), in the order in which L1 runs them."""
    s = Cases()
    landscape(s)
    for group in groups:
        group(s)
    s.finish(count)
    return s
