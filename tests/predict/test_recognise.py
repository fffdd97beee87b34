# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers in the place of a qualification: those that a processor writes, and those of 2012."""

from __future__ import annotations

import pytest

from gdb_nept.predict.access import Op, Stage
from gdb_nept.predict.outcome import Outcome
from gdb_nept.predict.recognise import error_code, impossible, in_words
from tests.predict.tables import RWX, Path, R, W, X, ask, to


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0x0, "bits 2:0 are 0"),
        (0x2, "bit 7 is clear"),
        (0x3, "bit 7 is clear"),
        (0x6, "a fetch together with data"),
        (0x9, "allow the very access"),
        (0xB, "bit 7 is clear"),
        (0x11, "W without R"),
        (0x185, "a fetch together with data"),
        (0x101, "bit 8 says more"),
        (0x19B, "allow the very access"),
    ],
)
def test_what_no_processor_writes(value: int, says: str) -> None:
    assert any(says in reason for reason in impossible(value))


@pytest.mark.parametrize("op", Op)
@pytest.mark.parametrize("stage", Stage)
def test_every_prediction_of_the_sdm_is_possible(op: Op, stage: Stage) -> None:
    for rights in (0, R, R | W, R | X, X, RWX):
        for ad in (False, True):
            found = ask(Path(rights={1: rights}, ad=ad), to(op, stage))
            if found.outcome is Outcome.VIOLATION:
                assert impossible(found.qualification) == ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0x0, "read, an entry is not present"),
        (0x2, "write, an entry is not present"),
        (0x3, "write, a right is missing"),
        (0x1, "read (or fetch"),
        (0x11, "fetch, a right is missing"),
        (0x9, "a reserved bit is set"),
        (0xB, "write, a reserved bit is set"),
        (0x6, "write, an entry is not present"),
    ],
)
def test_error_codes_of_2012_are_recognised(value: int, says: str) -> None:
    assert says in error_code(value)
    assert "v2-2012" in error_code(value)


@pytest.mark.parametrize("value", [0x181, 0x182, 0x1AA, 0x19C, 0x81, 0x83, 0x21, 0x18A])
def test_qualifications_are_not_taken_for_error_codes(value: int) -> None:
    assert (error_code(value), impossible(value)) == ("", ())


def test_every_code_of_the_2012_model_is_recognised() -> None:
    for rights in (0, R, R | W, R | X, X, RWX):
        for op in (Op.READ, Op.WRITE, Op.FETCH):
            found = ask(Path(rights={1: rights}), to(op), by="v2-2012")
            if found.outcome is Outcome.VIOLATION:
                assert error_code(found.qualification)


def test_in_words() -> None:
    assert in_words(0x1AA) == (
        "a data write at the translation of a linear address; the entries used allow RX"
    )
    assert "guest paging-structure entry" in in_words(0x83)
    assert "PDPTE" in in_words(0x1)
