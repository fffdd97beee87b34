# SPDX-License-Identifier: GPL-2.0-or-later
"""VMCS encodings and control words."""

from __future__ import annotations

import pytest

from gdb_nept.arch.controls import (
    Controls,
    EntryControls,
    ExitControls,
    PinControls,
    PrimaryControls,
    SecondaryControls,
    SecondaryExitControls,
    TertiaryControls,
)
from gdb_nept.arch.vmcs import RUNS, Encoding, field_name, field_names

WORDS: list[type[Controls]] = [
    PinControls,
    PrimaryControls,
    SecondaryControls,
    TertiaryControls,
    ExitControls,
    SecondaryExitControls,
    EntryControls,
]


@pytest.mark.parametrize(
    ("encoding", "width", "kind", "index", "size", "name"),
    [
        (0x0000, "16-bit", "control", 0, 2, "VPID"),
        (0x080C, "16-bit", "guest state", 6, 2, "guest LDTR selector"),
        (0x201A, "64-bit", "control", 13, 8, "EPT pointer"),
        (0x2400, "64-bit", "read-only data", 0, 8, "guest-physical address"),
        (0x2C04, "64-bit", "host state", 2, 8, "host IA32_PERF_GLOBAL_CTRL"),
        (
            0x401E,
            "32-bit",
            "control",
            15,
            4,
            "secondary processor-based VM-execution controls",
        ),
        (0x4402, "32-bit", "read-only data", 1, 4, "exit reason"),
        (0x482E, "32-bit", "guest state", 23, 4, "VMX-preemption timer value"),
        (0x6400, "natural-width", "read-only data", 0, 8, "exit qualification"),
        (0x681E, "natural-width", "guest state", 15, 8, "guest RIP"),
        (0x6C16, "natural-width", "host state", 11, 8, "host RIP"),
        (0x0008, "16-bit", "control", 4, 2, "last PID-pointer index"),
        (0x000A, "16-bit", "control", 5, 2, "virtual timer vector"),
        (0x203C, "64-bit", "control", 30, 8, "SEAM shared EPT pointer"),
        (0x2040, "64-bit", "control", 32, 8, "HLAT pointer (HLATP)"),
        (0x2044, "64-bit", "control", 34, 8, "secondary VM-exit controls"),
        (0x204C, "64-bit", "control", 38, 8, "IA32_SPEC_CTRL shadow"),
        (0x2052, "64-bit", "control", 41, 8, "injected-event data"),
        (0x2404, "64-bit", "read-only data", 2, 8, "original-event data"),
        (0x281A, "64-bit", "guest state", 13, 8, "guest IA32_FRED_CONFIG"),
        (0x2828, "64-bit", "guest state", 20, 8, "guest IA32_FRED_SSP3"),
        (0x2C16, "64-bit", "host state", 11, 8, "host IA32_FRED_SSP3"),
        (0x2C1A, "64-bit", "host state", 13, 8, "host IA32_SPEC_CTRL"),
        (0x4026, "32-bit", "control", 19, 4, "SEAM-guest KeyID"),
    ],
)
def test_what_an_encoding_says(
    encoding: int, width: str, kind: str, index: int, size: int, name: str
) -> None:
    word = Encoding(encoding)
    assert (word.width_name, word.type_name, word.index, word.size) == (width, kind, index, size)
    assert field_name(encoding) == name
    assert word.problem == ""


def test_high_half_of_a_64_bit_field() -> None:
    assert Encoding(0x201B).size == 4
    assert field_name(0x201B) == "EPT pointer (high 32 bits)"


def test_reserved_bits_and_lone_high_halves_are_not_valid() -> None:
    assert Encoding(0x201A | 1 << 12).problem == "reserved bits are set: 0x1000"
    assert Encoding(0x201A | 1 << 15).problem == "reserved bits are set: 0x8000"
    assert "high half of a 32-bit field" in Encoding(0x4403).problem


def test_an_unknown_field_is_described() -> None:
    assert field_name(0x20FE) == "64-bit control field 127"


def test_no_encoding_and_no_name_twice() -> None:
    names = [name for run in RUNS for name in run.names]
    assert len(field_names()) == len(names) == len(set(names))


def test_all_named_fields_have_valid_encodings_and_stay_in_their_group() -> None:
    for run in RUNS:
        first, last = Encoding(run.first), Encoding(run.first + 2 * (len(run.names) - 1))
        assert not first.problem
        assert not last.problem
        assert (first.width, first.type) == (last.width, last.type)


@pytest.mark.parametrize("word", WORDS)
def test_control_bits_do_not_overlap(word: type[Controls]) -> None:
    taken = 0
    for field in word.fields():
        assert not taken & field.mask
        taken |= field.mask
    assert taken < 1 << 32  # of the tertiary and secondary exit controls, no higher one is named


@pytest.mark.parametrize("word", WORDS)
def test_bits_that_must_be_1_are_not_shown_but_missed(word: type[Controls]) -> None:
    reserved = word.reserved_one()
    assert word(reserved).named() == ()
    assert word(reserved).missing_default1 == 0
    assert word(0).missing_default1 == reserved


def test_named_bits_of_default1_are_shown() -> None:
    names = {row.name for row in PrimaryControls(PrimaryControls.default1).named()}
    assert names == {"cr3_load_exiting", "cr3_store_exiting"}


def test_secondary_controls_by_name() -> None:
    word = SecondaryControls(1 << 1 | 1 << 5 | 1 << 22)
    assert [row.name for row in word.named()] == ["ept", "vpid", "mode_based_execute"]
