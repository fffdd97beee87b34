# SPDX-License-Identifier: GPL-2.0-or-later
"""Words: every bit named once, and what that gives."""

from __future__ import annotations

import pytest

from gdb_nept.arch import cpu, ept, exits, vmcs
from gdb_nept.arch.bits import Word

WORDS = [
    value
    for module in (cpu, ept, exits)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Word) and value is not Word
]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.__name__)
def test_no_two_fields_of_a_word_overlap(word: type[Word]) -> None:
    seen = 0
    for field in word.fields():
        assert not seen & field.mask, field.name
        seen |= field.mask
    assert seen, "a word without a field says nothing"


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.__name__)
def test_every_field_and_word_has_words_for_a_reader(word: type[Word]) -> None:
    assert word.title
    assert all(field.meaning and field.short for field in word.fields())


def test_an_address_keeps_its_place() -> None:
    assert ept.Eptp(0x123456705E).address == 0x1234567000
    assert ept.Eptp.build(address=0x1234567000, memory_type=6, walk_length=3) == 0x123456701E


def test_bits_without_a_name_are_not_lost() -> None:
    rows = ept.Eptp(0x105E | 1 << 60).named()
    assert [row.name for row in rows] == [
        "memory_type",
        "walk_length",
        "accessed_dirty",
        "address",
        "other",
    ]
    assert rows[-1].number == 1 << 60


def test_building_with_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(KeyError):
        ept.Eptp.build(adress=0x1000)


def test_a_zero_that_says_something_is_shown() -> None:
    assert next(row.name for row in ept.Eptp(0x1018).named()) == "memory_type"
    assert [row.number for row in vmcs.Encoding(0).named()] == [0, 0, 0, 0]
    assert {name for word in WORDS for name in word.zero_says} <= {
        field.name for word in WORDS for field in word.fields()
    }
