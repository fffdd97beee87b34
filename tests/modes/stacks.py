# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases with shadow stacks on in L2: accesses to them, of the supervisor and of the user, and
usual ones to their pages.

CR4.CET needs CR0.WP.  A page of a shadow stack has R/W clear and the dirty flag set in its leaf,
and R/W set in every entry above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from tests.guests.scenarios import DEFECTS
from tests.modes.landscape import FIVE, FOUR, PAE, PAGED_32, RW, RWX, US, A, D, Target
from tests.modes.maker import Change, Maker, in_memory
from tests.modes.scenario import (
    CR4_PKE,
    CR4_PKS,
    FETCH,
    READ,
    RMW,
    STACK_OPS,
    STACK_WRITE_USER,
    WRITE,
    Mode,
)

PAGINGS = (PAGED_32, PAE, FOUR, FIVE)
RIGHTS = (0, RW, US, RW | US)
FLAGS = (0, A, D, A | D)
LARGE_SIZES = (2, 3)  # levels of EPT12
KEY, KEY_AT, EVERY_KEY = 5, 59, 0x5555_5555


def plain(paging: str) -> list[Mode]:
    return [Mode(paging, cpl, stacks=True) for cpl in (0, 3)]


def guarded(paging: str) -> list[Mode]:
    """With SMEP and SMAP, which AC lifts or not; a user knows neither."""
    lifted = [Mode(paging, smep=True, smap=True, ac=ac, stacks=True) for ac in (False, True)]
    return [*plain(paging), *lifted]


def ops(mode: Mode) -> Iterator[int]:
    """A user has no WRUSS."""
    yield from (READ, WRITE, RMW, FETCH)
    yield from (one for one in STACK_OPS if mode.cpl == 0 or one != STACK_WRITE_USER)


def put(s: Maker, group: str, mode: Mode, target: Target, changes: Sequence[Change]) -> None:
    for op in ops(mode):
        s.put(group, mode, op, target, changes, ad_of(mode, op))


def ad_of(mode: Mode, op: int) -> bool:
    """EPT's flags are on for every other operation: of the supervisor for the one half, of the user
    for the other."""
    return (op + mode.cpl) % 2 == 1


def at_stack(s: Maker, target: Target) -> Iterator[tuple[Mode, int, Change]]:
    """Each access with the leaf as one of a shadow stack that it may use."""
    leaf = in_memory(target)[-1]
    for mode in plain(target.paging):
        for op in ops(mode):
            user = US if mode.cpl == 3 or op == STACK_WRITE_USER else 0
            yield mode, op, s.guest(leaf, RW | US | D | A, D | A | user)


def pages(target: Target) -> list[int]:
    return [entry.table.gpa for entry in in_memory(target)] + [target.data.gpa]


def leaf_rights(s: Maker) -> None:
    """All rights and flags of the leaf, with all rights of one entry above it."""
    for target in s.targets(*PAGINGS):
        *above, leaf = in_memory(target)
        for mode, mine, bits in product(guarded(target.paging), RIGHTS, FLAGS):
            change = s.guest(leaf, RW | US | A | D, mine | bits)
            put(s, "stack-rights", mode, target, [change])
            for entry, other in product(above, RIGHTS[:-1]):
                put(s, "stack-rights", mode, target, [change, s.guest(entry, RW | US, other)])


def each_bit(s: Maker) -> None:
    """Each bit of each entry alone the other way round."""
    for target in s.targets(*PAGINGS):
        for (mode, op, stack), entry in product(at_stack(s, target), in_memory(target)):
            value = s.land.value(entry.address or 0)
            if entry.leaf:
                value = value & ~stack.clear | stack.set
            for place in range(8 * entry.size):
                bit = 1 << place
                change = s.guest(entry, bit, bit & ~value)
                s.put("stack-bits", mode, op, target, [stack, change], ad_of(mode, op))


def ept_defects(s: Maker) -> None:
    """Each defect of EPT12 on the way to each table and to the stack, and all rights of its
    leaves."""
    for target in s.targets(*PAGINGS):
        for (mode, op, stack), gpa in product(at_stack(s, target), pages(target)):
            broken = [s.broken(gpa, *one) for one in product(range(4, 0, -1), DEFECTS)]
            kept = [s.ept(gpa, level, RWX, one) for level, one in product((2, 1), range(RWX + 1))]
            for change in (*broken, *kept):
                s.put("stack-ept", mode, op, target, [stack, change], ad_of(mode, op))


def large_leaves(s: Maker) -> None:
    """Large leaves of EPT12 with all rights under each table and the stack."""
    for target in s.targets(*PAGINGS, large=True):
        for (mode, op, stack), gpa in product(at_stack(s, target), pages(target)):
            for level, kept in product(LARGE_SIZES, range(RWX + 1)):
                changes = [stack, s.large(gpa, level), s.ept(gpa, level, RWX, kept)]
                on_large = replace(mode, large=True)
                s.put("stack-large", on_large, op, target, changes, ad_of(mode, op))


def flags(s: Maker) -> None:
    """Accessed flags that must be set first, with rights of EPT12 for one of the tables."""
    for target in s.targets(*PAGINGS):
        entries = in_memory(target)
        for (mode, op, stack), state in product(
            at_stack(s, target), product((0, A), repeat=len(entries))
        ):
            cleared = [stack, *(s.guest(one, bits) for one, bits in zip(entries, state) if bits)]
            s.put("stack-flags", mode, op, target, cleared, ad_of(mode, op))
            for entry, lacking in product(entries, (2, 4, 7)):
                table = s.ept(entry.table.gpa, 1, lacking)
                s.put("stack-flags", mode, op, target, [*cleared, table], ad_of(mode, op))


def keys(s: Maker) -> None:
    """Protection keys, which shadow stacks know too."""
    for target in s.targets(FOUR, FIVE):
        if "high" in target.name or "upper" in target.name:
            continue
        leaf = in_memory(target)[-1]
        for mode, on, mine in product(plain(target.paging), (CR4_PKE, CR4_PKS), range(4)):
            value = EVERY_KEY * 3 & ~(3 << 2 * KEY) | mine << 2 * KEY
            for pkru, pkrs in ((value, 0), (0, value)):
                with_keys = replace(mode, keys=on, pkru=pkru, pkrs=pkrs)
                for rights in RIGHTS:
                    change = s.guest(leaf, RW | US, rights | KEY << KEY_AT)
                    put(s, "stack-keys", with_keys, target, [change])


GROUPS = (leaf_rights, each_bit, ept_defects, large_leaves, flags, keys)
