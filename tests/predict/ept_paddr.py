# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix of kvm-unit-tests' ept_access_test_paddr_* (x86/vmx_tests.c): EPT's rights
to the page that holds an entry of L2's, the flags of that entry, and the access that needs it.

TRIPLES are what those tests ask for.  What must come of every combination is computed here over
plain numbers, from SDM vol. 3, June 2026: 31.3.3.2 (rights), 31.3.5 (with accessed and dirty flags
every access to a paging-structure entry is a write), 5.8 (when the flags of the guest's own entry
are set) and table 30-7.  Nothing of the program takes part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from tests.predict.ept_access import LINEAR, MISCONFIG, READ, VIOLATION, WRITE, R, W, X

XU, WB, LARGE = 1 << 10, 6 << 3, 1 << 7
ACCESSED, DIRTY = 1 << 5, 1 << 6  # of a guest's entry
PRESENT = 7  # of a guest's entry: present, writable, user
ROOT, GUEST_ROOT, PTE, DATA, LARGE_PAGE = 0x1000, 0x200000, 0x10000, 0x300000, 0x200000
OPS = ("read", "write", "fetch", "user fetch")


@dataclass(frozen=True)
class Triple:
    """EPT's `rights` to the page of the entry, the entry's `flags`, and `op`; besides, whether EPT
    has accessed and dirty flags of its own, and MBEC."""

    rights: int
    flags: int
    op: str
    ept_flags: bool
    mbec: bool = False

    @property
    def updates(self) -> bool:
        """Whether the processor must set a flag of the entry."""
        clear = ~self.flags & (ACCESSED | (DIRTY if self.op == "write" else 0))
        return bool(clear)

    @property
    def due(self) -> tuple[int | None, int, int]:
        """Reason, qualification, and which of its bits the manual leaves open; reason None if the
        entry can be read, and written where it must be."""
        if self.rights & (R | W) == W:
            return MISCONFIG, 0, 0
        entry = (self.rights & 7) << 3 | (1 << 6 if self.mbec and self.rights & XU else 0) | LINEAR
        kinds = [READ | WRITE] if self.ept_flags else [READ, *([READ | WRITE] * self.updates)]
        for kind in kinds:
            if kind & ~self.rights:
                open_ = READ if kind & WRITE and not self.ept_flags else 0  # footnote 1
                return VIOLATION, kind | entry, open_
        return None, 0, 0

    @property
    def eptp(self) -> int:
        return ROOT | 3 << 3 | 6 | (1 << 6 if self.ept_flags else 0)

    @property
    def words(self) -> dict[int, int]:
        """EPT12 that maps all to itself, PTE's page alone by a page of 4 KBytes, and L2's tables
        for linear address 0."""
        every = R | W | X | XU
        guest = [GUEST_ROOT, GUEST_ROOT + 0x1000, GUEST_ROOT + 0x2000, PTE, DATA]
        ept = {
            ROOT: 0x2000 | every,
            0x2000: 0x3000 | every,
            0x3000: 0x4000 | every,
            0x3008: LARGE_PAGE | every | WB | LARGE,
            0x4000 + (PTE >> 9): PTE | self.rights | WB,
        }
        links = {here: there | PRESENT | ACCESSED for here, there in zip(guest, guest[1:])}
        return {**ept, **links, PTE: DATA | PRESENT | self.flags}


def triples() -> Iterator[Triple]:
    flags = (0, ACCESSED, ACCESSED | DIRTY)
    for rights, of_entry, op, own in product(range(8), flags, OPS, (False, True)):
        yield Triple(rights, of_entry, op, own)
        yield Triple(rights | (XU if rights & X else 0), of_entry, op, own, mbec=True)


READ_ONLY, READ_EXECUTE = READ | WRITE | R << 3, READ | WRITE | (R | X) << 3
BOTH = ACCESSED | DIRTY

#: Those of the tests, less LINEAR, which each violation has: by rights, EPT's own flags and the
#: entry's, for a read, a write and a fetch; None where it is to go through.
TRIPLES: dict[tuple[int, bool, int], tuple[int | None, int | None, int | None]] = {
    (0, False, BOTH): (READ, READ, READ),
    (0, True, BOTH): (READ | WRITE, READ | WRITE, READ | WRITE),
    (R, False, 0): (READ_ONLY, READ_ONLY, READ_ONLY),
    (R, False, ACCESSED): (None, READ_ONLY, None),
    (R, False, BOTH): (None, None, None),
    (R, True, 0): (READ_ONLY, READ_ONLY, READ_ONLY),
    (R, True, ACCESSED): (READ_ONLY, READ_ONLY, READ_ONLY),
    (R, True, BOTH): (READ_ONLY, READ_ONLY, READ_ONLY),
    (R | W, False, 0): (None, None, None),
    (R | W, True, 0): (None, None, None),
    (R | W | X, False, 0): (None, None, None),
    (R | W | X, True, 0): (None, None, None),
    (R | X, False, 0): (READ_EXECUTE, READ_EXECUTE, READ_EXECUTE),
    (R | X, False, ACCESSED): (None, READ_EXECUTE, None),
    (R | X, False, BOTH): (None, None, None),
    (R | X, True, 0): (READ_EXECUTE, READ_EXECUTE, READ_EXECUTE),
    (R | X, True, ACCESSED): (READ_EXECUTE, READ_EXECUTE, READ_EXECUTE),
    (R | X, True, BOTH): (READ_EXECUTE, READ_EXECUTE, READ_EXECUTE),
}
