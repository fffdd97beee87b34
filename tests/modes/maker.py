# SPDX-License-Identifier: GPL-2.0-or-later
"""What every group of cases is made with: changes of entries, and states of L2's registers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from tests.modes.landscape import (
    FIVE,
    FOUR,
    PAGE,
    PAGED_32,
    PS,
    RWX,
    WB,
    GuestEntry,
    Target,
)
from tests.modes.scenario import IMPLICIT, Case, Mode, Scenario

WIDTH_BIT = 1 << 40  # the first bit beyond MAXPHYADDR of the processors that the cases are for
PCID = 0x123
EVERYTHING = (1 << 64) - 1


@dataclass(frozen=True)
class Change:
    """An entry of L2's or EPT12's at an L1 address: its value & ~clear | set."""

    address: int
    clear: int
    set: int = 0
    ept: bool = False


class Maker:
    """Puts cases of some paging modes into a scenario; changes of one entry add up."""

    def __init__(self, pagings: Sequence[str]) -> None:
        self.pagings = pagings
        self.scenario = Scenario()
        self.land = self.scenario.land

    def targets(self, *pagings: str, large: bool = False) -> Iterator[Target]:
        """The usual ones, or those that can be under large leaves."""
        for target in self.land.targets.values():
            if target.paging not in pagings or target.paging not in self.pagings:
                continue
            if target.large != large:
                continue
            if target.data is not self.land.places["code"]:
                yield target

    def put(
        self,
        group: str,
        mode: Mode,
        op: int,
        target: Target,
        changes: Iterable[Change] = (),
        ad: bool = False,
    ) -> None:
        if op == IMPLICIT and mode.real:
            return  # no descriptor is read
        values: dict[int, int] = {}
        ept = False
        for one in changes:
            before = values.get(one.address, self.land.value(one.address))
            size = self.land.words[one.address][1]
            values[one.address] = (before & ~one.clear | one.set) & ((1 << 8 * size) - 1)
            ept = ept or one.ept
        patches = tuple(
            (at, value, self.land.words[at][1])
            for at, value in sorted(values.items())
            if value != self.land.value(at)
        )
        self.scenario.put(Case(group, mode, op, target.name, patches, ad, ept))

    def guest(self, entry: GuestEntry, clear: int, set: int = 0) -> Change:
        assert entry.address is not None
        return Change(entry.address, clear, set)

    def ept(self, gpa: int, level: int, clear: int, set: int = 0) -> Change:
        return Change(self.land.ept_path(gpa)[4 - level], clear, set, True)

    def large(self, gpa: int, level: int) -> Change:
        """EPT12's entry of a level, 2 or 3, as a leaf that leads where the usual path does."""
        page = self.land.value(self.land.ept_path(gpa)[-1]) & ~(PAGE - 1)
        size = PAGE << 9 * (level - 1)
        assert (gpa - page) % size == 0
        return self.ept(gpa, level, EVERYTHING, page & ~(size - 1) | PS | WB | RWX)

    def broken(self, gpa: int, level: int, defect: tuple[str, int, int, bool]) -> Change:
        """EPT12's entry with one of the DEFECTS of tests/guests/scenarios.py."""
        _, clear, bits, beyond = defect
        return self.ept(gpa, level, clear, bits | (WIDTH_BIT if beyond else 0))


def in_memory(target: Target) -> list[GuestEntry]:
    return [entry for entry in target.entries if entry.address is not None]


def modes(paging: str) -> list[Mode]:
    """Every state of the registers that decide on rights; AC matters with SMAP alone."""
    found = []
    for cpl, wp, nxe, smep, smap in product((0, 3), (1, 0), (1, 0), (0, 1), (0, 1, 2)):
        if paging == PAGED_32 and not nxe:
            continue
        found.append(Mode(paging, cpl, bool(wp), bool(nxe), True, bool(smep), smap > 0, smap > 1))
    return found


def few_modes(paging: str) -> list[Mode]:
    """The usual two first."""
    found = [Mode(paging), Mode(paging, 3), Mode(paging, smep=True, smap=True)]
    found.append(Mode(paging, wp=False))
    if paging != PAGED_32:
        found.append(Mode(paging, 3, nxe=False))
    if paging in (FOUR, FIVE):
        found.append(Mode(paging, pcid=PCID))
    return found
