# SPDX-License-Identifier: GPL-2.0-or-later
"""A case, L2's registers for it, and the file of both that L1 reads (modes.h)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

from tests.modes.landscape import (
    ARENA,
    ARENA_PAGES,
    FIVE,
    FOUR,
    LARGE,
    PAE,
    PAGE,
    UNPAGED,
    Landscape,
    Target,
)
from tests.modes.large_landscape import build

MAGIC = b"NEPTMDS1"
READ, WRITE, RMW, FETCH, IMPLICIT, STACK_READ, STACK_WRITE, STACK_WRITE_USER = range(8)
OPS = (READ, WRITE, RMW, FETCH, IMPLICIT)
STACK_OPS = (STACK_READ, STACK_WRITE, STACK_WRITE_USER)  # to a shadow stack
AD, EPT_PATCHED = 1, 2
CODE_OFFSET, CODE16_OFFSET, DESCRIPTOR_OFFSET = 8, 16, 32
STUB, STUBS = 16, len(OPS) + len(STACK_OPS)  # bytes of one; of each size of code

CR0_PE, CR0_WP, CR0_PG = 1, 1 << 16, 1 << 31
CR4_PSE, CR4_PAE, CR4_LA57 = 1 << 4, 1 << 5, 1 << 12
CR4_PCIDE, CR4_SMEP, CR4_SMAP, CR4_PKE, CR4_PKS = 1 << 17, 1 << 20, 1 << 21, 1 << 22, 1 << 24
CR4_CET = 1 << 23
EFER_LME, EFER_LMA, EFER_NXE = 1 << 8, 1 << 10, 1 << 11
RFLAGS_FIXED, RFLAGS_AC = 1 << 1, 1 << 18

_HEAD = struct.Struct("<8s4Q2I")
_TABLE = struct.Struct("<II")
_WORD = struct.Struct("<QII")
_MODE = struct.Struct("<5Q4QQIIBB6x")
_PATH = struct.Struct("<5IBBxx")
_CASE = struct.Struct("<QIHBBBBHI")
TABLES = 5


@dataclass(frozen=True)
class Mode:
    """L2's registers.  `real`: without protection; `keys`: of CR4's PKE and PKS; `pdptes`: the
    PDPTE registers, if not the usual ones; `large`: CR3 is that of the tables that can be under
    large leaves of EPT12; `stacks`: shadow stacks are on, of supervisor and user."""

    paging: str
    cpl: int = 0
    wp: bool = True
    nxe: bool = True
    pse: bool = True
    smep: bool = False
    smap: bool = False
    ac: bool = False
    real: bool = False
    keys: int = 0
    pkru: int = 0
    pkrs: int = 0
    pdptes: tuple[int, ...] = ()
    pcid: int = 0
    large: bool = False
    stacks: bool = False

    @property
    def tables(self) -> str:
        """What the landscape's names of its top table and code start with."""
        return (LARGE if self.large else "") + self.paging

    @property
    def cr0(self) -> int:
        if self.paging == UNPAGED:
            return (0 if self.real else CR0_PE) | (CR0_WP if self.wp else 0)
        return CR0_PE | CR0_PG | (CR0_WP if self.wp else 0)

    @property
    def cr4(self) -> int:
        value = self.keys | (CR4_PCIDE if self.pcid else 0)
        value |= CR4_PSE if self.pse else 0
        value |= CR4_PAE if self.paging in (PAE, FOUR, FIVE) else 0
        value |= CR4_LA57 if self.paging == FIVE else 0
        value |= CR4_CET if self.stacks else 0
        return value | (CR4_SMEP if self.smep else 0) | (CR4_SMAP if self.smap else 0)

    @property
    def efer(self) -> int:
        long = EFER_LME | EFER_LMA if self.paging in (FOUR, FIVE) else 0
        return long | (EFER_NXE if self.nxe else 0)

    @property
    def rflags(self) -> int:
        return RFLAGS_FIXED | (RFLAGS_AC if self.ac else 0)

    @property
    def bits(self) -> int:
        return 64 if self.paging in (FOUR, FIVE) else 16 if self.real else 32


@dataclass(frozen=True)
class Case:
    """`patches` are L1 addresses with what is there during the case, and its size; `ept`: one of
    them is EPT12's."""

    group: str
    mode: Mode
    op: int
    target: str
    patches: tuple[tuple[int, int, int], ...] = ()
    ad: bool = False
    ept: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        return self.mode, self.op, self.target, self.patches, self.ad


@dataclass
class Scenario:
    """Cases on one landscape, each once."""

    land: Landscape = field(default_factory=build)
    chosen: list[Case] = field(default_factory=list)
    seen: set[tuple[object, ...]] = field(default_factory=set)

    @cached_property
    def on_way_to_code(self) -> frozenset[int]:
        """The L1 addresses of all entries that lead to the stubs, in any mode."""
        found = set(self.land.ept_path(self.land.places["code"].gpa))
        for target in self.land.targets.values():
            if target.data == self.land.places["code"]:
                for entry in target.entries:
                    found.update(self.land.ept_path(entry.table.gpa))
                    found.update([] if entry.address is None else [entry.address])
        return frozenset(found)

    def put(self, case: Case) -> None:
        if case.key not in self.seen:
            self.seen.add(case.key)
            self.chosen.append(case)

    def pdptes_of(self, mode: Mode) -> tuple[int, ...]:
        """The PDPTE registers; none without PAE."""
        if mode.paging != PAE:
            return ()
        return mode.pdptes or (self.land.large_pdptes if mode.large else self.land.pdptes)

    def cr3_of(self, mode: Mode) -> int:
        root = self.land.roots.get(mode.tables)
        return root.gpa | mode.pcid if root else 0

    def code_of(self, mode: Mode) -> Target | None:
        """How L2 finds its stubs; None without paging."""
        if mode.paging == UNPAGED:
            return None
        user = "-user" if mode.cpl == 3 else ""
        return self.land.targets[f"{mode.tables}-code{user}"]

    def code_linear(self, mode: Mode) -> int:
        code = self.code_of(mode)
        return code.linear if code else self.land.places["code"].gpa

    def linear_of(self, case: Case) -> int:
        """The address that the case is about, in the page of its target."""
        linear = self.land.targets[case.target].linear
        if case.op == FETCH:
            return linear + (CODE16_OFFSET if case.mode.bits == 16 else CODE_OFFSET)
        return linear + (DESCRIPTOR_OFFSET if case.op == IMPLICIT else 0)

    def stub_linear(self, case: Case) -> int:
        """modes.c stub_of()."""
        return self.code_linear(case.mode) + (case.mode.bits // 32 * STUBS + case.op) * STUB

    def parts(self, most: int) -> Iterator[Scenario]:
        """Of at most so many cases each, on the same landscape."""
        for first in range(0, len(self.chosen), most):
            yield Scenario(self.land, self.chosen[first : first + most])

    def order(self) -> None:
        """By mode: so L1 seldom writes L2's registers."""
        numbers: dict[Mode, int] = {}
        for case in self.chosen:
            numbers.setdefault(case.mode, len(numbers))
        self.chosen.sort(key=lambda case: numbers[case.mode])

    def pack(self) -> bytes:
        """The file; the order of the cases is that of `chosen`."""
        modes: _Numbers[Mode] = _Numbers()
        paths: _Numbers[str] = _Numbers()
        cases, patches, count = [], [], 0
        for case in self.chosen:
            flags = (AD if case.ad else 0) | (EPT_PATCHED if case.ept else 0)
            mode, path = modes.of(case.mode), paths.of(case.target)
            line = (self.linear_of(case), count, mode, len(case.patches), case.op, flags, path)
            cases.append(_CASE.pack(*line, 0, 0))
            for address, value, size in case.patches:
                patches.append(_WORD.pack(value, address, size))
            count += len(case.patches)
        words = [_WORD.pack(value, at, size) for at, (value, size) in self.land.words.items()]
        tables = (
            words,
            [self._mode(mode) for mode in modes.all],
            [self._path(name) for name in paths.all],
            cases,
            patches,
        )
        pages = list(self.land.signed())
        head = _HEAD.pack(
            *(MAGIC, ARENA, ARENA + ARENA_PAGES * PAGE, self.land.eptp),
            *(self.land.places["code"].l1, len(pages), pages[0] // PAGE),
        )
        at = len(head) + TABLES * _TABLE.size
        places = []
        for table in tables:
            places.append(_TABLE.pack(at, len(table)))
            at += sum(map(len, table))
        return b"".join([head, *places, *(b"".join(table) for table in tables)])

    def _mode(self, mode: Mode) -> bytes:
        pdptes = self.pdptes_of(mode) or (0, 0, 0, 0)
        return _MODE.pack(
            *(mode.cr0, self.cr3_of(mode), mode.cr4, mode.efer, mode.rflags),
            *pdptes,
            *(self.code_linear(mode), mode.pkru, mode.pkrs, mode.cpl, mode.bits),
        )

    def _path(self, name: str) -> bytes:
        entries = [one for one in self.land.targets[name].entries if one.address is not None]
        places = [one.address for one in entries] + [0] * (5 - len(entries))
        return _PATH.pack(*places, len(entries), entries[0].size if entries else 8)


Numbered = TypeVar("Numbered")


@dataclass
class _Numbers(Generic[Numbered]):
    all: dict[Numbered, int] = field(default_factory=dict)

    def of(self, what: Numbered) -> int:
        return self.all.setdefault(what, len(self.all))
