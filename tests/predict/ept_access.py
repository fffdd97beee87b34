# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix of kvm-unit-tests' ept_access tests (x86/vmx_tests.c, ept_access_test_*) as
requests: which rights at which level, with and without large pages and MBEC, for which access.

What must come of each row is computed here, from the manual's rules, over plain numbers: SDM
vol. 3, June 2026, 31.3.2 (presence), 31.3.3.1 (misconfigurations), 31.3.3.2 (rights), table 30-7
(exit qualification).  Nothing of the program takes part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

R, W, X, XU = 1, 2, 4, 1 << 10
LARGE, WB, ACCESSED, DIRTY = 1 << 7, 6 << 3, 1 << 8, 1 << 9
CAPS, EXECUTE_ONLY = 0xF0106734140, 1
WIDTH = 40
GPA, GLA = 1 << 39, 0x5108
TABLES = {4: 0x1008, 3: 0x2000, 2: 0x3000, 1: 0x4000}  # of the entries on the way to GPA
PAGE = 1 << 30
PLACES = ((1, False), (2, False), (2, True), (3, False), (3, True), (4, False))
VIOLATION, MISCONFIG = 48, 49
READ, WRITE, FETCH = R, W, X  # bits 2:0 of the qualification
LINEAR, FINAL, USER = 1 << 7, 1 << 8, 1 << 9
EPTP, FLAGS = 0x101E, 1 << 6


@dataclass(frozen=True)
class Row:
    """One access; `reason` None where it goes through.  `left_open`: bits of the qualification of
    which the manual does not say what they are; `flags`: whether EPT's own, for accessed and
    dirty, are in use."""

    name: str
    request: dict[str, Any]
    reason: int | None
    qualification: int = 0
    mbec: bool = False
    left_open: int = 0
    flags: bool = False


def rows() -> Iterator[Row]:
    yield from _rights()
    yield from _reserved_bits()
    yield from _ignored_bits()
    yield from _page_tables()


# -- rights of one entry on the way --------------------------------------------------------------

ACCESSES = (
    ("read", False, READ, R),
    ("write", False, WRITE, W),
    ("fetch", False, FETCH, X),
    ("fetch", True, FETCH, X),
)


def _rights() -> Iterator[Row]:
    """What is allowed does not depend on EPT's accessed and dirty flags."""
    axes = product(PLACES, (False, True), (0, EXECUTE_ONLY), (False, True))
    for (level, large), mbec, caps, flags in axes:
        for rights, (op, user, kind, needed) in product(range(16 if mbec else 8), ACCESSES):
            word = rights & 7 | (XU if rights & 8 else 0)
            right = XU if mbec and op == "fetch" and user else needed
            name = f"{rights:04b} at {level}{' large' if large else ''}, {op}, user {user}"
            found = _judged(word, mbec, bool(caps), kind, right)
            if found[0] == VIOLATION and user:  # CAPS has advanced VM-exit information
                found = VIOLATION, found[1] | USER
            tables = _tables({level: word}, level if large else 1)
            asked = _request(tables, CAPS | caps, mbec, EPTP | (FLAGS if flags else 0))
            asked["access"] = {"gpa": hex(GPA), "op": op, "user": user, "gla": hex(GLA)}
            name = f"{name}, MBEC {mbec}, caps {caps}, A/D {flags}"
            yield Row(name, asked, *found, mbec, flags=flags)


def _judged(
    word: int, mbec: bool, execute_only: bool, kind: int, right: int
) -> tuple[int | None, int]:
    """Reason and qualification, all other entries giving every right."""
    executes = X | XU if mbec else X
    if not word & (R | W | executes):
        return VIOLATION, kind | LINEAR | FINAL
    if not word & R and (word & W or (word & executes and not execute_only)):
        return MISCONFIG, 0
    if word & right:
        return None, 0
    user = 1 << 6 if mbec and word & XU else 0
    return VIOLATION, kind | (word & 7) << 3 | user | LINEAR | FINAL


# -- bits ----------------------------------------------------------------------------------------


def _reserved_bits() -> Iterator[Row]:
    """Set in a present entry: a misconfiguration; in one that is not present: ignored."""
    for level, large, bit in _reserved():
        for word, reason, qualification in (
            (R | W | X | XU | 1 << bit, MISCONFIG, 0),
            (1 << bit, VIOLATION, READ | LINEAR | FINAL),
        ):
            asked = _request(_tables({level: word}, level if large else 1), CAPS | 1, False)
            asked["access"] = {"gpa": hex(GPA), "op": "read", "user": False, "gla": hex(GLA)}
            yield Row(f"bit {bit} at {level}, {word:#x}", asked, reason, qualification)


def _reserved() -> Iterator[tuple[int, bool, int]]:
    for level, large in PLACES:
        yield from ((level, large, bit) for bit in range(WIDTH, 52))
    for level in (2, 3, 4):
        yield from ((level, False, bit) for bit in (3, 4, 5, 6))
    yield 4, False, 7
    yield from ((2, True, bit) for bit in range(12, 21))
    yield from ((3, True, bit) for bit in range(12, 30))


def _ignored_bits() -> Iterator[Row]:
    for level, large in PLACES:
        for bit in (8, 9, 10, 11, *range(52, 64)):
            for op, user, *_ in ACCESSES[:3]:
                for word in (R | W | X | 1 << bit, R | W | X):
                    asked = _request(_tables({level: word}, level if large else 1), CAPS | 1, False)
                    access = {"gpa": hex(GPA), "op": op, "user": user, "gla": hex(GLA)}
                    yield Row(f"ignored bit {bit} at {level}", {**asked, "access": access}, None)


# -- the page that holds L2's own page tables ------------------------------------------------------


def _page_tables() -> Iterator[Row]:
    """Read to translate, and updated where a flag of L2's own must be set: with A/D flags of EPT on
    every such access is a write (31.3.5); 31.3.3.2 and bit 1's note in table 30-7."""
    for rights, mbec, flags, update in product(range(8), (False, True), (0, FLAGS), (False, True)):
        word = rights | (XU if mbec and rights & X else 0)
        kind = READ | WRITE if flags or update else READ
        reason, qualification = _table_access(word, kind)
        asked = _request(_tables({1: word}, 1), CAPS | EXECUTE_ONLY, mbec, EPTP | flags)
        asked["access"] = {
            "gpa": hex(GPA), "op": "rmw" if update else "read", "stage": "walk", "gla": hex(GLA)
        }  # fmt: skip
        user = 1 << 6 if mbec and word & XU and reason == VIOLATION else 0
        name = f"page table {rights:03b}, update {update}, A/D {bool(flags)}, MBEC {mbec}"
        # without A/D flags of EPT an update is a data write: footnote 1 of table 30-7
        left_open = READ if update and not flags else 0
        yield Row(name, asked, reason, qualification | user, mbec, left_open, bool(flags))


def _table_access(word: int, kind: int) -> tuple[int | None, int]:
    rights = word & 7
    if not rights:
        return VIOLATION, kind | LINEAR
    if rights & (R | W) == W:
        return MISCONFIG, 0
    if not kind & ~rights:
        return None, 0
    return VIOLATION, kind | rights << 3 | LINEAR


# -- requests ------------------------------------------------------------------------------------


def _tables(changed: dict[int, int], leaf: int) -> dict[str, str]:
    """The way to GPA: every right at each level, but for what is `changed`."""
    words = {}
    for level in range(4, leaf - 1, -1):
        rights = changed.get(level, R | W | X | XU)
        if level == leaf:
            word = PAGE | WB | (LARGE if level > 1 else 0)
        else:
            word = TABLES[level - 1] & ~0xFFF
        words[hex(TABLES[level])] = hex(word | rights)
    return words


def _request(memory: dict[str, str], caps: int, mbec: bool, eptp: int = EPTP) -> dict[str, Any]:
    return {
        "eptp": hex(eptp),
        "ept_caps": hex(caps),
        "maxphyaddr": WIDTH,
        "mbec": mbec,
        "memory": memory,
    }
