# SPDX-License-Identifier: GPL-2.0-or-later
"""What one command may look at, and what is told where that is not all."""

from __future__ import annotations

import pytest

from gdb_nept.memory.budget import (
    FIELDS,
    Budget,
    NotLookedAt,
    charge,
    current,
    out_of_fields,
    renew,
    within,
)


def small(fields: int) -> Budget:
    budget = Budget()
    budget.most_fields = fields
    return budget


def test_outside_of_a_command_nothing_is_charged() -> None:
    assert current() is None
    charge(0, 8, FIELDS + 1)
    assert out_of_fields() == ""


def test_fields_are_charged_to_the_command_that_reads_them() -> None:
    with within(small(3)) as budget:
        charge(0x1000, 8, 2)
        charge(0x1000, 8)
        assert not budget.ran_out
        with pytest.raises(NotLookedAt, match="not looked at: after 3 fields of structures"):
            charge(0x1000, 8)
        assert budget.ran_out
        assert out_of_fields() == budget.fields_ran_out
    assert current() is None


def test_once_dry_nothing_smaller_passes() -> None:
    """What is shown is a beginning, without gaps."""
    with within(small(10)):
        with pytest.raises(NotLookedAt):
            charge(0, 8, 11)
        with pytest.raises(NotLookedAt):
            charge(0, 8)


def test_the_next_question_has_as_much_and_what_ran_out_stays_told() -> None:
    with within(small(1)) as budget:
        charge(0, 8)
        with pytest.raises(NotLookedAt):
            charge(0, 8)
        renew()
        charge(0, 8)
        assert budget.ran_out
        assert out_of_fields() == ""


def test_a_larger_limit_is_for_structures_too_and_a_smaller_is_not() -> None:
    """`ept --limit 512` must still find its vCPU."""
    assert Budget(512).most_fields == FIELDS
    assert Budget(1 << 26).most_fields == 1 << 22


def test_the_advice_leads_to_more() -> None:
    budget = small(FIELDS)
    with within(budget), pytest.raises(NotLookedAt):
        charge(0, 8, FIELDS + 1)
    asked = int(budget.fields_ran_out.split("--limit ")[1].split()[0])
    assert Budget(asked).most_fields == 4 * FIELDS
