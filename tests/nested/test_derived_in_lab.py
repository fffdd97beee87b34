# SPDX-License-Identifier: GPL-2.0-or-later
"""EPT12 as KVM's shadow tells of it, held against EPT12 itself, on every kernel of the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

import gdb_nept
from gdb_nept.address import HostPhys, L2Phys
from gdb_nept.arch.ept import EptEntry
from gdb_nept.errors import UnreadKind
from gdb_nept.memory.budget import Budget
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.derived_rows import DerivedRun
from gdb_nept.nested.epts import Which
from gdb_nept.nested.journey import Hop
from gdb_nept.nested.listing import Row, listing
from gdb_nept.nested.session import Session
from gdb_nept.render.journey import journey_page
from gdb_nept.render.text import draw
from gdb_nept.target.linux import attach
from gdb_nept.walk.runs import Hole, Run, Unread
from tests.conftest import kernel_cache
from tests.nested.test_lab import opened
from tests.overlay import Filtered, tables

pytestmark = pytest.mark.bochs

RIGHTS = EptEntry.read.mask | EptEntry.write.mask | EptEntry.execute.mask


def filtered(snapshot: Path, most: int) -> tuple[Session, Chosen]:
    """The snapshot without EPT12's tables up to level `most`."""
    raw: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
    memory = Filtered(raw)
    memory.without = {page for page, level in tables(*opened(snapshot)).items() if level <= most}
    assert memory.without
    session = Session(attach(memory, ram=raw.size, cache=kernel_cache()))
    return session, session.pick(None, None)


def rows(session: Session, chosen: Chosen, *asked: int, entries: bool = True) -> list[Row]:
    low_high = (asked[0], asked[1]) if asked else None
    return list(listing(session, chosen, Which.L1, low_high, entries, Budget(1 << 22)).rows)


@pytest.mark.parametrize("most", [4, 1])
def test_what_kvm_noted_is_what_l1_wrote(snapshot: Path, most: int) -> None:
    session, chosen = filtered(snapshot, most)
    whole = {row.at: row for row in rows(*opened(snapshot)) if isinstance(row, Run)}
    found = rows(session, chosen)
    derived = [row for row in found if isinstance(row, DerivedRun)]
    for row in derived:
        entry = whole[row.start]
        told = (row.end, row.page_size, row.address, row.place)
        assert told == (entry.end, entry.page_size, entry.address, entry.place)
        assert row.rights.value & RIGHTS & ~entry.path == 0
        assert row.kind is UnreadKind.FILTERED
    assert {row.page_size for row in derived} == {4: {1 << 12, 1 << 21, 1 << 30}, 1: {1 << 12}}[
        most
    ]
    assert any(row.rights.value & RIGHTS == RIGHTS for row in derived)
    read = [row for row in found if isinstance(row, Run)]
    assert bool(read) is (most == 1)
    assert all(row == whole[row.at] for row in read)
    assert any(isinstance(row, Hole) for row in found) is (most == 1)
    ends = [row.start for row in found[1:]], [row.end for row in found[:-1]]
    assert ends[0] == ends[1]


def test_all_that_kvm_shadows_is_derived(snapshot: Path) -> None:
    session, chosen = filtered(snapshot, 4)
    derived = [row for row in rows(session, chosen) if isinstance(row, DerivedRun)]
    shadow = listing(session, chosen, Which.SHADOW, None, True, Budget(1 << 22)).rows
    leaves = [row for row in shadow if isinstance(row, Run)]
    assert len(leaves) > 100
    for leaf in leaves:
        assert any(row.start <= leaf.at < row.end for row in derived), hex(leaf.at)
    merged = rows(session, chosen, entries=False)
    runs = [row for row in merged if isinstance(row, DerivedRun)]
    assert len(runs) < len(derived)
    assert sum(row.size for row in runs) == sum(row.size for row in derived)
    assert sum(row.count for row in runs) == len(derived)


def test_the_api_has_the_same(plain_snapshot: Path) -> None:
    session, chosen = filtered(plain_snapshot, 4)
    vcpu = gdb_nept.Vcpu(session, chosen)
    assert list(vcpu.ept12.derived_runs()) == rows(session, chosen, entries=False)
    assert list(vcpu.ept02.derived_runs()) == list(vcpu.ept02.runs())
    assert {type(one) for one in vcpu.ept12.runs()} == {Unread}
    session, chosen = opened(plain_snapshot)
    vcpu = gdb_nept.Vcpu(session, chosen)
    assert list(vcpu.ept12.derived_runs()) == list(vcpu.ept12.runs())


def test_a_walk_tells_what_the_list_tells(snapshot: Path) -> None:
    session, chosen = filtered(snapshot, 4)
    reading = opened(snapshot)
    for row in rows(session, chosen):
        if not isinstance(row, DerivedRun):
            continue
        asked = L2Phys(row.start + 0x123)
        journey = session.journey(chosen, asked)
        found, whole = journey.derived, reading[0].journey(reading[1], asked)
        assert found is not None
        assert (found.address, found.size) == (row.address + 0x123, row.page_size)
        assert found.address == whole.ept12.address
        assert found.rights.value & row.rights.value == row.rights.value
        assert found.rights.value & RIGHTS & ~whole.ept12.rights.value == 0
        assert (found.slot, found.host_virtual) == (whole.slot, whole.host_virtual)
        assert found.host_physical == whole.host_physical
        assert journey.hops["EPT12"] is Hop.DERIVED


def test_each_part_of_the_walk_is_marked_where_not_all_is_read(plain_snapshot: Path) -> None:
    session, chosen = filtered(plain_snapshot, 4)
    text = draw(journey_page(session.journey(chosen, L2Phys(0x2000000))))
    assert text.startswith("L2 0x2000000 -> L1 0x1020000 (derived) -> host 0x")
    for line in (
        "EPT12, L1's tables, in L1 physical memory (derived):",
        "  -> L1 physical 0x1020000, in a page of 4K, with RWX at least",
        "Page tables of the process that runs L1, in host memory (read):",
        "EPT02, KVM's shadow of EPT12, in host memory (read):",
        "EPT01, KVM's tables for L1, in host memory (read):",
    ):
        assert line in text.splitlines()
    assert "memslot 0 (read): L1 physical" in text
    text = draw(journey_page(session.journey(chosen, L2Phys(0x2007000))))
    assert "in L1 physical memory (missing):" in text
    assert "memslot" not in text
    session, chosen = filtered(plain_snapshot, 1)
    for address, mark in ((0x2000000, " (read)"), (0x40000000, "")):
        text = draw(journey_page(session.journey(chosen, L2Phys(address))))
        assert f"EPT02, KVM's shadow of EPT12, in host memory{mark}:" in text
    partly = draw(journey_page(session.journey(chosen, L2Phys(0x2000000)))).splitlines()
    start = next(place for place, line in enumerate(partly) if line.startswith("EPT12, L1's"))
    steps = [line.split()[0] for line in partly[start + 1 :] if line.startswith("  P")][:4]
    assert steps == ["PML4E", "PDPTE", "PDE", "PTE"]
    assert sum(line.endswith("derived") for line in partly) == 1


def test_a_range_cuts_a_large_page(snapshot: Path) -> None:
    session, chosen = filtered(snapshot, 4)
    large = next(
        row
        for row in rows(session, chosen)
        if isinstance(row, DerivedRun) and row.page_size == 1 << 30
    )
    low, high = large.start + 0x5000, large.start + 0x9000
    (row,) = rows(session, chosen, low, high)
    assert isinstance(row, DerivedRun)
    assert (row.start, row.end, row.count) == (low, high, 1)
    assert (row.address, row.place) == (large.address + 0x5000, large.place)


def test_the_budget_is_kept(plain_snapshot: Path) -> None:
    session, chosen = filtered(plain_snapshot, 4)
    budget = Budget(3 * 512)
    found = list(listing(session, chosen, Which.L1, None, False, budget).rows)
    last = found[-1]
    assert isinstance(last, Unread)
    assert last.given_up
    assert last.end == 1 << 48
    assert budget.used <= 3 * 512
