# SPDX-License-Identifier: GPL-2.0-or-later
"""The choice among the ways to read memory."""

from __future__ import annotations

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.memory.direct import DirectMapMemory
from gdb_nept.memory.transport import (
    AUTO,
    KINDS,
    NotOffered,
    Range,
    Transport,
    choose,
    covers,
    joined,
)
from tests.memory.stubs import BASE, Machine


def direct() -> Transport:
    return DirectMapMemory(Machine(), BASE)


def refuse() -> Transport:
    raise NotOffered("it is too far away", "Come nearer.")


def test_the_first_that_works_is_chosen_and_the_others_say_why() -> None:
    choice = choose({**dict.fromkeys(KINDS, refuse), "direct": direct})
    assert choice.transport.kind == "direct"
    assert [one.kind for one in choice.refusals] == [kind for kind in KINDS if kind != "direct"]
    assert str(choice.refusals[-1]) == "QEMU's physical memory mode: it is too far away"


def test_the_one_that_is_wanted_is_the_only_one_tried() -> None:
    ways = {**dict.fromkeys(KINDS, direct), "phymem": refuse}
    assert choose(ways, "direct").refusals == ()
    with pytest.raises(NotOffered) as caught:
        choose(ways, "phymem")
    assert caught.value.message == (
        "memory cannot be read through QEMU's physical memory mode: it is too far away"
    )
    assert caught.value.advice == "Come nearer.\nset nept memory auto"


def test_where_none_works_each_says_why() -> None:
    with pytest.raises(NotOffered, match="cannot be read") as caught:
        choose(dict.fromkeys(KINDS, refuse), AUTO)
    assert caught.value.advice.count("it is too far away") == len(KINDS)
    assert "Come nearer.\n" in caught.value.advice  # of the last way, once
    assert "--dump FILE" in caught.value.advice


def test_ranges_are_joined_and_covered() -> None:
    def at(start: int, end: int) -> Range:
        return Range(HostPhys(start), HostPhys(end))

    ranges = joined([at(0x8000, 0x9000), at(0x1000, 0x2000), at(0x2000, 0x3000)])
    assert ranges == (at(0x1000, 0x3000), at(0x8000, 0x9000))
    assert covers(ranges, 0x1FF8, 16)
    assert not covers(ranges, 0x2FF8, 16)
    assert not covers(ranges, 0, 8)
    assert not covers((), 0, 8)
