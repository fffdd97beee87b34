# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-decode on words out of public reports (tests/data/reports), and on others of their kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.__main__ import main

REPORTS = Path(__file__).parents[1] / "data" / "reports" / "decode.jsonl"
CASES = [json.loads(line) for line in REPORTS.read_text().splitlines()]


def decoded(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["decode", "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_words_of_reports(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    found, wanted = decoded(capsys, *case["input"]), case["expected"]
    if "problem" in wanted:
        assert bool(found["problem"]) is (wanted["problem"] == "some")
    assert wanted.get("problem_has", "") in (found["problem"] or "")
    assert wanted.get("meaning_has", "") in (found["meaning"] or "")


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [
        ("tertiary-controls", 1 << 1, "hlat"),
        ("tertiary-controls", 1 << 2, "paging_write"),
        ("tertiary-controls", 1 << 3, "verify_guest_paging"),
        ("tertiary-controls", 1 << 4, "ipi_virtualization"),
        ("tertiary-controls", 1 << 12, "pebs_guest_physical"),
        ("secondary-exit-controls", 1 << 0, "save_fred"),
        ("secondary-exit-controls", 1 << 3, "busy_shadow_stack"),
        ("entry-controls", 1 << 23 | 0x11FF, "load_fred"),
        ("ept-vpid-cap", 1 << 48, "hlat_prefix_size"),
    ],
)
def test_bits_that_have_a_name(
    kind: str, value: int, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = decoded(capsys, kind, hex(value))
    assert name in [field["name"] for field in found["fields"]]
    assert "other" not in [field["name"] for field in found["fields"]]


def test_a_bit_without_a_name_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = decoded(capsys, "tertiary-controls", "0x400")
    assert [field["name"] for field in found["fields"]] == ["other"]


def test_what_kvm_refuses_beyond_the_manual(capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("0x109e", "0x1018"):
        found = decoded(capsys, "eptp", value)
        assert found["problem"] is None
        assert "KVM refuses it" in found["meaning"]
    assert "KVM" not in decoded(capsys, "eptp", "0x105e")["meaning"]
