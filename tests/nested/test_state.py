# SPDX-License-Identifier: GPL-2.0-or-later
"""What nept-diff says of single words that were changed in a real memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.nested.session import Session, Which
from gdb_nept.nested.state import Difference, difference, state_of
from gdb_nept.render import text
from gdb_nept.render.diff import diff_page, marked_page
from gdb_nept.walk.ept import walk_ept
from tests.nested.test_check_in_lab import Overlay, opened

pytestmark = pytest.mark.bochs

PAGE = L2Phys(0x2000000)  # a page that EPT12 and EPT02 map


def changed(snapshot: Path, which: Which, level: int, word: int) -> tuple[Difference, int]:
    """The difference that one word on the way of PAGE makes, and the word that was there."""
    session, chosen = opened(snapshot)
    before = state_of(session, chosen)
    ept = session.ept(chosen, which)
    steps = walk_ept(ept.memory, ept.eptp, PAGE, ept.cpu).steps
    step = next(each for each in steps if each.level == level)
    where = int(step.address)
    if which is Which.L1:
        where = session.l1_memory(chosen).host_physical(L1Phys(where))
    overlay(session).put(where, step.entry.value ^ word, 8)
    session.drop()
    return difference(before, state_of(session, session.pick(None, None))), step.entry.value


def overlay(session: Session) -> Overlay:
    memory = session.kernel.physical
    assert isinstance(memory, Overlay)
    return memory


def test_nothing_changed_where_nothing_ran(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    found = difference(state_of(session, chosen), state_of(session, chosen))
    assert found.fields == ()
    assert all(change.same for change in found.epts)
    shown = text.draw(diff_page(found, False))
    assert "no field changed" in shown
    assert "EPT12: no entry changed" in shown
    assert "EPT02: no entry changed" in shown


def test_a_mark_counts_what_l1_logged(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    state = state_of(session, chosen)
    ept = session.ept(chosen, Which.L1)
    leaves = list(session.scan(ept, 0, 1 << 48).mappings())
    listed = state.epts[Which.L1].entries
    assert all(listed[one.level, int(one.start)].value == one.entry.value for one in leaves)
    tables = [key for key, one in listed.items() if key[0] > 1 and not one.value & 1 << 7]
    assert len(listed) == len(leaves) + len(tables)
    assert f"{len(listed)} entries of EPT12" in text.draw(marked_page(state)).replace("\n  ", " ")


def test_a_right_taken_from_a_page(plain_snapshot: Path) -> None:
    found, old = changed(plain_snapshot, Which.L1, 1, 0b10)
    ept12, ept02 = found.epts
    (entry,) = ept12.entries
    assert (entry.level, entry.start) == (1, PAGE)
    assert entry.before is not None
    assert entry.after is not None
    assert (entry.before.value, entry.after.value) == (old, old ^ 0b10)
    assert ept02.same
    assert "-W" in text.draw(diff_page(found, False))


def test_a_page_that_is_gone_from_the_shadow(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    ept = session.ept(chosen, Which.SHADOW)
    word = walk_ept(ept.memory, ept.eptp, PAGE, ept.cpu).steps[-1].entry.value
    found, _ = changed(plain_snapshot, Which.SHADOW, 1, word)
    ept12, ept02 = found.epts
    assert ept12.same
    (entry,) = ept02.entries
    assert entry.after is None
    assert "gone" in text.draw(diff_page(found, False))


def test_a_table_that_is_gone_takes_what_is_below_it_along(plain_snapshot: Path) -> None:
    found, _ = changed(plain_snapshot, Which.L1, 2, 0b111)
    entries = found.epts[0].entries
    assert entries[0].level == 2, "the table's own entry comes first"
    assert {each.level for each in entries[1:]} == {1}
    assert all(each.after is None for each in entries)
    page = diff_page(found, False)
    assert f"{len(entries)} entries changed" in text.draw(page)
    assert max(map(len, text.draw(page).splitlines())) <= 100


def test_a_field_of_vmcs12(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    before, vmcs12 = state_of(session, chosen), session.vmcs12(chosen)
    field = vmcs12.field("exit_qualification")
    assert vmcs12.address is not None
    base = session.kernel.to_physical(vmcs12.address)
    overlay(session).put(base + field.offset, field.value ^ 0x38, field.size)
    session.drop()
    found = difference(before, state_of(session, session.pick(None, None)))
    (change,) = found.fields
    assert (change.name, change.before, change.after) == (
        "exit_qualification",
        field.value,
        field.value ^ 0x38,
    )
