# SPDX-License-Identifier: GPL-2.0-or-later
"""L2's tables in every paging mode, and the EPT12 that maps them, as words of L1's memory.

Each table of L2's has an EPT path of its own from the page directory down, by its level; so have
the code that makes the accesses, with tables of its own, and the data.  So an entry of EPT12 can
be broken for one step of an access alone, except for L2's top table, which code and data share.

What is called large (large_landscape.py) has a block of 1 GByte for each level instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

PAGE, MIB, GIB = 1 << 12, 1 << 20, 1 << 30
ARENA = 16 * MIB  # L1's RAM, under KVM too; behind it is the log
ARENA_PAGES = 64

# L2 physical addresses.  Data is the same place in a 4-KByte, 2-MByte, 4-MByte and 1-GByte page.
CODE = 2 * MIB
CODE_TABLES = 4 * MIB
LOW = 0x4060_3000
HIGH = 0x80_4060_3000  # what a 4-MByte page can reach with PSE-36; under EPT12's second PML4E
DECOY = 0x4060_5000
TABLES = 0x8000_0000  # and 2 MiB for each level
LARGE = "large-"  # before the names of what can be under large leaves
LARGE_LOW, LARGE_HIGH = 0x8000_0000, 0x80_8000_0000  # blocks of 1 GByte

P, RW, US, A, D, PS = 1, 2, 4, 0x20, 0x40, 0x80
XD = 1 << 63
TABLE = P | RW | US | A
LEAF = TABLE | D
RWX, WB = 7, 0x30
BIT_32 = 32
PSE_36 = 13  # where a 4-MByte page's entry has address bits from 32 on

UNPAGED, PAGED_32, PAE, FOUR, FIVE = "unpaged", "32-bit", "PAE", "4-level", "5-level"
INDEX_BITS = {PAGED_32: 10, PAE: 9, FOUR: 9, FIVE: 9}
TOP = {PAGED_32: 2, PAE: 3, FOUR: 4, FIVE: 5}
ENTRY_SIZE = {PAGED_32: 4, PAE: 8, FOUR: 8, FIVE: 8}


@dataclass(frozen=True)
class Place:
    """A page: where L2 has it, and where it lies in L1."""

    gpa: int
    l1: int


@dataclass(frozen=True)
class GuestEntry:
    """An entry of L2's on the way to a target.  `address` is L1's; None for a PDPTE register."""

    level: int
    table: Place
    address: int | None
    size: int
    leaf: bool


@dataclass(frozen=True)
class Target:
    """A linear address, L2's own entries for it from the top, and the page that they lead to."""

    name: str
    paging: str
    linear: int
    entries: tuple[GuestEntry, ...]
    data: Place

    @property
    def large(self) -> bool:
        """Whether it, and L2's tables on the way, can be under large leaves of EPT12."""
        return self.name.startswith(LARGE)


@dataclass
class Landscape:
    words: dict[int, tuple[int, int]] = field(default_factory=dict)  # L1 address: value, size
    used: int = 0
    places: dict[str, Place] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    roots: dict[str, Place] = field(default_factory=dict)
    eptp: int = 0
    pdptes: tuple[int, ...] = ()
    large_pdptes: tuple[int, ...] = ()

    def page(self) -> int:
        self.used += 1
        assert self.used <= ARENA_PAGES
        return ARENA + (self.used - 1) * PAGE

    def put(self, address: int, value: int, size: int = 8) -> None:
        assert value >> 8 * size == 0
        self.words[address] = value, size

    def value(self, address: int) -> int:
        return self.words[address][0]

    # -- EPT12 ----------------------------------------------------------------------------------

    def ept_path(self, gpa: int) -> tuple[int, ...]:
        """The L1 addresses of EPT12's four entries for `gpa`, top level first; they must exist."""
        table, found = self.eptp & ~(PAGE - 1), []
        for level in range(4, 0, -1):
            found.append(table + 8 * (gpa >> 12 + 9 * (level - 1) & 511))
            if level > 1:
                table = self.value(found[-1]) & ~(PAGE - 1)
        return tuple(found)

    def map(self, gpa: int, page: int | None = None) -> Place:
        """A page at `gpa`: this one, or a new one."""
        table = self.eptp & ~(PAGE - 1)
        for level in range(4, 1, -1):
            entry = table + 8 * (gpa >> 12 + 9 * (level - 1) & 511)
            if entry not in self.words:
                self.put(entry, self.page() | RWX)
            table = self.value(entry) & ~(PAGE - 1)
        place = Place(gpa, self.page() if page is None else page)
        self.put(table + 8 * (gpa >> 12 & 511), place.l1 | WB | RWX)
        return place

    # -- L2's tables ----------------------------------------------------------------------------

    def table(self, name: str, level: int, code: bool = False) -> Place:
        """The table of this name, made if it is not there."""
        if name not in self.places and name.startswith(LARGE):
            page = self.page()
            self.places[name] = self.map(_large_block(level) + page, page)
        elif name not in self.places:
            block = CODE_TABLES if code else TABLES + level * 2 * MIB
            self.places[name] = self.map(block + len(self.places) * PAGE)
        return self.places[name]

    def target(
        self, name: str, paging: str, linear: int, tables: tuple[str, ...], leaf: int, data: Place
    ) -> Target:
        """Maps `linear` by the tables of these names, top level first, with the last entry
        `leaf`."""
        top, size, code = TOP[paging], ENTRY_SIZE[paging], data.gpa == CODE
        entries = []
        for number, table_name in enumerate(tables):
            level, last = top - number, number == len(tables) - 1
            table = self.table(table_name, level, code)
            width = INDEX_BITS[paging]
            index = linear >> 12 + width * (level - 1) & (1 << width) - 1
            if paging == PAE and level == top:
                index &= 3
            address = table.l1 + size * index
            value = leaf
            if not last:
                below = self.table(tables[number + 1], level - 1, code).gpa
                value = below | (P if paging == PAE and level == top else TABLE)
            if self.words.setdefault(address, (value, size)) != (value, size):
                raise ValueError(f"{name}: another entry of level {level} is there")
            register = paging == PAE and level == top
            entries.append(GuestEntry(level, table, None if register else address, size, last))
        found = Target(name, paging, linear, tuple(entries), data)
        self.targets[name] = found
        return found

    def signed(self) -> Iterator[int]:
        """The pages with a signature, which lie one after the other."""
        for name in ("low", "high", "decoy"):
            yield self.places[name].l1


def _large_block(level: int) -> int:
    """The L2 address of the block that tables of a level lie in; below 4 GBytes those of which
    32-bit paging has some."""
    return {1: 3, 2: 1}.get(level, 16 + level) * GIB


def usual() -> Landscape:
    s = Landscape()
    pages = [s.page() for _ in range(4)]  # the code, and the pages with a signature
    s.eptp = s.page() | 6 | 3 << 3
    for name, gpa, page in zip(("code", "low", "high", "decoy"), (CODE, LOW, HIGH, DECOY), pages):
        s.places[name] = s.map(gpa, page)
    for each in (_without_paging, _paged_32, _pae, _four_levels, _five_levels):
        each(s)
    return s


def _without_paging(s: Landscape) -> None:
    for name in ("low", "decoy"):
        data = s.places[name]
        s.targets[f"unpaged-{name}"] = Target(f"unpaged-{name}", UNPAGED, data.gpa, (), data)


def put_code(s: Landscape, paging: str, tables: tuple[str, ...], prefix: str = "") -> None:
    """The code for the supervisor, and a page on, for user code."""
    for name, linear, user in (("code", PAGE, 0), ("code-user", 2 * PAGE, US)):
        leaf = CODE | LEAF & ~US | user
        s.target(f"{prefix}{paging}-{name}", paging, linear, tables, leaf, s.places["code"])


def _paged_32(s: Landscape) -> None:
    low, high = s.places["low"], s.places["high"]
    s.roots[PAGED_32] = s.table("pd32", 2)
    base, offset = LOW & ~(4 * MIB - 1), LOW & 4 * MIB - 1
    s.target("32-4k", PAGED_32, 4 * MIB + offset, ("pd32", "pt32"), LOW | LEAF, low)
    s.target("32-4m", PAGED_32, 8 * MIB + offset, ("pd32",), base | LEAF | PS, low)
    beyond = HIGH >> BIT_32 << PSE_36
    s.target("32-pse36", PAGED_32, 12 * MIB + offset, ("pd32",), base | beyond | LEAF | PS, high)
    put_code(s, PAGED_32, ("pd32", "pt32-code"))


def _pae(s: Landscape) -> None:
    """CR3 points to PDPTEs that differ from the registers: by them the same addresses lead to the
    decoy."""
    low, high, decoy = s.places["low"], s.places["high"], s.places["decoy"]
    s.roots[PAE] = s.table("pdpt-pae", 3)
    put_code(s, PAE, ("pdpt-pae", "pd-pae-code", "pt-pae-code"))
    large_low, large_high = LOW & ~(2 * MIB - 1), HIGH & ~(2 * MIB - 1)
    offset, names = LOW & 2 * MIB - 1, ("pdpt-pae", "pd-pae", "pt-pae")
    s.target("pae-4k", PAE, GIB + 2 * MIB + 3 * PAGE, names, LOW | LEAF, low)
    s.target("pae-4k-high", PAE, GIB + 2 * MIB + 4 * PAGE, names, HIGH | LEAF, high)
    s.target("pae-2m", PAE, GIB + 4 * MIB + offset, names[:2], large_low | LEAF | PS, low)
    s.target("pae-2m-high", PAE, GIB + 6 * MIB + offset, names[:2], large_high | LEAF | PS, high)
    s.pdptes = tuple(s.words.get(s.roots[PAE].l1 + 8 * n, (0, 8))[0] for n in range(4))
    # what is in memory instead
    pd, pt = s.table("pd-decoy", 2), s.table("pt-decoy", 1)
    s.put(s.roots[PAE].l1 + 8, pd.gpa | P)
    for index in (1, 2, 3):
        s.put(pd.l1 + 8 * index, pt.gpa | TABLE)
    for index in (3, 4):
        s.put(pt.l1 + 8 * index, decoy.gpa | LEAF)


def _four_levels(s: Landscape) -> None:
    s.roots[FOUR] = s.table("pml4", 4)
    put_code(s, FOUR, ("pml4", "pdpt-code", "pd-code", "pt-code"))
    put_long(s, FOUR, "4", 1 << 39, ("pml4", "pdpt", "pd", "pt"))
    upper = 0xFFFF_8000_0000_0000 + GIB + 2 * MIB + 3 * PAGE  # the other half of the addresses
    names = ("pml4", "pdpt", "pd", "pt")
    s.target("4-4k-upper", FOUR, upper, names, LOW | LEAF, s.places["low"])


def _five_levels(s: Landscape) -> None:
    s.roots[FIVE] = s.table("pml5", 5)
    put_code(s, FIVE, ("pml5", "pml4-code", "pdpt-code", "pd-code", "pt-code"))
    put_long(s, FIVE, "5", 1 << 48 | 1 << 39, ("pml5", "pml4", "pdpt", "pd", "pt"))


def put_long(
    s: Landscape, paging: str, short: str, start: int, names: tuple[str, ...], prefix: str = ""
) -> None:
    low, high = s.places[prefix + "low"], s.places[prefix + "high"]
    near, short = start + GIB, prefix + short
    s.target(f"{short}-4k", paging, near + 2 * MIB + 3 * PAGE, names, low.gpa | LEAF, low)
    s.target(f"{short}-4k-high", paging, near + 2 * MIB + 4 * PAGE, names, high.gpa | LEAF, high)
    large, offset = low.gpa & ~(2 * MIB - 1), low.gpa & 2 * MIB - 1
    s.target(f"{short}-2m", paging, near + 4 * MIB + offset, names[:-1], large | LEAF | PS, low)
    for number, (name, data) in enumerate((("1g", low), ("1g-high", high))):
        base, offset = data.gpa & ~(GIB - 1), data.gpa & GIB - 1
        linear = start + (2 + number) * GIB + offset
        s.target(f"{short}-{name}", paging, linear, names[:-2], base | LEAF | PS, data)
