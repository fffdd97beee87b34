# SPDX-License-Identifier: GPL-2.0-or-later
"""kvm-unit-tests' matrix of ept_access, by the manual's processor and by a KVM that offers MBEC."""

from __future__ import annotations

import json

import pytest

from gdb_nept.predict.model import model
from gdb_nept.predict.request import answer_lines
from tests.predict.ept_access import MISCONFIG, VIOLATION, XU, Row, rows

ROWS = list(rows())
ALWAYS_DEFINED = 0x1BF  # bits 8:7 and 5:0 of the qualification of a violation
WHOLE = (1 << 64) - 1


def test_the_matrix_has_every_row() -> None:
    rights = [row for row in ROWS if " at " in row.name and "caps 1" in row.name]
    assert len(rights) == 576
    for mbec in (False, True):
        reasons = {row.reason for row in rights if row.mbec is mbec}
        assert reasons == {None, VIOLATION, MISCONFIG}


@pytest.mark.parametrize("name", ["sdm", "kvm-7.2"])
def test_every_row_is_as_the_manual_says(name: str) -> None:
    answers = answer_lines((json.dumps(row.request) for row in ROWS), model(name))
    wrong = [
        (row, answer)
        for row, answer in zip(ROWS, map(json.loads, answers))
        if "error" in answer or problem(row, answer)
    ]
    assert not wrong, (len(wrong), len(ROWS), wrong[0])


def problem(row: Row, answer: dict[str, object]) -> str:
    """What is wrong with an answer, or ''."""
    if answer["exit_reason"] != row.reason:
        return f"reason {answer['exit_reason']}"
    if row.reason is None:
        return "" if answer["outcome"] == "translated" else str(answer["outcome"])
    mask = int(str(answer["qualification_mask"]), 0)
    found = int(str(answer["exit_qualification"]), 0)
    defined = WHOLE if row.reason == MISCONFIG else ALWAYS_DEFINED | (1 << 6 if row.mbec else 0)
    if row.reason == VIOLATION and defined & ~mask & ~row.left_open:
        return f"mask {mask:#x} leaves bits out that are defined"
    differing = (found ^ row.qualification) & mask
    return f"qualification {found:#x}, not {row.qualification:#x}" if differing else ""


def test_a_wrong_answer_would_be_seen() -> None:
    row = next(row for row in ROWS if row.reason == VIOLATION and row.mbec)
    right = {
        "exit_reason": VIOLATION,
        "qualification_mask": hex(ALWAYS_DEFINED | 1 << 6),
        "exit_qualification": hex(row.qualification),
    }
    assert not problem(row, right)
    for bit in (0, 3, 6, 7, 8):
        wrong = {**right, "exit_qualification": hex(row.qualification ^ 1 << bit)}
        assert "qualification" in problem(row, wrong)
    assert "mask" in problem(row, {**right, "qualification_mask": hex(ALWAYS_DEFINED)})
    assert "reason" in problem(row, {**right, "exit_reason": MISCONFIG})
    assert XU == 1 << 10
