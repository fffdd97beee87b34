# SPDX-License-Identifier: GPL-2.0-or-later
"""kvm-unit-tests' matrix of ept_access, by the manual's processor and by a KVM that offers MBEC."""

from __future__ import annotations

import json
from itertools import product

import pytest

from gdb_nept.predict.model import model
from gdb_nept.predict.request import answer_lines
from tests.predict.ept_access import FINAL, MISCONFIG, READ, USER, VIOLATION, Row, rows

ROWS = list(rows())
ALWAYS_DEFINED = 0x1BF  # bits 8:7 and 5:0 of the qualification of a violation
WHOLE = (1 << 64) - 1

#: Whether a model may leave open what the manual leaves open, and what says so.
OPEN = {
    "sdm": (True, "table 30-7, footnote 1: bit 0 of a read-modify-write"),
    "kvm-7.2": (
        False,
        "mmu/paging_tmpl.h walk_addr_generic(): EPT_VIOLATION_ACC_READ wherever the access has "
        "PFERR_GUEST_PAGE_MASK",
    ),
}


def test_the_matrix_has_every_row() -> None:
    rights = [row for row in ROWS if " at " in row.name and "caps 1" in row.name]
    assert len(rights) == 2 * 576
    for mbec, flags in product((False, True), repeat=2):
        of_both = [row for row in rights if (row.mbec, row.flags) == (mbec, flags)]
        assert len(of_both) == (384 if mbec else 192)
        assert {row.reason for row in of_both} == {None, VIOLATION, MISCONFIG}


@pytest.mark.parametrize("name", OPEN)
def test_every_row_is_as_the_manual_says(name: str) -> None:
    requests = (json.dumps(row.request) for row in ROWS)
    answers = list(map(json.loads, answer_lines(requests, model(name))))
    assert len(answers) == len(ROWS)
    wrong = [
        (row, answer)
        for row, answer in zip(ROWS, answers)
        if "error" in answer or problem(row, answer, name)
    ]
    assert not wrong, (len(wrong), len(ROWS), wrong[0])


def problem(row: Row, answer: dict[str, object], name: str) -> str:
    """What is wrong with an answer, or ''."""
    if answer["exit_reason"] != row.reason:
        return f"reason {answer['exit_reason']}"
    if row.reason is None:
        return "" if answer["outcome"] == "translated" else str(answer["outcome"])
    mask = int(str(answer["qualification_mask"]), 0)
    found = int(str(answer["exit_qualification"]), 0)
    if missing := _defined(row, name) & ~mask:
        return f"mask {mask:#x} leaves bits {missing:#x} out that are defined"
    differing = (found ^ row.qualification) & mask
    return f"qualification {found:#x}, not {row.qualification:#x}" if differing else ""


def _defined(row: Row, name: str) -> int:
    """Bit 9, user-mode linear address, is told of each access to a translated address, for CAPS
    has advanced VM-exit information."""
    if row.reason == MISCONFIG:
        return WHOLE
    told = (USER if row.qualification & FINAL else 0) | (1 << 6 if row.mbec else 0)
    may_leave_open, _ = OPEN[name]
    return (ALWAYS_DEFINED | told) & ~(row.left_open if may_leave_open else 0)


def answer_to(row: Row, **changed: str | int) -> dict[str, object]:
    """The right one, but for what is `changed`."""
    mask = _defined(row, "kvm-7.2")
    right = {
        "exit_reason": row.reason,
        "qualification_mask": hex(mask),
        "exit_qualification": hex(row.qualification),
    }
    return {**right, **changed}


@pytest.mark.parametrize("name", OPEN)
def test_a_wrong_answer_would_be_seen(name: str) -> None:
    row = next(row for row in ROWS if row.reason == VIOLATION and row.mbec)
    assert not problem(row, answer_to(row), name)
    for bit in (0, 3, 6, 7, 8, 9):
        wrong = answer_to(row, exit_qualification=hex(row.qualification ^ 1 << bit))
        assert "qualification" in problem(row, wrong, name)
        missing = hex(_defined(row, name) & ~(1 << bit))
        assert "mask" in problem(row, answer_to(row, qualification_mask=missing), name)
    assert "reason" in problem(row, answer_to(row, exit_reason=MISCONFIG), name)


def test_only_the_manual_leaves_bit_0_open() -> None:
    """The bit is set in what kvm-7.2 tells, and must be there."""
    row = next(row for row in ROWS if row.left_open and row.reason == VIOLATION)
    assert row.left_open == READ
    assert row.qualification & READ
    without = answer_to(row, qualification_mask=hex(_defined(row, "sdm")))
    assert not problem(row, without, "sdm")
    assert "mask" in problem(row, without, "kvm-7.2")
