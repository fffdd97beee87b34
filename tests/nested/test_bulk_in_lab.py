# SPDX-License-Identifier: GPL-2.0-or-later
"""The comparison of a whole space, held against nept-walk's verdict of single addresses."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdb_nept.address import L2Phys
from gdb_nept.commands.compare import compare
from gdb_nept.commands.output import Sink
from gdb_nept.commands.progress import Meter
from gdb_nept.errors import NoGuest
from gdb_nept.memory.budget import Budget
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.agreement import Agreement, Fault
from gdb_nept.nested.bulk import Comparison, Stretch
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.derived_rows import DerivedRun
from gdb_nept.nested.epts import Which
from gdb_nept.nested.journey import Hop
from gdb_nept.nested.session import Session
from gdb_nept.nested.verdict import verdict
from gdb_nept.render.compare import compare_page
from gdb_nept.render.json import draw_json
from gdb_nept.render.page import Status
from gdb_nept.render.text import draw
from gdb_nept.target.linux import attach
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.runs import Unread
from tests.conftest import kernel_cache
from tests.fuzz.memory import Here
from tests.nested.test_derived_in_lab import filtered, rows
from tests.nested.test_lab import opened
from tests.overlay import Filtered, Overlay, tables
from tests.states.opened import opened as opened_state

pytestmark = pytest.mark.bochs


def compared(session: Session, chosen: Chosen) -> list[Stretch]:
    found = list(Comparison(session, chosen).stretches())
    assert found[0].start == 0
    assert all(one.end == other.start for one, other in zip(found, found[1:]))
    assert found[-1].end == session.ept(chosen, Which.L1).eptp.reach
    stretches = [one for one in found if isinstance(one, Stretch)]
    assert stretches == found
    return stretches


def addresses(stretches: list[Stretch], count: int) -> Iterator[int]:
    """Near the ends of the stretches, and anywhere within them."""
    dice = random.Random(11)
    for number in range(count):
        one = dice.choice(stretches)
        edge = (one.start, one.end - 1)
        yield edge[number & 1] if number % 3 == 0 else dice.randrange(one.start, one.end)


def hold(session: Session, chosen: Chosen, count: int) -> set[Agreement]:
    stretches = compared(session, chosen)
    for address in addresses(stretches, count):
        one = next(each for each in stretches if each.start <= address < each.end)
        journey = session.journey(chosen, L2Phys(address))
        told = verdict(journey)
        assert (one.agreement, one.fault) == (told.agreement, told.fault), hex(address)
        assert one.how is journey.hops["EPT12"], hex(address)
        if one.how is Hop.DERIVED:
            assert journey.derived is not None
            pages = journey.derived.host_physical, journey.shadowed
            same = None if None in pages else pages[0] == pages[1]
            assert one.one_host_page is same, hex(address)
    return {one.agreement for one in stretches}


def test_it_says_what_nept_walk_says(snapshot: Path) -> None:
    found = hold(*opened(snapshot), 250)
    assert {Agreement.AGREE, Agreement.NOT_SHADOWED, Agreement.NOT_MAPPED} <= found


def test_it_says_what_nept_walk_says_in_each_state(states: dict[str, Path]) -> None:
    seen: set[Agreement] = set()
    for name, folder in states.items():
        if name == "done":
            continue  # no VM is there any more
        state = opened_state(name, folder, states["done"])
        try:
            state.session.ept(state.chosen, Which.L1)
        except NoGuest:
            continue  # L1 uses no EPT just then
        seen |= hold(state.session, state.chosen, 15)
    assert {Agreement.STALE, Agreement.NO_SLOT, Agreement.AGREE} <= seen


def test_of_a_filtered_dump_it_says_what_is_derived(snapshot: Path) -> None:
    session, chosen = filtered(snapshot, 4)
    hold(session, chosen, 500)
    stretches = compared(session, chosen)
    assert {one.how for one in stretches} == {Hop.DERIVED, Hop.MISSING}
    derived = [row for row in rows(session, chosen) if isinstance(row, DerivedRun)]
    told = [one for one in stretches if one.how is Hop.DERIVED]
    assert sum(one.end - one.start for one in told) == sum(row.size for row in derived)
    assert {True, None} == {one.one_host_page for one in told}
    session, chosen = filtered(snapshot, 1)
    hold(session, chosen, 250)
    found = {(one.how, one.agreement) for one in compared(session, chosen)}
    assert {(Hop.READ, Agreement.NOT_MAPPED), (Hop.MISSING, Agreement.UNREADABLE)} < found


def test_where_kvms_note_and_its_shadow_lead_to_two_pages(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    ept = session.ept(chosen, Which.SHADOW)
    leaf = walk_ept(ept.memory, ept.eptp, L2Phys(0x2000000), ept.cpu).steps[-1]
    below = Overlay(RawMemory(plain_snapshot / "memory.raw"))
    below.put(int(leaf.address), leaf.entry.value ^ PAGE_SIZE, 8)
    memory = Filtered(below)  # type: ignore[arg-type]
    memory.without = set(tables(session, chosen))
    session = Session(attach(memory, ram=below.below.size, cache=kernel_cache()))
    asked = Comparison(session, session.pick(None, None))
    (one,) = asked.stretches(0x2000000, 0x2001000)
    assert isinstance(one, Stretch)
    assert one[2:] == (Agreement.UNREADABLE, Fault.UNKNOWN, Hop.DERIVED, False)
    page = draw(compare_page(asked, 0x2000000, 0x2001000))
    assert "unreadable, derived: two pages  not known  (1)" in page
    assert "(1) EPT12 cannot be followed" in page
    told = json.loads(draw_json(compare_page(asked, 0x2000000, 0x2001000)))
    assert told["stretches"][0]["why"].startswith("EPT12 cannot be followed")


def test_a_range_and_what_was_not_looked_at(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    whole = compared(session, chosen)
    some = list(Comparison(session, chosen).stretches(0x2001000, 0x2003000))
    assert (some[0].start, some[-1].end) == (0x2001000, 0x2003000)
    for one in some:
        assert isinstance(one, Stretch)
        assert any(each.start <= one.start < each.end and each[2:] == one[2:] for each in whole)
    last = list(Comparison(session, chosen, Budget(1024)).stretches())[-1]
    assert isinstance(last, Unread)
    assert last.given_up


def test_the_sums_are_of_all(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    told = json.loads(draw_json(compare_page(Comparison(session, chosen), 0, None)))
    assert sum(one["bytes"] for one in told["totals"]) == 1 << 48
    assert sum(one["stretches"] for one in told["totals"]) == len(told["stretches"])
    assert told["complete"] is True
    shown = draw(compare_page(Comparison(session, chosen), 0x2000000, 0x2010000))
    assert "not yet shadowed" in shown or "agree" in shown


def test_the_outcome_and_the_sums_come_first(
    plain_snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, chosen = opened(plain_snapshot)

    def answered(limit: int = 1 << 18) -> list[str]:
        asked = Comparison(session, chosen, Budget(limit))
        return draw(compare_page(asked, 0, None)).splitlines()

    lines = answered()
    assert " ".join(lines[:2]).startswith(
        f"EPT12 against EPT02 of VM {chosen.vm}, vCPU {chosen.place}: nothing is stale or broken"
    )
    sums = next(place for place, line in enumerate(lines) if "in all" in line)
    rows = next(place for place, line in enumerate(lines) if line.startswith("from "))
    assert sums < rows
    assert "not everything was looked at" in " ".join(" ".join(answered(1024)[:2]).split())
    monkeypatch.setattr("gdb_nept.render.compare.AHEAD", 3)
    late = answered()
    assert late[0] == f"EPT12 against EPT02 of VM {chosen.vm}, vCPU {chosen.place}"
    assert [line for line in late if "in all" in line]
    assert "nothing is stale or broken" in " ".join(" ".join(late[-3:]).split())
    assert [line for line in late if line.startswith("0x")] == [
        line for line in lines if line.startswith("0x")
    ]


def test_the_command_shows_how_far_it_is_and_ends_with_incomplete(plain_snapshot: Path) -> None:
    session, _ = opened(plain_snapshot)
    bars: list[str] = []
    written: list[str] = []
    seconds = iter(range(1_000_000))
    meter = Meter(bars.append, lambda: float(next(seconds)))
    here = Here(session.kernel, session)  # type: ignore[arg-type]
    status = compare.write_answer(here, ["--limit", "4096"], Sink(written.append, meter=meter))
    assert status is Status.INCOMPLETE
    assert "--limit 16384 for more" in " ".join("".join(written).split())
    assert any("looking at tables: [" in bar for bar in bars)
