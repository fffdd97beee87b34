# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of a watch, with a debugger of our own over a real memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.address import KernelVirt
from gdb_nept.commands.fault_log import NO_LIMIT, FaultLog
from gdb_nept.errors import NeptError
from gdb_nept.judge.candidates import Seen, seen_by
from gdb_nept.judge.check import Finding
from gdb_nept.judge.slips import Slip
from gdb_nept.live.injection import injection_point
from gdb_nept.live.watch import Event, Reflected, Unread, Watch
from gdb_nept.nested.epts import Which
from gdb_nept.predict.access import Op, Stage
from gdb_nept.render.fault import (
    causes_of,
    fault_data,
)
from gdb_nept.render.watch import Tally, watch_page
from gdb_nept.target.running import Running
from tests.live.scene import BACK, FAULT, STACK, Scene
from tests.overlay import opened

pytestmark = pytest.mark.bochs


def test_all_is_predicted_before_the_answer_is_there(scene: Scene) -> None:
    begins = (scene.inject, scene.call(STACK), scene.poison)
    debugger = scene.debugger(begins, scene.left(STACK))
    watching = scene.watching(debugger)
    (event,) = watching.events()
    assert "the target stopped by itself" in watching.machine.why
    assert isinstance(event, Reflected)
    assert event.check.finding is Finding.AGREE
    assert event.gpa == scene.vmcs12.field("guest_physical_address").value
    assert event.check.told.qualification == scene.vmcs12.field("exit_qualification").value
    inject = scene.inject
    assert debugger.asked == [{inject}, {inject, BACK}, {inject}]


def test_an_answer_that_is_another_differs(scene: Scene) -> None:
    begins = (scene.inject, scene.call(STACK), lambda: None)
    place, registers, _ = scene.left(STACK)
    (event,) = scene.watch(scene.debugger(begins, (place, registers, scene.poison)))
    assert isinstance(event, Reflected)
    assert event.check.finding is Finding.DIFFER
    assert not event.agrees


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(("exit_qualification", 1 << bit) for bit in (*range(9), 12, 20, 63)),
        *(("guest_physical_address", change) for change in (0x1000, 0x8, 1 << 30)),
        *(("guest_linear_address", change) for change in (0x1000, 0x8, 1 << 46)),
        *(("vm_exit_reason", change) for change in (1, 1 << 16, 1 << 27, 1 << 31)),
    ],
)
def test_one_bit_of_one_field_is_enough_where_the_access_was_seen(
    scene: Scene, name: str, change: int
) -> None:
    one = scene.vmcs12.field(name)
    scene.see(scene.vmcs12.field("exit_qualification").value)
    begins = (scene.inject, scene.call(STACK), scene.poison)
    place, registers, _ = scene.left(STACK)

    def written() -> None:
        scene.written()
        scene.place((scene.vmcs12.address or 0) + one.offset, one.size, one.value ^ change)

    (event,) = scene.watch(scene.debugger(begins, (place, registers, written)))
    assert isinstance(event, Reflected)
    assert event.seen is not None
    assert not event.agrees
    assert event.check.finding is Finding.DIFFER or name == "vm_exit_reason"


def test_the_access_that_was_seen_agrees(scene: Scene) -> None:
    scene.see(scene.vmcs12.field("exit_qualification").value)
    begins = (scene.inject, scene.call(STACK), scene.poison)
    (event,) = scene.watch(scene.debugger(begins, scene.left(STACK)))
    assert isinstance(event, Reflected)
    assert event.agrees
    assert not any(each.foreseen.access.emulated for each in event.check.agreeing)


def test_where_the_sdm_agrees_no_departure_is_named(scene: Scene) -> None:
    scene.see(scene.vmcs12.field("exit_qualification").value)
    begins = (scene.inject, scene.call(STACK), scene.poison)
    (event,) = scene.watch(scene.debugger(begins, scene.left(STACK)))
    assert isinstance(event, Reflected)
    assert event.check.processor is not None
    assert event.check.processor.agrees
    assert event.check.departures == ()
    assert fault_data(1, event)["departures"] == []
    assert causes_of(event) == ()


def test_the_processors_own_qualification_passed_on_whole_is_named(scene: Scene) -> None:
    """0x182 for EPT02, which had no entry yet; EPT12 has R-X there, and L1 must see that."""
    one, told = scene.vmcs12.field("exit_qualification"), 0x182
    assert one.value & ~1 == 0x1AA
    scene.see(told)
    begins = (scene.inject, scene.call(STACK), scene.poison)
    place, registers, _ = scene.left(STACK)

    def written() -> None:
        scene.written()
        scene.place((scene.vmcs12.address or 0) + one.offset, one.size, told)

    (event,) = scene.watch(scene.debugger(begins, (place, registers, written)))
    assert isinstance(event, Reflected)
    assert event.check.finding is Finding.DIFFER
    assert event.check.explanations == (Slip.RAW_WHOLE,)


def test_a_fault_that_is_followed_is_where_the_processor_reported_it(scene: Scene) -> None:
    gpa = scene.vmcs12.field("guest_physical_address").value
    scene.see(scene.vmcs12.field("exit_qualification").value)
    (event,) = scene.following(gpa)
    assert isinstance(event, Reflected)
    assert event.agrees
    (event,) = scene.following(gpa ^ 0x10)  # KVM tells L1 of another address in the same page
    assert isinstance(event, Reflected)
    assert event.gpa == gpa ^ 0x10
    assert event.check.finding is Finding.DIFFER
    assert event.check.nearest is not None
    assert event.check.nearest.physical_differs


def test_an_access_that_need_not_exit_leaves_the_address_to_l0s_emulator(scene: Scene) -> None:
    scene.see(scene.vmcs12.field("exit_qualification").value)
    allowed = next(
        mapping.start
        for mapping in scene.session.scan(
            scene.session.ept(scene.chosen, Which.L1), 0, 1 << 40
        ).mappings()
        if mapping.entry.value & 0b111 == 0b111
    )
    (event,) = scene.following(allowed)
    assert isinstance(event, Reflected)
    assert event.gpa == scene.vmcs12.field("guest_physical_address").value


def test_too_few_hardware_breakpoints_and_software_ones_do(scene: Scene) -> None:
    begins = (scene.inject, scene.call(STACK), scene.poison)
    debugger = scene.debugger(begins, scene.left(STACK))
    debugger.hardware_ones = 1
    assert len(scene.watch(debugger)) == 1
    assert debugger.kinds == [True, False, False]


def test_a_machine_that_stands_at_the_place_has_reached_it(scene: Scene) -> None:
    debugger = scene.debugger(scene.left(STACK))
    debugger.registers = {**scene.call(STACK), "rip": scene.inject}
    scene.poison()
    assert len(scene.watch(debugger)) == 1


@pytest.mark.parametrize("by", ["others", "interrupted"])
def test_what_comes_at_a_place_ends_the_watch_after_it(scene: Scene, by: str) -> None:
    begins = (scene.inject, scene.call(STACK), scene.poison)
    again = (scene.inject, scene.call(STACK), scene.poison)
    debugger = scene.debugger(begins, scene.left(STACK), again, scene.left(STACK))
    debugger.others = {1: "7"} if by == "others" else {}
    debugger.interrupted = {1} if by == "interrupted" else set()
    watching = scene.watching(debugger)
    assert len(list(watching.events())) == 1
    wanted = f"breakpoint 7 at {BACK:#x}" if by == "others" else "interrupted"
    assert watching.machine.why == wanted
    assert len(debugger.script) == 2


def test_a_model_that_there_is_not_is_refused_at_once(scene: Scene) -> None:
    watching = Watch(lambda: scene.session, Running(scene.debugger(), lambda: None), "typo")
    with pytest.raises(NeptError, match="there is no model 'typo'"):
        watching.prepare()


def test_two_calls_at_once_are_told_apart_by_the_stack(scene: Scene) -> None:
    other = STACK + 0x100
    first = (scene.inject, scene.call(STACK), scene.poison)
    second = (scene.inject, scene.call(other), scene.poison)
    stranger = (KernelVirt(BACK), {"rsp": scene.lies(STACK) - 0x40}, lambda: None)
    debugger = scene.debugger(first, second, stranger, scene.left(other), scene.left(STACK))
    events = scene.watch(debugger)
    assert len(events) == 2
    assert all(event.agrees for event in events)


def test_what_had_begun_when_the_watch_ended_is_told(scene: Scene) -> None:
    debugger = scene.debugger((scene.inject, scene.call(STACK), scene.poison))
    watching = scene.watching(debugger)
    assert list(watching.events()) == []
    (event,) = watching.unfinished()
    assert isinstance(event, Unread)
    assert "ended before" in event.why


def test_ctrl_c_in_a_prediction_loses_no_fault(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctrl_c(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    watching = scene.watching(scene.debugger((scene.inject, scene.call(STACK), scene.poison)))
    monkeypatch.setattr("gdb_nept.live.watch.foretell", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        list(watching.events())
    assert len(list(watching.unfinished())) == 1


def test_ctrl_c_while_a_fault_is_told_loses_it_not(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    presses = [KeyboardInterrupt]

    def told(number: int, event: Event) -> Any:
        if presses:
            raise presses.pop()
        return fault_data(number, event)

    monkeypatch.setattr("gdb_nept.render.watch.fault_data", told)
    begins = (scene.inject, scene.call(STACK), scene.poison)
    watching = scene.watching(scene.debugger(begins, scene.left(STACK)))
    with (tmp_path / "faults").open("w") as file:
        log = FaultLog(None, file)
        assert log.follow(watching, NO_LIMIT, until_mismatch=False) == "interrupted"
    (line,) = (tmp_path / "faults").read_text().splitlines()
    assert (json.loads(line)["kind"], json.loads(line)["agrees"]) == ("reflected", True)
    assert (log.tally.number, presses) == (1, [])


def test_another_vcpu_is_left_alone(scene: Scene) -> None:
    begins = (scene.inject, scene.call(STACK), scene.poison)
    assert scene.watch(scene.debugger(begins), KernelVirt(scene.chosen.vcpu.address + 64)) == []


@pytest.mark.parametrize("inside", [True, False])
def test_faults_outside_the_range_are_let_pass(scene: Scene, inside: bool) -> None:
    gpa = scene.vmcs12.field("guest_physical_address").value
    begins = (scene.inject, scene.call(STACK), scene.poison)
    watching = scene.watching(scene.debugger(begins, scene.left(STACK)))
    watching.area = (gpa, gpa + 1) if inside else (gpa + 1, gpa + 0x1000)
    events = list(watching.events())
    assert (len(events), watching.passed) == ((1, 0) if inside else (0, 1))
    assert list(watching.unfinished()) == []
    last = watch_page(Tally(), watching.points, "kvm", "ended", watching.passed).blocks[-1]
    assert str(last).endswith("1 fault outside the range not looked at") == (not inside)


def test_what_cannot_be_read_is_an_event_of_its_own(scene: Scene) -> None:
    registers = {**scene.call(STACK), "rsi": 0xFFFFFFFFFFFFF000}
    debugger = scene.debugger((scene.inject, registers, scene.poison), scene.left(STACK))
    (event,) = scene.watch(debugger)
    assert isinstance(event, Unread)
    assert "not predicted" in event.why
    assert (event.vm, event.vcpu) == (scene.chosen.vm, scene.chosen.place)


def test_a_register_that_is_no_vcpu_is_no_end(scene: Scene) -> None:
    registers = {**scene.call(STACK), "rdi": scene.lies(FAULT)}
    debugger = scene.debugger((scene.inject, registers, scene.poison), scene.left(STACK))
    (event,) = scene.watch(debugger)
    assert isinstance(event, Unread)
    assert not event.agrees


def test_without_a_symbol_a_nested_vcpu_shows_the_place(
    plain_snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = opened(plain_snapshot)
    kernel = session.kernel
    by_symbol = injection_point(kernel, session.vms())
    monkeypatch.setattr("gdb_nept.live.injection.INJECT", "no_such_function")
    by_pointer = injection_point(kernel, session.vms())
    assert by_pointer.address == by_symbol.address
    assert "inject_page_fault" in by_pointer.how
    assert by_pointer.how != by_symbol.how


def test_without_either_it_says_what_to_do(
    exit_snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = opened(exit_snapshot)
    monkeypatch.setattr("gdb_nept.live.injection.INJECT", "no_such_function")
    with pytest.raises(NeptError, match="let L2 run first"):
        injection_point(session.kernel, session.vms())


@pytest.mark.parametrize(
    ("qualification", "seen"),
    [
        (0x181, Seen(Op.READ, Stage.FINAL)),
        (0x182, Seen(Op.WRITE, Stage.FINAL)),
        (0x183, Seen(Op.RMW, Stage.FINAL)),
        (0x19C, Seen(Op.FETCH, Stage.FINAL)),
        (0x81, Seen(Op.READ, Stage.WALK)),
        (0x82, Seen(Op.RMW, Stage.WALK)),
        (0x83, Seen(Op.RMW, Stage.WALK)),
        (0x1, Seen(Op.READ, Stage.PDPTE)),
    ],
)
def test_the_processors_access_is_read_from_bits_2_to_0_and_8_to_7(
    qualification: int, seen: Seen
) -> None:
    assert seen_by(qualification) == seen
    assert seen_by(qualification ^ 0x38) == seen, "what EPT02 allowed is not looked at"
