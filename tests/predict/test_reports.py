# SPDX-License-Identifier: GPL-2.0-or-later
"""Cases out of public reports, commits and self-tests of hypervisors (tests/data/reports).

Each line has the request, the model, what the answer must be, why, and where that is from.  `only`
is a mask for the comparison of the qualification, which `mask_ignore` leaves out; `mask_without`
are bits that must not be claimed to be known.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.predict.model import model
from gdb_nept.predict.request import answer_lines

REPORTS = Path(__file__).parents[1] / "data" / "reports" / "predict.jsonl"
CASES = [json.loads(line) for line in REPORTS.read_text().splitlines()]

#: Answered wrongly still; each fails here as soon as it is right.
WRONG: set[str] = set()

#: Requests that leave out what the report is about, and so can have no right answer; each with its
#: companion, which says it.
INCOMPLETE = {"kvm-6.1-table-in-no-memslot": "kvm-6.1-table-in-no-memslot-said"}


def parameters() -> list[Any]:
    return [
        pytest.param(
            case,
            id=case["name"],
            marks=pytest.mark.xfail(strict=True, reason="not mended yet")
            if case["name"] in WRONG
            else (),
        )
        for case in CASES
        if case["name"] not in INCOMPLETE
    ]


@pytest.mark.parametrize("case", parameters())
def test_the_answer_is_what_the_report_says(case: dict[str, Any]) -> None:
    single = isinstance(case["input"], dict)
    requests = [case["input"]] if single else case["input"]
    expected = [case["expected"]] if single else case["expected"]
    answers = list(answer_lines(map(json.dumps, requests), model(case["model"])))
    assert len(answers) == len(expected)
    for request, answer, wanted in zip(requests, answers, expected):
        problems = list(differences(json.loads(answer), wanted))
        assert not problems, (request, problems)


@pytest.mark.parametrize(("name", "companion"), INCOMPLETE.items())
def test_an_incomplete_request_has_a_companion(name: str, companion: str) -> None:
    """The same request and the same answer, but for the key that the first lacks."""
    first, second = (next(c for c in CASES if c["name"] == each) for each in (name, companion))
    lacking = {key: value for key, value in second["input"].items() if key != "unmapped"}
    assert (lacking, second["expected"]) == (first["input"], first["expected"])
    assert second["input"]["unmapped"]


def differences(answer: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What in `answer` is not as `wanted`."""
    found = [
        f"{key} is {answer.get(key)!r}"
        for key in ("outcome", "exit_reason")
        if key in wanted and answer.get(key) != wanted[key]
    ]
    if answer.get("outcome") == wanted.get("outcome_not", ""):
        found.append(f"outcome is {answer['outcome']}")
    if "outcome_in" in wanted and answer.get("outcome") not in wanted["outcome_in"]:
        found.append(f"outcome is {answer.get('outcome')}")
    if "entry_failure" in wanted and not answer.get("entry_failure"):
        found.append("no entry_failure")
    if wanted.get("why_has", "") not in answer.get("why", ""):
        found.append(f"why is {answer.get('why')!r}")
    mask = int(answer.get("qualification_mask") or "0", 0)
    if mask & int(wanted.get("mask_without", "0"), 0):
        found.append(f"mask is {mask:#x}")
    if "qualification" in wanted and not wanted.get("mask_ignore"):
        mask &= int(wanted.get("only", hex((1 << 64) - 1)), 0)
        got = int(answer["exit_qualification"] or "0", 0)
        if (got ^ wanted["qualification"]) & mask:
            found.append(f"qualification is {got:#x}, mask {mask:#x}")
    return found
