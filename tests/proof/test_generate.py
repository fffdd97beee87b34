# SPDX-License-Identifier: GPL-2.0-or-later
"""The generated cases: that they are what they are called, and all different."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from tests.guests.generate import Case, Generated, build, spread
from tests.guests.scenarios import (
    AD,
    BIT_7,
    FETCH,
    INS,
    PARK,
    PATCH_EPT,
    PATCH_WALK,
    PDE,
    PDPTE,
    PML4E,
    PTE,
    READ,
    USER,
    WRITE,
)
from tests.proof.log import case_lines

LEVELS = {"pml4e": PML4E, "pdpte": PDPTE, "pde": PDE, "pte": PTE, "2m": PDE, "1g": PDPTE}


@pytest.fixture(scope="module")
def everything() -> Generated:
    return build()


def low_bits(cases: Iterable[Case], space: int, op: int, ad: int) -> set[int]:
    """The low 12 bits that the first patch of each such case sets."""
    return {
        case.patches[0].set & 0xFFF
        for case in cases
        if case.op == op and case.flags & (AD | USER) == ad and case.patches[0].space == space
    }


def test_enough_and_all_different(everything: Generated) -> None:
    assert len(everything.chosen) >= 200_000
    assert len({case.key for case in everything.chosen}) == len(everything.chosen)


@pytest.mark.parametrize("name", LEVELS)
@pytest.mark.parametrize("op", [READ, WRITE, FETCH])
@pytest.mark.parametrize("ad", [0, AD])
def test_all_low_bits_of_every_entry(everything: Generated, name: str, op: int, ad: int) -> None:
    cases = [case for case in everything.chosen if case.group == f"low-bits-{name}"]
    found = low_bits(cases, PATCH_EPT, op, ad)
    assert {case.patches[0].level for case in cases} == {LEVELS[name]}
    # one that leaves an entry's rights and type as they are is the same case for every entry
    usual = {value for value in range(0x1000) if value & 0xFF in (7, 0x37, 0x37 | BIT_7)}
    assert found | usual == set(range(0x1000))


@pytest.mark.parametrize("name", ["pte", "pde", "pdpte"])
def test_all_low_bits_under_page_walks(everything: Generated, name: str) -> None:
    cases = [case for case in everything.chosen if case.group == f"walk-low-bits-{name}"]
    for op, ad in ((READ, 0), (WRITE, 0), (FETCH, AD)):
        assert len(low_bits(cases, PATCH_WALK, op, ad)) >= 0x1000 - 3


def test_a_part_has_something_of_every_group(everything: Generated) -> None:
    whole = Counter(case.group for case in everything.chosen)
    part = Counter(case.group for case in spread(everything.chosen, 20_000))
    assert set(part) == set(whole)
    assert 20_000 <= part.total() <= 20_000 + len(whole)
    assert all(
        part[group] >= count * 20_000 // part.total() // 20 for group, count in whole.items()
    )


def test_the_file_says_what_was_chosen(everything: Generated) -> None:
    scenario = build(500)
    assert {case.key for case in scenario.chosen} <= {case.key for case in everything.chosen}
    lines = case_lines(scenario.pack())
    assert len(lines) == len(scenario.chosen)
    for line, case in zip(lines, scenario.chosen):
        assert (line.linear, line.op, line.flags & ~PARK) == (case.linear, case.op, case.flags)
        assert [(patch.keep, patch.set, patch.space, patch.level) for patch in line.patches] == [
            (patch.keep, patch.set, patch.space, patch.level) for patch in case.patches
        ]
    assert [bool(line.flags & PARK) for line in lines] == [False] * (len(lines) - 1) + [True]
    assert {case.op for case in scenario.chosen} == set(range(INS + 1))
