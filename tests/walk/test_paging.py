# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of a guest's own page tables: modes, rights, faults, and the order of accesses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdb_nept.address import HostPhys, L2Virt
from gdb_nept.arch.paging import PAGING_4, PAGING_5, PAGING_32, PAGING_PAE
from gdb_nept.memory.raw import RawMemory
from gdb_nept.walk.guest_paging import Cr0, Cr4, Efer, GuestPaging, Reference
from gdb_nept.walk.paging import LinearWalk, TableAccess, walk_linear

PG, WP = 1 << 31, 1 << 16
PAE, PSE, LA57, SMEP, SMAP = 1 << 5, 1 << 4, 1 << 12, 1 << 20, 1 << 21
LMA, NXE = 1 << 10, 1 << 11
P, W, U, A, D, LARGE, NX = 1, 2, 4, 0x20, 0x40, 0x80, 1 << 63
ALL = P | W | U | A | D
LINEAR = 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12 | 0x56
TABLES = {0x1008: 0x2000 | ALL, 0x2010: 0x3000 | ALL, 0x3018: 0x4000 | ALL, 0x4020: 0x9000 | ALL}


def long_mode(cr4: int = 0, cr0: int = PG | WP, efer: int = LMA | NXE) -> GuestPaging:
    return GuestPaging(Cr0(cr0), 0x1000, Cr4(PAE | cr4), Efer(efer), 40)


def run(
    paging: GuestPaging,
    words: dict[int, int],
    linear: int = LINEAR,
    *,
    write: bool = False,
    fetch: bool = False,
    user: bool = False,
) -> tuple[LinearWalk, list[TableAccess]]:
    walker = walk_linear(paging, Reference(L2Virt(linear), write, fetch, user))
    made: list[TableAccess] = []
    sent: int | None = None
    while True:
        try:
            access = next(walker) if sent is None else walker.send(sent)
        except StopIteration as end:
            return end.value, made
        made.append(access)
        sent = words.get(access.gpa, 0)


def test_four_levels() -> None:
    walk, made = run(long_mode(), TABLES)
    assert (walk.gpa, walk.page_size, walk.fault) == (0x9056, 4096, None)
    assert [(access.level, access.gpa, access.update) for access in made] == [
        (4, 0x1008, False),
        (3, 0x2010, False),
        (2, 0x3018, False),
        (1, 0x4020, False),
    ]
    assert (walk.user, walk.writable, walk.execute_disable) == (True, True, False)


def test_modes() -> None:
    plain = GuestPaging(Cr0(0), 0, Cr4(0), Efer(0), 40)
    assert plain.mode is None
    assert GuestPaging(Cr0(PG), 0, Cr4(0), Efer(0), 40).mode is PAGING_32
    assert GuestPaging(Cr0(PG), 0, Cr4(PAE), Efer(0), 40).mode is PAGING_PAE
    assert long_mode().mode is PAGING_4
    assert long_mode(LA57).mode is PAGING_5
    walk, made = run(plain, {}, 0x12345)
    assert (walk.gpa, made) == (0x12345, [])
    assert (walk.user, walk.writable, walk.execute_disable) == (True, True, False)


def test_five_levels() -> None:
    words = {0x1010: 0x5000 | ALL, **{0x4000 + key: word for key, word in TABLES.items()}}
    walk, made = run(long_mode(LA57), words, 2 << 48 | LINEAR)
    assert made[0].gpa == 0x1010
    assert [access.gpa for access in made] == [0x1010, 0x5008, 0x2010]  # where nothing is
    assert walk.fault is not None


def test_pae_starts_at_the_registers() -> None:
    pdptrs = (0, 0x5000 | P, 0, 0)
    paging = GuestPaging(Cr0(PG | WP), 0x1020, Cr4(PAE), Efer(NXE), 40, pdptrs)
    words = {0x5008: 0x6000 | ALL, 0x6010: 0x7000 | ALL | NX}
    walk, made = run(paging, words, 1 << 30 | 1 << 21 | 2 << 12 | 0x10)
    assert walk.gpa == 0x7010
    assert [access.gpa for access in made] == [0x5008, 0x6010]
    assert walk.execute_disable
    assert walk.user  # a PDPTE register has no U/S to withhold
    absent, made = run(paging, words, 0)
    assert made == []
    assert absent.fault is not None


def test_pae_without_the_registers_reads_the_table() -> None:
    """Its entries have no R/W, U/S or accessed flags: they are those of a register."""
    paging = GuestPaging(Cr0(PG | WP), 0x1020, Cr4(PAE), Efer(NXE), 40)
    words = {0x1028: 0x5000 | P, 0x5008: 0x6000 | ALL, 0x6010: 0x7000 | ALL}
    walk, made = run(paging, words, 1 << 30 | 1 << 21 | 2 << 12 | 0x10, write=True)
    assert (walk.gpa, walk.user, walk.writable) == (0x7010, True, True)
    assert (made[0].gpa, made[0].update) == (0x1028, False)


def test_32_bit_pages_of_both_sizes() -> None:
    paging = GuestPaging(Cr0(PG), 0x1000, Cr4(PSE), Efer(0), 40)
    words = {0x1004: 0x2000 | ALL, 0x2008: 0x3000 | ALL, 0x1008: 0x00802000 | ALL | LARGE}
    assert run(paging, words, 0x402034)[0].gpa == 0x3034
    large = run(paging, words, 0x00912345)[0]
    assert (large.gpa, large.page_size) == (1 << 32 | 0x912345, 1 << 22)  # PSE-36
    assert all(access.size == 4 for access in run(paging, words, 0x402034)[1])


@pytest.mark.parametrize(
    ("flags", "access", "code"),
    [
        ({}, {}, None),
        ({0x4020: P | A | D}, {"write": True}, 0b11),
        ({0x4020: P | A | D}, {}, None),
        ({0x3018: P | W | A}, {"user": True}, 0b101),
        ({0x3018: P | W | A}, {"user": True, "write": True}, 0b111),
        ({0x4020: ALL | NX}, {"fetch": True}, 0b10001),
        ({0x4020: 0}, {"write": True, "user": True}, 0b110),
        ({0x4020: ALL | 1 << 45}, {}, 0b1001),
        ({0x2010: ALL | LARGE | 1 << 13}, {}, 0b1001),
        ({0x1008: ALL | LARGE}, {}, 0b1001),
    ],
)
def test_faults_of_l2_itself(
    flags: dict[int, int], access: dict[str, bool], code: int | None
) -> None:
    words = dict(TABLES)
    for place, low in flags.items():
        words[place] = (words[place] & 0xFFFFF000 if low else 0) | low
    walk, _ = run(long_mode(), words, **access)
    assert (walk.fault.code.value if walk.fault else None) == code
    assert (walk.gpa is None) is (code is not None)


def test_supervisor_protections() -> None:
    assert run(long_mode(SMAP), TABLES)[0].fault is not None
    assert run(long_mode(SMEP), TABLES, fetch=True)[0].fault is not None
    assert run(long_mode(SMEP | SMAP), TABLES, user=True)[0].fault is None
    read_only = {**TABLES, 0x4020: 0x9000 | P | U | A | D}
    assert run(long_mode(cr0=PG), read_only, write=True)[0].fault is None
    assert run(long_mode(cr0=PG | WP), read_only, write=True)[0].fault is not None
    reserved = {**TABLES, 0x4020: 0x9000 | ALL | NX}
    assert run(long_mode(efer=LMA), reserved)[0].fault is not None  # without NXE XD is reserved


def test_flags_are_updated_after_all_checks_and_from_the_top() -> None:
    words = {place: word & ~(A | D) for place, word in TABLES.items()}
    _, read = run(long_mode(), words)
    assert [(access.level, access.update) for access in read[4:]] == [
        (4, True),
        (3, True),
        (2, True),
        (1, True),
    ]
    _, dirty = run(long_mode(), {**TABLES, 0x4020: 0x9000 | P | W | U | A}, write=True)
    assert [(access.level, access.update) for access in dirty[4:]] == [(1, True)]
    refused, made = run(long_mode(), {**words, 0x4020: 0x9000 | P | U}, write=True)
    assert refused.fault is not None
    assert not any(access.update for access in made)


@pytest.mark.bochs
def test_the_tables_of_a_real_kernel(plain_snapshot: Path) -> None:
    """L0's own tables, from the CR3 that the processor had, lead to the kernel's banner."""
    registers = json.loads((plain_snapshot / "registers.json").read_text())
    said = json.loads((plain_snapshot / "facts.json").read_text())
    symbols = next(line["kallsyms"] for line in said if "kallsyms" in line)
    memory: RawMemory[HostPhys] = RawMemory(plain_snapshot / "memory.raw")
    paging = GuestPaging(
        Cr0(int(registers["cr0"], 16)),
        int(registers["cr3"], 16),
        Cr4(int(registers["cr4"], 16)),
        Efer(int(registers["efer"], 16)),
        40,
    )
    walker = walk_linear(paging, Reference(L2Virt(int(symbols["linux_banner"], 16)), False))
    access = next(walker)
    while True:
        try:
            entry = memory.read(HostPhys(access.gpa), access.size)
            access = walker.send(int.from_bytes(entry, "little"))
        except StopIteration as end:
            walk: LinearWalk = end.value
            break
    assert walk.gpa is not None
    assert memory.read(HostPhys(walk.gpa), 14) == b"Linux version "
