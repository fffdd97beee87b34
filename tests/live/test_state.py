# SPDX-License-Identifier: GPL-2.0-or-later
"""What nept-diff says of single words that were changed in a real memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gdb_nept.address import KernelVirt, L1Phys, L2Phys
from gdb_nept.errors import NeptError
from gdb_nept.live.state import Difference, EptChange, TakesLong, difference, state_of
from gdb_nept.live.stops import Stops, Taken
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.render import text
from gdb_nept.render.diff import diff_page, taken_page
from gdb_nept.walk.ept import walk_ept
from tests.overlay import Overlay, opened
from tests.schemas import hold_page

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


def shown(found: Difference) -> str:
    before, now = Taken(found.before, 1, 10.0, 0.1), Taken(found.after, 2, 13.5, 0.1)
    page = diff_page(found, False, before, now)
    hold_page("nept-diff", page)
    return text.draw(page)


def same(change: EptChange) -> bool:
    return not change.entries and change.before.eptp == change.after.eptp


def overlay(session: Session) -> Overlay:
    memory = session.kernel.physical
    assert isinstance(memory, Overlay)
    return memory


def test_nothing_changed_where_nothing_ran(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    found = difference(state_of(session, chosen), state_of(session, chosen))
    assert found.fields == ()
    assert all(same(change) for change in found.epts)
    told = shown(found)
    assert "no field changed" in told
    assert "EPT12: no entry changed" in told
    assert "EPT02: no entry changed" in told


def test_a_mark_counts_what_l1_logged(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    state = state_of(session, chosen)
    ept = session.ept(chosen, Which.L1)
    leaves = list(session.scan(ept, 0, 1 << 48).mappings())
    listed = state.epts[Which.L1].entries
    assert all(listed[one.level, int(one.start)].value == one.entry.value for one in leaves)
    tables = [key for key, one in listed.items() if key[0] > 1 and not one.value & 1 << 7]
    assert len(listed) == len(leaves) + len(tables)
    page = taken_page(Taken(state, 1, 0.0, 0.1))
    hold_page("nept-diff", page)
    told = text.draw(page)
    assert f"{len(listed)} entries of EPT12" in " ".join(told.split())


def test_a_right_taken_from_a_page(plain_snapshot: Path) -> None:
    found, old = changed(plain_snapshot, Which.L1, 1, 0b10)
    ept12, ept02 = found.epts
    (entry,) = ept12.entries
    assert (entry.level, entry.start) == (1, PAGE)
    assert entry.before is not None
    assert entry.after is not None
    assert (entry.before.value, entry.after.value) == (old, old ^ 0b10)
    assert same(ept02)
    assert "-W" in shown(found)


def test_a_page_that_is_gone_from_the_shadow(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    ept = session.ept(chosen, Which.SHADOW)
    word = walk_ept(ept.memory, ept.eptp, PAGE, ept.cpu).steps[-1].entry.value
    found, _ = changed(plain_snapshot, Which.SHADOW, 1, word)
    ept12, ept02 = found.epts
    assert same(ept12)
    (entry,) = ept02.entries
    assert entry.after is None
    assert "gone" in shown(found)


def test_a_table_that_is_gone_takes_what_is_below_it_along(plain_snapshot: Path) -> None:
    found, _ = changed(plain_snapshot, Which.L1, 2, 0b111)
    entries = found.epts[0].entries
    assert entries[0].level == 2, "the table's own entry comes first"
    assert {each.level for each in entries[1:]} == {1}
    assert all(each.after is None for each in entries)
    assert f"{len(entries)} entries changed" in shown(found)
    assert max(map(len, shown(found).splitlines())) <= 80


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


@dataclass
class Machine:
    """A session on a memory that we change, with the stops that gdb would tell of."""

    session: Session
    stops: Stops = field(default_factory=Stops)

    def chosen(self) -> Chosen:
        return self.session.pick(None, None)

    def now(self) -> Taken:
        return self.stops.now(self.session, self.chosen())

    def run(self, qualification: int, stands: bool = True) -> None:
        """It runs, and stands again, with this in vmcs12."""
        vmcs12 = self.session.vmcs12(self.chosen())
        one = vmcs12.field("exit_qualification")
        assert vmcs12.address is not None
        base = self.session.kernel.to_physical(vmcs12.address)
        self.stops.runs.append("continue")
        overlay(self.session).put(base + one.offset, qualification, one.size)
        self.session.drop()
        if stands and self.stops.arrive():
            self.stops.take(self.session)

    def qualification(self, taken: Taken | None) -> int | None:
        return taken.state.fields["exit_qualification"] if taken else None


@pytest.fixture
def machine(plain_snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr("gdb_nept.live.stops.QUICK", 60.0)
    return Machine(opened(plain_snapshot)[0])


def test_each_stop_is_compared_with_the_one_before(machine: Machine) -> None:
    first = machine.now()
    assert machine.stops.earlier(machine.chosen()) is None
    for number in (1, 2, 3):
        machine.run(number)
    now, before = machine.now(), machine.stops.earlier(machine.chosen())
    assert before is not None
    assert (machine.qualification(now), machine.qualification(before)) == (3, 2)
    assert (now.stop - before.stop, now.stop - first.stop) == (1, 3)
    assert machine.now() is now, "asked once more at the same stop"
    assert machine.stops.earlier(machine.chosen()) is before


def test_stops_that_nobody_sees_do_not_count(machine: Machine) -> None:
    first = machine.now()
    for number in (1, 2, 3):
        machine.run(number, stands=False)
    assert machine.now().stop - first.stop == 1
    assert machine.stops.earlier(machine.chosen()) is first


def test_what_takes_long_is_taken_when_it_is_asked_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gdb_nept.live.stops.QUICK", 0.0)
    first = machine.now()
    for number in (1, 2, 3):
        machine.run(number)
    now = machine.now()
    assert machine.qualification(now) == 3
    assert machine.stops.earlier(machine.chosen()) is first
    told = text.draw(diff_page(difference(first.state, now.state), False, first, now))
    assert "against 3 stops ago" in told
    assert "only at each nept-diff" in text.draw(taken_page(first))


def test_a_mark_stays(machine: Machine) -> None:
    assert machine.stops.marked(machine.chosen()) is None
    first = machine.now()
    machine.stops.mark(machine.chosen())
    for number in (1, 2, 3):
        machine.run(number)
        machine.now()
    assert machine.stops.marked(machine.chosen()) is first


def test_a_stop_at_which_nothing_can_be_read_is_left_out(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*arguments: object) -> None:
        raise NeptError("no")

    first = machine.now()
    with monkeypatch.context() as patch:
        patch.setattr("gdb_nept.live.stops.state_of", unreadable)
        machine.run(1)
    machine.run(2)
    now, before = machine.now(), machine.stops.earlier(machine.chosen())
    assert before is first
    assert now.stop - first.stop == 2, "what failed once is not tried in passing again"
    machine.run(3)
    assert machine.now().stop - now.stop == 1
    assert machine.stops.earlier(machine.chosen()) is now


def test_what_has_grown_is_cut_off_in_time_and_not_tried_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = machine.now()
    monkeypatch.setattr("gdb_nept.live.stops.QUICK", 0.0)
    machine.run(1)
    assert not machine.stops.arrive(), "nothing is left to be taken in passing"
    assert machine.stops.earlier(machine.chosen()) is None
    assert machine.now().stop - first.stop == 1
    with pytest.raises(TakesLong, match="too large"):
        state_of(machine.session, machine.chosen(), deadline=0.0)


def test_ctrl_c_ends_what_nobody_asked_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctrl_c(*arguments: object) -> None:
        raise KeyboardInterrupt

    machine.now()
    with monkeypatch.context() as patch:
        patch.setattr("gdb_nept.live.stops.state_of", ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            machine.run(1)
    machine.stops.runs.append("continue")
    assert not machine.stops.arrive()


def test_memory_that_was_written_is_looked_at_again(machine: Machine) -> None:
    first = machine.now()
    machine.run(1)
    at_stop = machine.now()
    machine.stops.doubt()
    now = machine.now()
    assert now is not at_stop
    assert now.stop == at_stop.stop
    assert machine.stops.earlier(machine.chosen()) is first


@pytest.mark.parametrize("member", ["address", "birth"])
def test_another_vm_in_its_place_is_another(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    machine.now()
    kvm = machine.chosen().owner.value
    if member == "birth":
        offset = kvm.member("arch.kvmclock_offset")
        place = machine.session.kernel.to_physical(offset.address)
        overlay(machine.session).put(place, (offset.number() - 1) & (1 << 64) - 1, 8)
    else:
        chosen = machine.chosen()
        other = replace(chosen, owner=replace(chosen.owner, address=KernelVirt(kvm.address + 64)))
        monkeypatch.setattr(machine.session, "pick", lambda vm, vcpu: other)
    machine.run(1)
    machine.now()
    assert machine.stops.earlier(machine.chosen()) is None
