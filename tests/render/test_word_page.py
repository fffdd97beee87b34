# SPDX-License-Identifier: GPL-2.0-or-later
"""A word, and an entry of KVM's own, decoded."""

from __future__ import annotations

from typing import Any

import pytest

from gdb_nept.arch.bits import Word
from gdb_nept.arch.controls import PrimaryControls
from gdb_nept.arch.ept import EptEntry, Eptp
from gdb_nept.arch.exits import ExitReason
from gdb_nept.arch.paging import Entry
from gdb_nept.arch.vmcs import Encoding
from gdb_nept.kvm.spte import decode_spte
from gdb_nept.kvm.spte_format import SINCE_5_13
from gdb_nept.render.meaning import meaning, problem
from gdb_nept.render.page import Page
from gdb_nept.render.spte import spte_in_words
from gdb_nept.render.word import spte_page, word_page
from tests.render.drawn import drawn


@pytest.mark.parametrize(
    ("value", "level", "said"),
    [
        (0, 1, "empty"),
        (0x0600000006000BF7, 2, "RWX; WB IPAT; accessed, dirty"),
        (0x0000000005403907, 4, "RWX; accessed"),
    ],
)
def test_sptes_in_words(value: int, level: int, said: str) -> None:
    assert spte_in_words(decode_spte(value, level, SINCE_5_13)) == said


def test_what_is_doubtful_about_the_format_of_sptes_is_told() -> None:
    page = spte_page(decode_spte(0x37, 1, SINCE_5_13), "6.1", ("a mask is strange",))
    assert "note: a mask is strange" in drawn(page)
    assert page.data["notes"] == ["a mask is strange"]


def test_an_spte_decoded() -> None:
    page = spte_page(decode_spte(0x0600000006000BF7, 2, SINCE_5_13), SINCE_5_13.name)
    text = drawn(page)
    assert "found as a PDE" in text
    assert "host_writable" in text
    assert page.data["kind"] == "spte"


@pytest.mark.parametrize(
    ("word", "level", "said"),
    [
        (EptEntry(0x337), 1, "a PTE that leads to the page of 4K at 0x0: RWX;"),
        (EptEntry(0x2000B7), 2, "a PDE that leads to the page of 2M at 0x200000"),
        (EptEntry(0x2107), 3, "a PDPTE that leads to the table at 0x2000"),
        (EptEntry(0x2100), 1, "a PTE, not present"),
        (ExitReason(48), 1, "EPT violation"),
        (Encoding(0x201A), 1, "EPT pointer"),
        (Eptp(0x105E), 1, "leads to an EPT of 4 levels, whose top table is at 0x1000"),
        (EptEntry(0x400), 1, "a PTE, present under mode-based execute control (MBEC) only, that"),
        (ExitReason(79), 1, "WRMSRLIST"),
        (ExitReason(84), 1, "RDMSR with immediate"),
    ],
)
def test_what_a_word_means(word: Word, level: int, said: str) -> None:
    assert meaning(word, level).startswith(said)
    assert bool(meaning(word, level)) == bool(said)


@pytest.mark.parametrize(
    ("word", "level", "width", "said"),
    [
        (EptEntry(6), 1, 52, "W is set without R (bits 0x2)"),
        (EptEntry(0x17), 1, 52, "memory type is reserved"),
        (EptEntry(4), 1, 52, ""),
        (EptEntry(1 << 45 | 0x37), 1, 40, "a reserved bit is set (bits 0x200000000000)"),
        (EptEntry(0), 1, 52, ""),
        (Eptp(0x1059), 1, 52, "memory type 1 is neither"),
        (Eptp(0x1018), 1, 52, ""),
        (PrimaryControls(0), 1, 52, "must be 1"),
        (Encoding(0x201B), 1, 52, ""),
        (Encoding(0x4013), 1, 52, "high half of a 32-bit field: it has none"),
        (Encoding(0xFFFF), 1, 52, "reserved bits are set: 0x9000"),
        (Entry(1 << 36 | 1), 1, 36, "bits beyond MAXPHYADDR (36) are set: 0x1000000000"),
        (Entry(1 << 36), 1, 36, ""),
    ],
)
def test_what_is_wrong_with_a_word(word: Word, level: int, width: int, said: str) -> None:
    assert said in problem(word, level, width)
    assert bool(problem(word, level, width)) == bool(said)


def test_what_is_wrong_leads_nowhere_and_names_nothing() -> None:
    assert "leads" not in meaning(EptEntry(6), 1, wrong=True)
    assert meaning(EptEntry(6), 1, wrong=True).endswith("its bits say: -WX; UC")
    assert meaning(Encoding(0x4013), 1, wrong=True) == ""


def test_flags_of_an_exit_reason_have_names() -> None:
    names = [row.name for row in ExitReason(1 << 25 | 1 << 26 | 48).named()]
    assert names == ["basic", "shadow_stack_busy", "bus_lock"]


def test_a_word_bit_by_bit() -> None:
    page = word_page("ept", EptEntry(6), "meaning", "wrong")
    text = drawn(page)
    assert text.startswith("EPT entry 0x6\nproblem: wrong\nmeaning\n")
    assert [row["name"] for row in fields(page)] == ["write", "execute"]
    everything = word_page("ept", EptEntry(6), zeros=True)
    assert len(fields(everything)) == len(EptEntry.fields())


def fields(page: Page) -> list[Any]:
    found = page.data["fields"]
    assert isinstance(found, list)
    return found
