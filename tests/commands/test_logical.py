# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from gdb_nept.commands.numbers import Usage, logical, plain_number


@pytest.mark.parametrize(
    ("written", "segment", "number"),
    [
        ("0x1000", "", 0x1000),
        ("gs:0x10", "gs", 0x10),
        ("F000:0xfff0", "F000", 0xFFF0),
        ("0xf000:16", "0xf000", 16),
    ],
)
def test_an_address_with_and_without_a_segment(written: str, segment: str, number: int) -> None:
    found = logical(written, plain_number)
    assert (found.segment, int(found)) == (segment, number)


def test_what_is_no_segment_is_left_to_gdb() -> None:
    expressions = ["kvm::x", "a ? b : c", "xs:1", "12345:0"]
    for expression in expressions:
        with pytest.raises(Usage):
            logical(expression, plain_number)
