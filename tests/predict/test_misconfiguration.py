# SPDX-License-Identifier: GPL-2.0-or-later
"""Misconfigurations, and what comes first.  SDM vol. 3, June 2026 (325384-092): 31.3.3.1."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.arch.exits import EPT_MISCONFIGURATION
from gdb_nept.predict.access import Op
from gdb_nept.predict.hardware import predict
from gdb_nept.predict.outcome import Outcome
from tests.predict.tables import (
    CPU,
    FETCH,
    GPA,
    LARGE,
    WRITE,
    XU,
    Path,
    R,
    W,
    X,
    ask,
    to,
    with_cap,
)


@pytest.mark.parametrize(
    ("level", "bits"),
    [
        *((level, 1 << bit) for level in (4, 3, 2) for bit in (3, 4, 5, 6)),
        (4, LARGE),
        *((level, 1 << bit) for level in (4, 3, 2, 1) for bit in (39, 45, 51)),
    ],
)
def test_reserved_bits(level: int, bits: int) -> None:
    found = ask(Path(extra={level: bits}), to())
    assert (found.reason, found.qualification) == (EPT_MISCONFIGURATION, 0)
    assert (found.gpa, found.gla) == (GPA, None)
    assert f"{bits:#x}" in found.change


@pytest.mark.parametrize("kind", [2 << 3, 3 << 3, 7 << 3])
@pytest.mark.parametrize("leaf", [1, 2, 3])
def test_reserved_memory_types(kind: int, leaf: int) -> None:
    path = Path(leaf)
    words = path.words
    place = path.place(leaf)
    words[place] = words[place] & ~(7 << 3) | kind
    found = predict(type(path.memory)(words), path.eptp, to(), CPU)
    assert found.outcome is Outcome.MISCONFIG


@pytest.mark.parametrize(("leaf", "bit"), [(2, 12), (2, 20), (3, 12), (3, 29)])
def test_the_low_address_bits_of_a_large_page_are_reserved(leaf: int, bit: int) -> None:
    assert ask(Path(leaf, extra={leaf: 1 << bit}), to()).outcome is Outcome.MISCONFIG


@pytest.mark.parametrize(("leaf", "cap"), [(2, "page_2m"), (3, "page_1g")])
def test_large_pages_need_their_capability(leaf: int, cap: str) -> None:
    found = ask(Path(leaf), to(), with_cap(CPU, **{cap: 0}))
    assert found.outcome is Outcome.MISCONFIG
    assert f"{LARGE | 6 << 3:#x}" in found.change  # its memory type is reserved then, too


def test_execute_only_needs_its_capability() -> None:
    without = with_cap(execute_only=0)
    assert ask(Path(rights={1: X}), to(FETCH), without).outcome is Outcome.MISCONFIG
    user = replace(without, mbec=True)
    found = ask(Path(rights={1: XU}), to(FETCH), user)
    assert found.outcome is Outcome.MISCONFIG
    assert f"{XU:#x}" in found.change
    assert ask(Path(rights={1: XU}), to(FETCH)).outcome is Outcome.VIOLATION  # absent without MBEC


@pytest.mark.parametrize("bit", [8, 9, 10, 11, *range(52, 64)])
@pytest.mark.parametrize("level", [4, 3, 2, 1])
def test_ignored_bits_are_ignored(level: int, bit: int) -> None:
    assert ask(Path(extra={level: 1 << bit}), to(Op.RMW)).outcome is Outcome.TRANSLATED


def test_bit_7_of_a_pte_is_ignored() -> None:
    assert ask(Path(extra={1: LARGE}), to()).outcome is Outcome.TRANSLATED


def test_a_misconfiguration_below_wins_over_a_missing_right_above() -> None:
    assert ask(Path(rights={4: R, 1: W}), to(WRITE)).outcome is Outcome.MISCONFIG


def test_a_hole_above_wins_over_a_misconfiguration_below() -> None:
    found = ask(Path(rights={3: 0, 1: W}), to(WRITE))
    assert (found.outcome, found.qualification) == (Outcome.VIOLATION, 0x182)


def test_an_absent_entry_has_no_reserved_bits() -> None:
    assert ask(Path(rights={2: 0}, extra={2: 0x78}), to()).outcome is Outcome.VIOLATION
