#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenario: what L1's EPT12 and L2's page tables look like, and every access that L2 tries.

    scenarios.py FILE       writes the file that L1 reads (layout: scenario.h)
    scenarios.py --list     prints the names of the cases

Three kinds of statement, in this order: `region(...)` puts leaves (or one raw entry) into EPT12,
`guest(...)` maps linear addresses to L2 addresses, `case(...)` is one access.  A case may change
entries for its own time: `ept(...)` on the path of its data, `walk(...)` on the EPT path of one of
L2's own paging entries, `paging(...)` in that paging entry itself.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PAGE = 4 * KIB

# EPT entries
R, W, X = 1, 2, 4
RWX = R | W | X
UC, WB = 0 << 3, 6 << 3
IPAT = 1 << 6
BIT_7 = 1 << 7
XU_BIT = 1 << 10
SUPPRESS_VE = 1 << 63
BIT_51 = 1 << 51
IGNORED = 0x57F << 52 | 1 << 11 | XU_BIT  # the bits 62:52, 11 and 10 that no enabled feature uses
RIGHTS_TYPE = 0x3F
EVERYTHING = (1 << 64) - 1

# L2's own paging entries
P, GW, GU, GA, GD, GLARGE, NX = 1, 2, 4, 0x20, 0x40, 0x80, 1 << 63

PTE, PDE, PDPTE, PML4E = 1, 2, 3, 4
LEVELS = {PTE: "pte", PDE: "pde", PDPTE: "pdpte", PML4E: "pml4e"}

LEAF, RAW, ADJUST = 0, 1, 2
NEEDS_EXECUTE_ONLY, NEEDS_1G, NEEDS_AD, NEEDS_WINDOW, NEEDS_VMM, NEEDS_WIDE = 1, 2, 4, 8, 16, 32
READ, WRITE, RMW, FETCH, OUTS, INS = range(6)
OPS = {READ: "read", WRITE: "write", RMW: "rmw", FETCH: "fetch", OUTS: "outs", INS: "ins"}
AD, USER, PARK = 1, 2, 4
PATCH_EPT, PATCH_WALK, PATCH_GUEST, PATCH_NEXT = range(4)

# Where things lie in L1's memory
ARENA, ARENA_END = 14 * MIB, 20 * MIB
CHUNK_A, CHUNK_B = 14 * MIB, 18 * MIB  # targets of 2-MiB leaves; from 16 MiB on L0 has large pages
HOME, HOME_END = 16 * MIB, 16 * MIB + 32 * PAGE
SMALL = 16 * MIB + 128 * KIB  # targets of 4-KiB leaves
TABLES = 16 * MIB + 768 * KIB  # L2's page tables outside of home
WINDOW = 64 * MIB  # a second memory slot
NO_MEMORY = 48 * MIB  # between the slots
READ_ONLY = 0xFFF0_0000  # the read-only slot

# Offsets in a page with a signature (8 bytes at its start, code behind it and at its end)
SCRATCH, CODE, CROSS_DATA, CROSS_CODE = 0x108, 8, 0xFFC, 0xFFE


@dataclass(frozen=True)
class Patch:
    keep: int
    set: int
    space: int
    level: int
    walk: int = 0
    beyond: int = 0

    def pack(self) -> bytes:
        return struct.pack(
            "<QQBBBBI", self.keep, self.set, self.space, self.level, self.walk, self.beyond, 0
        )


@dataclass
class Scenario:
    regions: list[bytes] = field(default_factory=list)
    maps: list[bytes] = field(default_factory=list)
    pages: list[bytes] = field(default_factory=list)
    cases: list[bytes] = field(default_factory=list)
    patches: list[bytes] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    strings: bytearray = field(default_factory=bytearray)
    known_patches: dict[tuple[Patch, ...], int] = field(default_factory=dict)

    def region(
        self,
        l2gpa: int,
        level: int,
        base: int,
        bits: int,
        *,
        count: int = 1,
        kind: int = LEAF,
        needs: int = 0,
        beyond: bool = False,
    ) -> None:
        self.regions.append(
            struct.pack("<QQQIBBBB", l2gpa, base, bits, count, level, kind, needs, beyond)
        )

    def guest(
        self,
        linear: int,
        gpa: int,
        level: int,
        bits: int,
        *,
        count: int = 1,
        tables: tuple[int, int] = (0, 0),
        needs: int = 0,
    ) -> None:
        """Maps in L2's page tables; `tables`: the (L2, L1) address of pages for new tables."""
        self.maps.append(
            struct.pack("<QQQQQIBBH", linear, gpa, bits, *tables, count, level, needs, 0)
        )

    def page(self, l2gpa: int, l1gpa: int, by_l2: bool, needs: int = 0) -> None:
        """A page with a signature; L2 has it at linear = L2 address."""
        self.pages.append(struct.pack("<QQQBB6x", l2gpa, l2gpa, l1gpa, needs, by_l2))

    def case(
        self, name: str, op: int, linear: int, flags: int = 0, needs: int = 0, *patches: Patch
    ) -> None:
        self.names.append(name)
        offset = len(self.strings)
        self.strings += name.encode() + b"\0"
        if patches and patches not in self.known_patches:
            self.known_patches[patches] = len(self.patches)
            self.patches += [p.pack() for p in patches]
        first = self.known_patches.get(patches, 0)
        if flags & AD:
            needs |= NEEDS_AD
        self.cases.append(
            struct.pack("<QIIBBBBI", linear, offset, first, len(patches), op, flags, needs, 0)
        )

    def each(
        self,
        name: str,
        page: int,
        ops: Iterable[int],
        flags: int = 0,
        needs: int = 0,
        patches: Sequence[Patch] = (),
    ) -> None:
        """One case an operation, with and without EPT's accessed and dirty flags."""
        offsets = {READ: 0, WRITE: SCRATCH, RMW: 0, FETCH: CODE, OUTS: 0x40, INS: SCRATCH + 8}
        for ad in (0, AD):
            for op in ops:
                words = [name, OPS[op]] + ["user"] * bool(flags & USER) + ["ad"] * bool(ad)
                self.case("/".join(words), op, page + offsets[op], flags | ad, needs, *patches)

    def pack(self) -> bytes:
        tables = [self.regions, self.maps, self.pages, self.cases, self.patches]
        offset = 8 + 4 * 8 + 6 * 8
        head = b"NEPTSCN1" + struct.pack("<QQQQ", ARENA, ARENA_END, HOME, HOME_END)
        body = b""
        for table in tables:
            head += struct.pack("<II", offset + len(body), len(table))
            body += b"".join(table)
        head += struct.pack("<II", offset + len(body), len(self.strings))
        return head + body + bytes(self.strings)


def ept(level: int, clear: int = 0, set: int = 0, beyond: bool = False) -> Patch:
    return Patch(EVERYTHING & ~clear, set, PATCH_EPT, level, 0, beyond)


def walk(entry: int, level: int, clear: int = 0, set: int = 0, beyond: bool = False) -> Patch:
    """EPT12 as it translates L2's paging entry of level `entry`."""
    return Patch(EVERYTHING & ~clear, set, PATCH_WALK, level, entry, beyond)


def paging(level: int, clear: int = 0, set: int = 0) -> Patch:
    return Patch(EVERYTHING & ~clear, set, PATCH_GUEST, level)


BASIC = (READ, WRITE, RMW, FETCH)
ALL_OPS = (*BASIC, OUTS, INS)

# name, bits, needs, who signs it (None: nobody can)
KINDS: list[tuple[str, int, int, str | None]] = [
    ("rwx", RWX | WB, 0, "l2"),
    ("r", R | WB, 0, "l1"),
    ("rx", R | X | WB, 0, "l1"),
    ("x", X | WB, NEEDS_EXECUTE_ONLY, "l1"),
    ("rw", R | W | WB, 0, "l2"),
    ("rwx-uc", RWX | UC, 0, "l2"),
    ("r-uc", R | UC, 0, "l1"),
    ("rwx-ipat", RWX | WB | IPAT, 0, "l2"),
    ("rwx-ignored", RWX | WB | IGNORED | SUPPRESS_VE, 0, "l2"),
    ("w", W | WB, 0, None),
    ("wx", W | X | WB, 0, None),
    ("type-2", RWX | 2 << 3, 0, None),
    ("type-3", R | 3 << 3, 0, None),
    ("type-7", R | W | 7 << 3, 0, None),
    ("bit-51", RWX | WB | BIT_51, 0, None),
    ("hole", 0, 0, None),
    ("hole-ve", SUPPRESS_VE | 0x38, 0, None),
]

SMALL_GPA = 0x0200_0000  # two 4-KiB pages a kind
LARGE_GPA = 0x1000_0000  # one 2-MiB leaf a kind
HUGE_GPA = 0x4000_0000  # one 1-GiB leaf a kind
USER_SPACE = 0x5000_0000_0000  # linear = this + L2 address, user pages
HIGH = 0xFFFF_9000_0000_0000  # linear addresses like a kernel's
FAR = 0x80_0000_0000  # the second PML4E


def home(s: Scenario) -> None:
    """What L2 lives on, and linear = L2 address for supervisor accesses, in large guest pages."""
    bits = P | GW | GA | GD
    s.region(HOME, PTE, HOME, RWX | WB, count=(HOME_END - HOME) // PAGE)
    s.guest(0, 0, PDE, bits, count=256)
    s.guest(HOME, HOME, PDE, bits | GU)
    s.guest(HUGE_GPA, HUGE_GPA, PDPTE, bits, count=len(KINDS) + 8)


def small_pages(s: Scenario) -> None:
    user = P | GW | GU | GA | GD
    for i, (kind, bits, needs, signer) in enumerate(KINDS):
        name, gpa, base = f"4k-{kind}", SMALL_GPA + i * 2 * PAGE, SMALL + i * 2 * PAGE
        if bits & RIGHTS_TYPE & RWX or bits & BIT_51:
            s.region(gpa, PTE, base, bits, count=2, needs=needs)
        else:
            s.region(gpa, PTE, 0, bits, count=2, kind=RAW)
        for n in range(2 if signer else 0):
            s.page(gpa + n * PAGE, base + n * PAGE, signer == "l2", needs)
        s.guest(USER_SPACE + gpa, gpa, PTE, user, count=2)
        s.each(name, gpa, ALL_OPS, needs=needs)
        s.each(name, USER_SPACE + gpa, BASIC, USER, needs)
        s.each(f"{name}/cross", gpa + CROSS_DATA, (READ, RMW) if signer else (READ,), 0, needs)
    gpa = SMALL_GPA + len(KINDS) * 2 * PAGE
    s.region(gpa, PTE, SMALL, RWX | WB, beyond=True)
    s.each("4k-beyond", gpa, BASIC)


def large_pages(s: Scenario) -> None:
    user = P | GW | GU | GA | GD
    kinds = [
        *KINDS,
        ("low-bit", RWX | WB | 1 << 13, 0, None),
        ("low-bit-20", R | WB | 1 << 20, 0, None),
    ]
    for i, (kind, bits, needs, signer) in enumerate(kinds):
        name, gpa = f"2m-{kind}", LARGE_GPA + i * 2 * MIB
        base = CHUNK_A if kind == "rwx" else CHUNK_B
        if bits & RWX:
            s.region(gpa, PDE, base, bits, needs=needs)
        else:
            s.region(gpa, PDE, 0, bits, kind=RAW)
        for offset in (0, MIB, 2 * MIB - PAGE) if signer else ():
            s.page(gpa + offset, base + offset, signer == "l2", needs)
        s.guest(USER_SPACE + gpa, gpa, PDE, user)
        s.each(name, gpa + MIB, BASIC, needs=needs)
        s.each(name, USER_SPACE + gpa + 2 * MIB - PAGE, (READ, FETCH), USER, needs)
    # A 2-MiB leaf ends, and another begins: RWX, then R.
    s.each("2m-rwx/cross", LARGE_GPA + 2 * MIB - PAGE + CROSS_DATA, (READ, WRITE))


def huge_pages(s: Scenario) -> None:
    kinds = [
        *KINDS,
        ("low-bit", RWX | WB | 1 << 13, 0, None),
        ("low-bit-29", R | WB | 1 << 29, 0, None),
    ]
    user = P | GW | GU | GA | GD
    for i, (kind, bits, needs, signer) in enumerate(kinds):
        name, gpa = f"1g-{kind}", HUGE_GPA + i * GIB
        if bits & RWX:
            s.region(gpa, PDPTE, 0, bits, needs=needs | NEEDS_1G)
        else:
            s.region(gpa, PDPTE, 0, bits, kind=RAW)
        needs |= NEEDS_1G if bits & RWX else 0
        for offset in (SMALL, SMALL + PAGE, CHUNK_A + 2 * MIB - PAGE) if signer else ():
            s.page(gpa + offset, offset, signer == "l2", needs)
        if signer:
            s.page(gpa + WINDOW + PAGE, WINDOW + PAGE, signer == "l2", needs | NEEDS_WINDOW)
        s.guest(USER_SPACE + gpa, gpa, PDPTE, user)
        s.each(name, gpa + SMALL, BASIC, needs=needs)
        s.each(name, USER_SPACE + gpa + SMALL, (WRITE, FETCH), USER, needs)


def window(s: Scenario) -> None:
    """Targets in the other memory slot; none at all; and the read-only slot."""
    gpa = 0x0220_0000
    s.region(gpa, PTE, WINDOW, RWX | WB, count=4, needs=NEEDS_WINDOW)
    s.region(gpa + 4 * PAGE, PTE, WINDOW + 4 * PAGE, R | WB, count=2, needs=NEEDS_WINDOW)
    for n in range(6):
        s.page(gpa + n * PAGE, WINDOW + n * PAGE, n < 4, NEEDS_WINDOW)
    s.each("window-4k-rwx", gpa, BASIC, needs=NEEDS_WINDOW)
    s.each("window-4k-r", gpa + 4 * PAGE, BASIC, needs=NEEDS_WINDOW)
    large = 0x1800_0000
    s.region(large, PDE, WINDOW + 2 * MIB, RWX | WB, needs=NEEDS_WINDOW)
    for offset in (0, MIB, 2 * MIB - PAGE):
        s.page(large + offset, WINDOW + 2 * MIB + offset, True, NEEDS_WINDOW)
    s.each("window-2m-rwx", large, BASIC, needs=NEEDS_WINDOW)

    gpa = 0x0240_0000
    s.region(gpa, PTE, NO_MEMORY, RWX | WB, count=2, needs=NEEDS_VMM)
    s.each("no-memory", gpa, (READ, WRITE, RMW), needs=NEEDS_VMM)
    s.region(gpa + 4 * PAGE, PTE, READ_ONLY, RWX | WB, count=2, needs=NEEDS_VMM)
    for n in range(2):
        s.page(gpa + (4 + n) * PAGE, READ_ONLY + n * PAGE, False, NEEDS_VMM)
    s.each("read-only-slot", gpa + 4 * PAGE, (READ, WRITE, RMW), needs=NEEDS_VMM)


def crossing(s: Scenario) -> None:
    """Accesses over the end of an RWX page (or of one with less) into a page of another kind."""
    first = [("rwx", RWX | WB), ("r", R | WB), ("hole", 0)]
    second = [("r", R | WB), ("rw", R | W | WB), ("w", W | WB), ("hole", 0)]
    gpa, base = 0x0260_0000, SMALL + 256 * KIB
    for a, a_bits in first:
        for b, b_bits in second:
            s.region(gpa, PTE, base if a_bits else 0, a_bits, kind=LEAF if a_bits else RAW)
            s.region(
                gpa + PAGE, PTE, base + PAGE if b_bits else 0, b_bits, kind=LEAF if b_bits else RAW
            )
            if a_bits:
                s.page(gpa, base, False)
            if b_bits & R:
                s.page(gpa + PAGE, base + PAGE, False)
            ops = (READ, RMW) if b == "rw" else (READ, WRITE, RMW)
            for ad in (0, AD):
                tail = "/ad" if ad else ""
                for op in ops:
                    s.case(f"cross-{a}-{b}/{OPS[op]}{tail}", op, gpa + CROSS_DATA, ad)
                s.case(f"cross-{a}-{b}/fetch{tail}", FETCH, gpa + CROSS_CODE, ad)
            gpa += 4 * PAGE
            base += 2 * PAGE


# What can be wrong with one entry: name, bits to clear, bits to set, beyond MAXPHYADDR
DEFECTS: list[tuple[str, int, int, bool]] = [
    ("absent", RWX, 0, False),
    ("r", W | X, 0, False),
    ("rx", W, 0, False),
    ("rw", X, 0, False),
    ("x", R | W, 0, False),
    ("w", R | X, 0, False),
    ("wx", R, 0, False),
    ("bit-51", 0, BIT_51, False),
    ("beyond", 0, 0, True),
    ("type-bits", 0x38, 1 << 4, False),
    ("bit-7", 0, BIT_7, False),
    ("ignored", 0, IGNORED | SUPPRESS_VE, False),
    ("absent-reserved", RWX, BIT_51 | 0x78, False),
]


def one_bad_entry(s: Scenario) -> None:
    """A page with all four levels to itself, and each level broken in each way."""
    base = SMALL + 512 * KIB
    for start, top, needs in ((FAR, PML4E, NEEDS_WIDE), (FAR - GIB, PDPTE, 0)):
        gpa = start + 0x1234_5000
        s.region(gpa, PTE, base, RWX | WB, count=2, needs=needs)
        for n in range(2):
            s.page(gpa + n * PAGE, base + n * PAGE, True, needs)
        s.guest(gpa, gpa, PTE, P | GW | GA | GD, count=2, needs=needs)
        s.each(f"far-{LEVELS[top]}", gpa, ALL_OPS, needs=needs)
        for level in range(top, 0, -1) if top == PML4E else [PDPTE]:
            for name, clear, bits, beyond in DEFECTS:
                only_x = NEEDS_EXECUTE_ONLY if name == "x" else 0
                # Bit 7 makes a leaf out of a PDE or PDPTE whose address has low bits: reserved.
                s.each(
                    f"bad-{LEVELS[level]}{'' if top == PML4E else '-39'}-{name}",
                    gpa,
                    BASIC,
                    needs=needs | only_x,
                    patches=[ept(level, clear, bits, beyond)],
                )
    # Two at once: which one counts?
    gpa = FAR + 0x1234_5000
    both: list[tuple[str, list[Patch]]] = [
        ("pde-r-pte-bit-51", [ept(PDE, W | X), ept(PTE, 0, BIT_51)]),
        ("pde-r-pte-absent", [ept(PDE, W | X), ept(PTE, RWX)]),
        ("pdpte-absent-pte-bit-51", [ept(PDPTE, RWX), ept(PTE, 0, BIT_51)]),
        ("pml4e-rx-pdpte-rw", [ept(PML4E, W), ept(PDPTE, X)]),
    ]
    for name, patches in both:
        s.each(f"two-{name}", gpa, BASIC, needs=NEEDS_WIDE, patches=patches)
    # A table that lies in no memory slot.
    s.each(
        "pte-table-nowhere",
        gpa,
        BASIC,
        needs=NEEDS_WIDE | NEEDS_VMM,
        patches=[ept(PDE, EVERYTHING & ~RWX, NO_MEMORY)],
    )
    s.each(
        "pte-table-nowhere-pde-r",
        gpa,
        BASIC,
        needs=NEEDS_WIDE | NEEDS_VMM,
        patches=[ept(PDE, EVERYTHING & ~R, NO_MEMORY)],
    )


def page_walks(s: Scenario) -> None:
    """L2's own tables where EPT12 does not let the walk pass."""
    data = SMALL_GPA
    tree, tables, tables_l1 = 0x6000_0000_0000, 0x0280_0000, TABLES
    s.region(tables, PTE, tables_l1, RWX | WB, count=3)
    s.guest(tree, data, PTE, P | GW | GU | GA | GD, count=2, tables=(tables, tables_l1))
    s.each("walk", tree, BASIC)
    for entry in (PDPTE, PDE, PTE):
        for name, clear, bits, beyond in DEFECTS:
            needs = NEEDS_EXECUTE_ONLY if name == "x" else 0
            s.each(
                f"walk-{LEVELS[entry]}-{name}",
                tree,
                BASIC,
                needs=needs,
                patches=[walk(entry, PTE, clear, bits, beyond)],
            )
        s.each(
            f"walk-{LEVELS[entry]}-r-accessed-off",
            tree,
            BASIC,
            patches=[walk(entry, PTE, W), paging(entry, GA)],
        )
    s.each("walk-pte-r-dirty-off", tree, BASIC, patches=[walk(PTE, PTE, W), paging(PTE, GD)])
    s.each(
        "walk-all-r-accessed-off",
        tree,
        BASIC,
        patches=[
            walk(PDPTE, PTE, W),
            walk(PDE, PTE, W),
            walk(PTE, PTE, W),
            paging(PDPTE, GA),
            paging(PDE, GA),
            paging(PTE, GA | GD),
        ],
    )
    s.each(
        "walk-pte-absent-data-bit-51",
        tree,
        BASIC,
        patches=[walk(PTE, PTE, RWX), ept(PTE, 0, BIT_51)],
    )

    # For good: a leaf table that L1 keeps write-protected, its flags clear (and set, one page on).
    kept, tables, tables_l1 = 0x6100_0000_0000, 0x0280_4000, TABLES + 4 * PAGE
    s.region(tables, PTE, tables_l1, RWX | WB, count=2)
    s.region(tables + 2 * PAGE, PTE, tables_l1 + 2 * PAGE, R | WB)
    s.guest(kept, data, PTE, P | GW | GU, tables=(tables, tables_l1))
    s.guest(kept + PAGE, data + PAGE, PTE, P | GW | GU | GA | GD, tables=(tables, tables_l1))
    s.guest(kept + 2 * PAGE, data, PTE, P | GW | GU | GA, tables=(tables, tables_l1))
    for name, page in (("clear", 0), ("set", 1), ("accessed", 2)):
        s.each(f"protected-table-{name}", kept + page * PAGE, ALL_OPS)
        s.each(f"protected-table-{name}", kept + page * PAGE, BASIC, USER)


def guest_faults(s: Scenario) -> None:
    """Linear addresses like a kernel's; page faults of L2 itself, before and instead of EPT's."""
    rwx, hole = SMALL_GPA, SMALL_GPA + 2 * PAGE * [k[0] for k in KINDS].index("hole")
    on = P | GW | GA | GD
    pages = [
        ("rwx", rwx, on),
        ("hole", hole, on),
        ("read-only", rwx, on & ~GW),
        ("nx", rwx, on | NX),
        ("read-only-hole", hole, on & ~GW),
        ("nx-hole", hole, on | NX),
        ("absent", rwx, on & ~P),
        ("39-bits", FAR - PAGE, on),
        ("over-40-bits", 1 << 44 | rwx, on),
    ]
    for i, (name, gpa, bits) in enumerate(pages):
        linear = HIGH + i * PAGE
        s.guest(linear, gpa, PTE, bits)
        s.each(f"high-{name}", linear, BASIC)
        s.each(f"high-{name}", linear, (READ,), USER)
    s.guest(HIGH + 0x20_0000, FAR | 0x7F_FFFF_F000, PTE, on)
    s.each("high-40-bits", HIGH + 0x20_0000, BASIC, needs=NEEDS_WIDE)


def build() -> Scenario:
    s = Scenario()
    home(s)
    small_pages(s)
    large_pages(s)
    huge_pages(s)
    window(s)
    crossing(s)
    one_bad_entry(s)
    page_walks(s)
    guest_faults(s)
    write_to_rx = SMALL_GPA + 2 * PAGE * [k[0] for k in KINDS].index("rx")
    s.case("park", WRITE, USER_SPACE + write_to_rx + SCRATCH, AD | USER | PARK)
    return s


def main() -> None:
    scenario = build()
    if sys.argv[1] == "--list":
        print("\n".join(scenario.names))
        return
    with open(sys.argv[1], "wb") as file:
        file.write(scenario.pack())
    print(
        f"{len(scenario.regions)} regions, {len(scenario.maps)} maps, "
        f"{len(scenario.pages)} pages, {len(scenario.cases)} cases"
    )


if __name__ == "__main__":
    main()
