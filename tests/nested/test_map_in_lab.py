# SPDX-License-Identifier: GPL-2.0-or-later
"""The map of a real L2's space, against walks of single addresses."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gdb_nept.__main__ import main
from gdb_nept.address import L2Phys
from gdb_nept.arch.ept import RIGHTS
from gdb_nept.memory.budget import Budget, within
from gdb_nept.nested.derived_rows import DerivedRun
from gdb_nept.nested.journey import Hop
from gdb_nept.nested.space_map import space_map
from tests.nested.test_derived_in_lab import filtered, rows
from tests.nested.test_lab import opened

pytestmark = pytest.mark.bochs


def test_each_stretch_is_what_a_walk_says(snapshot: Path) -> None:
    session, chosen = opened(snapshot)
    found = space_map(session, chosen)
    assert found.complete
    dice = random.Random(5)
    seen = set()
    for one in found.stretches:
        for address in {one.start, one.end - 1, dice.randrange(one.start, one.end)}:
            journey = session.journey(chosen, L2Phys(address))
            walk, kind = journey.ept12, one.ept12
            assert (walk.address is not None) == kind.mapped
            if kind.mapped:
                assert walk.rights.value & RIGHTS == kind.rights
                assert walk.size == kind.page_size
                assert (journey.slot.id if journey.slot else None) == kind.slot
            elif walk.stop is not None:
                assert bool(kind.wrong) == (walk.stop.cause.value == "misconfigured")
            shadow = journey.shadow.walk if journey.shadow else None
            leads = shadow is not None and shadow.address is not None
            assert leads == (one.ept02 is not None)
            seen.add((kind.mapped, bool(kind.wrong), leads))
        if one.l1 is not None:
            assert session.journey(chosen, L2Phys(one.start)).ept12.address == one.l1
    assert {(True, False, True), (True, False, False), (False, True, False)} <= seen
    for one, other in zip(found.stretches, found.stretches[1:]):
        assert one.end <= other.start
        if one.end < other.start:
            walk = session.journey(chosen, L2Phys(one.end)).ept12
            assert walk.address is None


def test_of_a_filtered_dump_it_has_the_rows_of_nept_ept(snapshot: Path) -> None:
    session, chosen = filtered(snapshot, 4)
    found = space_map(session, chosen).stretches
    derived = [row for row in rows(session, chosen) if isinstance(row, DerivedRun)]
    assert {one.ept12.how for one in found} == {Hop.DERIVED, Hop.MISSING}
    told = [one for one in found if one.ept12.derived]
    assert sum(one.size for one in told) == sum(row.size for row in derived)
    for row in derived:
        (one,) = (one for one in told if one.start <= row.start < one.end)
        assert one.ept12.rights == row.rights.value & RIGHTS
        assert one.ept12.page_size == row.page_size
        journey = session.journey(chosen, L2Phys(row.start))
        assert (journey.shadowed is not None) == (one.ept02 is not None)
        slot = journey.along.slot
        assert one.ept12.slot == (slot.id if slot else None)
    session, chosen = filtered(snapshot, 1)
    assert {one.ept12.how for one in space_map(session, chosen).stretches} == set(Hop) - {Hop.NONE}


def test_a_strip_is_drawn_by_name_and_by_default_and_beside_no_file(
    snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = ("--dump", str(snapshot / "memory.raw"), "map")
    told = []
    for words in ((), ("--text",)):
        assert main([*dump, *words]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "  EPT12 |#" in told[0]
    assert main([*dump, "--text", "--output", str(tmp_path / "l2.html")]) == 2
    assert not any(tmp_path.iterdir())


def test_of_a_space_of_many_stretches_no_more_are_kept(
    plain_snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, chosen = opened(plain_snapshot)
    whole = space_map(session, chosen)
    monkeypatch.setattr("gdb_nept.nested.space_map.MOST", 40)
    found = space_map(session, chosen)
    assert len(found.stretches) <= 40 < len(whole.stretches)
    assert sum(one.several for one in found.stretches) == len(whole.stretches)
    assert found.stretches[-1].end == whole.stretches[-1].end


def test_a_range_and_what_was_not_looked_at(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    part = space_map(session, chosen, 0x2000000, 0x2020000)
    assert part.stretches[0].start == 0x2000000
    assert part.stretches[-1].end <= 0x2020000
    with within(Budget(1024)):
        assert not space_map(session, chosen).complete
