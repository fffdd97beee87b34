# SPDX-License-Identifier: GPL-2.0-or-later
"""Access rights and error codes as tables, from SDM vol. 3, 5.6 and 5.7 (June 2026)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gdb_nept.address import L2Virt
from gdb_nept.walk.guest_paging import Cr0, Cr4, Efer, GuestPaging, Reference
from gdb_nept.walk.paging import LinearWalk, walk_linear

PG, PE, WP = 1 << 31, 1, 1 << 16
PSE, PAE, SMEP, SMAP, PKE, CET, PKS = (1 << bit for bit in (4, 5, 20, 21, 22, 23, 24))
LMA, NXE = 1 << 10, 1 << 11
P, W, U, A, D, LARGE, NX = 1, 2, 4, 0x20, 0x40, 0x80, 1 << 63
PAGE = 0x9000
KEY = 3 << 59
PK, SS, FETCH = 0x20, 0x40, 0x10


@dataclass(frozen=True)
class Guest:
    """Four levels, whose upper entries allow everything; registers as a test wants them."""

    leaf: int
    cr4: int = 0
    cr0: int = PG | PE | WP
    efer: int = LMA | NXE
    ac: bool = False
    pkru: int | None = 0
    pkrs: int | None = 0
    upper: int = P | W | U | A

    @property
    def paging(self) -> GuestPaging:
        registers = (Cr0(self.cr0), 0x1000, Cr4(PAE | self.cr4), Efer(self.efer), 40)
        return GuestPaging(*registers, (), self.ac, self.pkru, self.pkrs)

    def walk(self, **access: bool) -> LinearWalk:
        words = {place: place + 0x1000 | self.upper for place in (0x1000, 0x2000, 0x3000)}
        words[0x4000] = PAGE | self.leaf
        return walked(self.paging, words, 0, **access)

    def code(self, **access: bool) -> int | None:
        fault = self.walk(**access).fault
        return fault.code.value if fault else None


def walked(paging: GuestPaging, words: dict[int, int], linear: int, **access: bool) -> LinearWalk:
    reference = Reference(L2Virt(linear), **{"write": False, **access})
    walker = walk_linear(paging, reference)
    try:
        wanted = next(walker)
        while True:
            wanted = walker.send(words.get(wanted.gpa, 0))
    except StopIteration as end:
        found: LinearWalk = end.value
        return found


USER, SUPERVISOR = P | W | U | A | D, P | W | A | D
READ_ONLY = D | W  # taken away: no dirty flag either, so that it is no shadow stack
WRITE = {"write": True}
BY_USER = {"user": True}
FETCHED = {"fetch": True}
IMPLICIT = {"user": True, "implicit": True}


@pytest.mark.parametrize("accessed", [{}, WRITE, FETCHED])
def test_user_accesses_to_supervisor_pages(accessed: dict[str, bool]) -> None:
    bits = (2 if accessed == WRITE else 0) | (FETCH if accessed == FETCHED else 0)
    assert Guest(SUPERVISOR).code(**accessed, user=True) == 0b101 | bits
    assert Guest(SUPERVISOR).code(**accessed) is None
    assert Guest(USER).code(**accessed, user=True) is None


@pytest.mark.parametrize(
    ("cr0", "smap", "ac", "leaf", "accessed", "code"),
    [  # 5.6.1, supervisor-mode data writes: CR0.WP, CR4.SMAP, EFLAGS.AC
        (PG, 0, False, SUPERVISOR & ~READ_ONLY, WRITE, None),
        (PG | WP, 0, False, SUPERVISOR & ~READ_ONLY, WRITE, 0b011),
        (PG, 0, False, USER & ~READ_ONLY, WRITE, None),
        (PG, SMAP, False, USER & ~READ_ONLY, WRITE, 0b011),
        (PG, SMAP, True, USER & ~READ_ONLY, WRITE, None),
        (PG | WP, SMAP, True, USER & ~READ_ONLY, WRITE, 0b011),
        (PG | WP, SMAP, True, USER, WRITE, None),
        (PG, 0, False, USER & ~READ_ONLY, {**WRITE, **BY_USER}, 0b111),
        # reads
        (PG | WP, SMAP, False, USER, {}, 0b001),
        (PG | WP, SMAP, True, USER, {}, None),
        (PG | WP, SMAP, False, SUPERVISOR, {}, None),
        (PG | WP, SMAP, False, USER, BY_USER, None),
        # implicit supervisor accesses: at CPL 3 too, and AC does not lift SMAP for them
        (PG | WP, SMAP, True, USER, IMPLICIT, 0b001),
        (PG | WP, 0, False, USER, IMPLICIT, None),
        (PG | WP, 0, False, SUPERVISOR, IMPLICIT, None),
        (PG | WP, SMAP, True, USER, {**IMPLICIT, **WRITE}, 0b011),
        # SMAP is about data
        (PG | WP, SMAP, False, USER, FETCHED, None),
    ],
)
def test_supervisor_data(
    cr0: int, smap: int, ac: bool, leaf: int, accessed: dict[str, bool], code: int | None
) -> None:
    assert Guest(leaf, smap, cr0, ac=ac).code(**accessed) == code


@pytest.mark.parametrize(
    ("efer", "cr4", "leaf", "accessed", "code"),
    [
        (LMA | NXE, 0, SUPERVISOR | NX, FETCHED, 0b10001),
        (LMA | NXE, 0, USER | NX, {**FETCHED, **BY_USER}, 0b10101),
        (LMA | NXE, 0, USER | NX, {}, None),
        (LMA | NXE, SMEP, USER, FETCHED, 0b10001),
        (LMA | NXE, SMEP, USER, {**FETCHED, **BY_USER}, None),
        (LMA, SMEP, USER, FETCHED, 0b10001),
        (LMA, 0, SUPERVISOR, {**FETCHED, **BY_USER}, 0b101),  # I/D only with NXE or SMEP
        (LMA, SMEP, SUPERVISOR, {**FETCHED, **BY_USER}, 0b10101),
        (LMA, 0, USER | NX, {}, 0b1001),  # XD is reserved without NXE
    ],
)
def test_fetches(
    efer: int, cr4: int, leaf: int, accessed: dict[str, bool], code: int | None
) -> None:
    assert Guest(leaf, cr4, efer=efer).code(**accessed) == code


AD3, WD3 = 1 << 6, 2 << 6  # of key 3


@pytest.mark.parametrize(
    ("leaf", "cr4", "cr0", "pkru", "pkrs", "accessed", "code"),
    [  # 5.6.2
        (USER | KEY, PKE, WP, AD3, 0, BY_USER, 0b101 | PK),
        (USER | KEY, PKE, WP, AD3, 0, {}, 0b001 | PK),
        (USER | KEY, PKE, WP, AD3, 0, FETCHED, None),
        (USER | KEY, PKE, WP, WD3, 0, BY_USER, None),
        (USER | KEY, PKE, WP, WD3, 0, {**BY_USER, **WRITE}, 0b111 | PK),
        (USER | KEY, PKE, 0, WD3, 0, {**BY_USER, **WRITE}, 0b111 | PK),
        (USER | KEY, PKE, WP, WD3, 0, WRITE, 0b011 | PK),
        (USER | KEY, PKE, 0, WD3, 0, WRITE, None),
        (USER | KEY, 0, WP, AD3 | WD3, 0, {**BY_USER, **WRITE}, None),
        (USER | 1 << 59, PKE, WP, AD3 | WD3, 0, {**BY_USER, **WRITE}, None),
        # user pages hang on PKRU, supervisor pages on IA32_PKRS
        (SUPERVISOR | KEY, PKE, WP, AD3, 0, {}, None),
        (SUPERVISOR | KEY, PKE | PKS, WP, 0, AD3, {}, 0b001 | PK),
        (SUPERVISOR | KEY, PKS, WP, 0, WD3, {}, None),
        (SUPERVISOR | KEY, PKS, WP, 0, WD3, WRITE, 0b011 | PK),
        (SUPERVISOR | KEY, PKS, 0, 0, WD3, WRITE, None),
        (USER | KEY, PKS, WP, 0, AD3, {}, None),
        # PK is told beside another reason
        (USER & ~READ_ONLY | KEY, PKE, WP, WD3, 0, {**BY_USER, **WRITE}, 0b111 | PK),
        (USER | KEY, PKE | SMAP, WP, AD3, 0, {}, 0b001 | PK),
        (SUPERVISOR | KEY, PKE | PKS, WP, 0, AD3, BY_USER, 0b101 | PK),
        # ... but not where there is no translation
        (W | U | KEY, PKE, WP, AD3, 0, BY_USER, 0b100),
        (USER | KEY | 1 << 45, PKE, WP, AD3, 0, BY_USER, 0b1101),
    ],
)
def test_protection_keys(
    leaf: int,
    cr4: int,
    cr0: int,
    pkru: int,
    pkrs: int,
    accessed: dict[str, bool],
    code: int | None,
) -> None:
    assert Guest(leaf, cr4, PG | cr0, pkru=pkru, pkrs=pkrs).code(**accessed) == code


def test_a_key_register_that_nobody_told_is_said_and_taken_to_allow() -> None:
    found = Guest(USER | KEY, PKE, pkru=None).walk(user=True)
    assert found.fault is None
    assert "protection key 3, and PKRU is not known" in found.unknown
    assert "IA32_PKRS" in Guest(SUPERVISOR, PKS, pkrs=None).walk().unknown
    assert Guest(USER, pkru=None).walk(user=True).unknown == ""
    assert Guest(USER, PKE, pkru=None).walk(fetch=True).unknown == ""
    assert Guest(USER, PKE, pkru=0).walk().unknown == ""


STACK_USER, STACK_SUPERVISOR = P | U | A | D, P | A | D
ON_STACK = {"shadow_stack": True}


@pytest.mark.parametrize(
    ("leaf", "upper", "accessed", "code"),
    [
        (STACK_SUPERVISOR, P | W | U | A, ON_STACK, None),
        (STACK_SUPERVISOR, P | W | U | A, {**ON_STACK, **WRITE}, None),
        (STACK_USER, P | W | U | A, {**ON_STACK, **WRITE, **BY_USER}, None),
        (STACK_SUPERVISOR, P | W | U | A, {**ON_STACK, **BY_USER}, 0b101 | SS),
        (STACK_USER, P | W | U | A, ON_STACK, 0b001 | SS),
        (STACK_USER, P | U | A, {**ON_STACK, **BY_USER}, 0b101 | SS),  # R/W clear above the leaf
        (STACK_USER | W, P | W | U | A, {**ON_STACK, **BY_USER, **WRITE}, 0b111 | SS),
        (STACK_USER & ~D, P | W | U | A, {**ON_STACK, **BY_USER}, 0b101 | SS),
        (0, P | W | U | A, {**ON_STACK, **BY_USER}, 0b100 | SS),
        (STACK_SUPERVISOR, P | W | U | A, WRITE, 0b011),
        (STACK_SUPERVISOR, P | W | U | A, {}, None),
    ],
)
def test_shadow_stacks(leaf: int, upper: int, accessed: dict[str, bool], code: int | None) -> None:
    assert Guest(leaf, CET, upper=upper).code(**accessed) == code


# -- 32-bit paging ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "allowed", "refused_"),
    [
        (32, 1 << 12, 1 << 13),
        (36, 1 << 16, 1 << 17),
        (39, 1 << 19, 1 << 20),
        (46, 1 << 20, 1 << 21),
    ],
)
def test_pse_36_has_as_many_bits_as_the_processor(width: int, allowed: int, refused_: int) -> None:
    """Table 5-4: bits 21:(M-19) are reserved, M the lesser of 40 and MAXPHYADDR."""
    paging = GuestPaging(Cr0(PG | WP), 0x1000, Cr4(PSE), Efer(0), width)
    page = 0x00C0_0000 | USER | LARGE
    found = walked(paging, {0x1004: page | allowed}, 0x40_0123)
    assert found.gpa == (0x00C0_0123 | (allowed >> 13) << 32)
    fault = walked(paging, {0x1004: page | refused_}, 0x40_0123).fault
    assert fault is not None
    assert fault.code.value == 0b1001


def test_without_pse_a_large_bit_is_ignored() -> None:
    paging = GuestPaging(Cr0(PG), 0x1000, Cr4(0), Efer(0), 36)
    found = walked(paging, {0x1004: 0x2000 | USER | LARGE, 0x2000: PAGE | USER}, 0x40_0123)
    assert found.gpa == PAGE | 0x123


def test_nxe_means_nothing_to_32_bit_entries() -> None:
    paging = GuestPaging(Cr0(PG), 0x1000, Cr4(0), Efer(NXE), 36)
    fault = walked(paging, {}, 0, fetch=True, user=True).fault
    assert fault is not None
    assert fault.code.value == 0b100


# -- reserved bits by mode ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bit", "pae", "long"),
    [(12, False, False), (13, True, True), (40, True, True), (52, True, False), (62, True, False)],
)
def test_reserved_bits_of_a_2m_page(bit: int, pae: bool, long: bool) -> None:
    entry = 0x0020_0000 | USER | LARGE | 1 << bit
    of_pae = GuestPaging(Cr0(PG), 0, Cr4(PAE), Efer(NXE), 40, (0x3000 | P, 0, 0, 0))
    of_long = GuestPaging(Cr0(PG), 0x1000, Cr4(PAE), Efer(LMA | NXE), 40)
    words = {0x1000: 0x2000 | USER, 0x2000: 0x3000 | USER, 0x3000: entry}
    assert (walked(of_pae, words, 0x123).fault is not None) is pae
    assert (walked(of_long, words, 0x123).fault is not None) is long


def test_pages_of_1g_only_where_the_processor_has_them() -> None:
    words = {0x1000: 0x2000 | USER, 0x2000: 0x4000_0000 | USER | LARGE}
    registers = (Cr0(PG), 0x1000, Cr4(PAE), Efer(LMA | NXE), 40)
    assert walked(GuestPaging(*registers), words, 0x123).gpa == 0x4000_0123
    fault = walked(GuestPaging(*registers, pages_1g=False), words, 0x123).fault
    assert fault is not None
    assert fault.code.value == 0b1001


def test_pae_paging_knows_no_protection_keys() -> None:
    paging = GuestPaging(
        Cr0(PG | WP), 0, Cr4(PAE | PKE), Efer(NXE), 40, (0x3000 | P, 0, 0, 0), pkru=1
    )
    words = {0x3000: 0x4000 | USER, 0x4000: PAGE | USER}
    assert walked(paging, words, 0, user=True).fault is None
