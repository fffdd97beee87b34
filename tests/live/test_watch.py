# SPDX-License-Identifier: GPL-2.0-or-later
"""The order of a watch, with a debugger of our own over a real memory.

L1 stands in its exit handler, just after an EPT exit.  The moment at which KVM began to make that
exit is played by the same memory with another exit in vmcs12's fields.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable

import pytest

from gdb_nept.address import KernelVirt, L2Phys
from gdb_nept.arch.exits import EPT_VIOLATION
from gdb_nept.errors import NeptError
from gdb_nept.judge.candidates import Seen, seen_by
from gdb_nept.judge.check import Finding
from gdb_nept.judge.slips import Slip
from gdb_nept.kvm.vcpu_registers import EXIT_INFO_1
from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.live.injection import INJECT, PAGE_FAULT, injection_point
from gdb_nept.live.watch import Event, Reflected, Unread, Watch
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.predict.access import Op, Stage
from gdb_nept.render.check import verdict
from gdb_nept.render.fault import (
    UNNAMED,
    WIDTHS,
    causes_of,
    cells_of,
    columns,
    fault_data,
    like_others,
)
from gdb_nept.render.watch import Tally, heading, watch_page
from gdb_nept.target.running import Halt, NotInserted, Running
from tests.overlay import Overlay, opened
from tests.schemas import hold

pytestmark = pytest.mark.bochs

ELSEWHERE = KernelVirt(0xFFFFFFFF81999999)
BACK, FAULT, STACK = 0xFFFFFFFF81234567, 0x1000, 0x1800
POISON = {
    "vm_exit_reason": 0x31,
    "exit_qualification": 0xDEAD,
    "guest_physical_address": 0x1234000,
    "guest_linear_address": 0x4321000,
}


@dataclass
class Debugger:
    """Goes from place to place of a script: (place, registers, what happens to memory before)."""

    script: list[tuple[KernelVirt, dict[str, int], Callable[[], None]]]
    read: Callable[[KernelVirt, int], bytes]
    hardware_ones: int = 4
    asked: list[set[KernelVirt]] = field(default_factory=list)
    kinds: list[bool] = field(default_factory=list)
    others: dict[int, str] = field(default_factory=dict)  # the user's breakpoints, by stop
    interrupted: set[int] = field(default_factory=set)  # stops at which Ctrl-C has come
    registers: dict[str, int] = field(default_factory=dict)

    def go(self, places: Collection[KernelVirt], hardware: bool) -> Halt:
        if hardware and len(places) > self.hardware_ones:
            raise NotInserted("too many")
        self.asked.append(set(places))
        self.kinds.append(hardware)
        if not self.script:
            return Halt(ELSEWHERE)
        stop = len(self.asked) - 1
        place, self.registers, happens = self.script.pop(0)
        happens()
        others = (self.others[stop],) if stop in self.others else ()
        return Halt(place, others=others, interrupted=stop in self.interrupted)

    def register(self, name: str) -> int:
        return self.registers.get(name, 0)

    def pointer(self, address: KernelVirt) -> KernelVirt:
        return KernelVirt(int.from_bytes(self.read(address, 8), "little"))


@dataclass
class Scene:
    """The memory, and what is in it for a watch."""

    session: Session
    chosen: Chosen
    memory: Overlay
    vmcs12: Vmcs12

    @property
    def inject(self) -> KernelVirt:
        return self.session.kernel.symbols.address(INJECT, "kvm_intel")

    def lies(self, physical: int) -> KernelVirt:
        """A kernel address of it, by the direct map."""
        kernel = self.session.kernel
        base = kernel.read(kernel.symbols.address("page_offset_base"), 8)
        return KernelVirt(int.from_bytes(base, "little") + physical)

    def place(self, address: int, size: int, number: int) -> None:
        self.memory.put(self.session.kernel.to_physical(KernelVirt(address)), number, size)

    def see(self, qualification: int) -> None:
        """The processor left L2 with this qualification, as vcpu_vmx has it."""
        vmx = self.chosen.vcpu.vmx
        assert vmx is not None
        available = vmx.member("vcpu.arch.regs_avail")
        self.place(available.address, 8, available.number() | 1 << EXIT_INFO_1)
        self.place(vmx.member("exit_reason.full").address, 4, EPT_VIOLATION)
        self.place(vmx.member("exit_qualification").address, 8, qualification)

    def call(self, stack: int) -> dict[str, int]:
        """Registers at the injection point; what they point to is put into memory."""
        fault = self.session.kernel.types.struct("x86_exception", "kvm")
        for place in range(fault.size):
            self.place(self.lies(FAULT) + place, 1, 0xA5)
        gpa = self.vmcs12.field("guest_physical_address").value
        self.place(self.lies(FAULT) + fault.member("address").offset, 8, gpa)
        self.place(self.lies(stack), 8, BACK)
        vcpu = self.chosen.vcpu.address
        return {"rdi": vcpu, "rsi": self.lies(FAULT), "rsp": self.lies(stack)}

    def poison(self) -> None:
        assert self.vmcs12.address is not None
        for name, number in POISON.items():
            one = self.vmcs12.field(name)
            self.place(self.vmcs12.address + one.offset, one.size, number)

    def written(self) -> None:
        """KVM has made the exit: the fields are the snapshot's own again."""
        assert self.vmcs12.address is not None
        for name in POISON:
            one = self.vmcs12.field(name)
            self.place(self.vmcs12.address + one.offset, one.size, one.value)

    def left(self, stack: int) -> tuple[KernelVirt, dict[str, int], Callable[[], None]]:
        return KernelVirt(BACK), {"rsp": self.lies(stack) + 8}, self.written

    def debugger(self, *script: tuple[KernelVirt, dict[str, int], Callable[[], None]]) -> Debugger:
        return Debugger(list(script), self.session.kernel.read)

    def watch(self, debugger: Debugger, only: KernelVirt | None = None) -> list[Event]:
        return as_in_its_schema(self.watching(debugger, only).events())

    def following(self, gpa: int) -> list[Event]:
        """A page fault of L2 at `gpa`, for which KVM makes the exit that vmcs12 holds."""
        vmx = self.chosen.vcpu.vmx
        assert vmx is not None
        self.place(vmx.member("loaded_vmcs").address, 8, vmx.member("nested.vmcs02").address)
        fault = self.session.kernel.symbols.address(PAGE_FAULT, "kvm")
        outer = STACK + 0x200
        registers = {**self.call(outer), "rsi": gpa}
        debugger = self.debugger(
            (fault, registers, self.poison),
            (self.inject, self.call(STACK), self.poison),
            self.left(STACK),
            (KernelVirt(BACK), {"rsp": self.lies(outer) + 8}, lambda: None),
        )
        return as_in_its_schema(self.watching(debugger, follow=True).events())

    def watching(
        self, debugger: Debugger, only: KernelVirt | None = None, follow: bool = False
    ) -> Watch:
        def attach() -> Session:
            self.session.drop()
            return self.session

        watching = Watch(attach, Running(debugger, lambda: None), "kvm", only, follow)
        watching.prepare()
        return watching


def as_in_its_schema(events: Iterator[Event]) -> list[Event]:
    """The same, each held against what a line of --json-lines may be."""
    found = list(events)
    for number, event in enumerate(found, 1):
        hold("watch", json.loads(json.dumps(fault_data(number, event))), "fault")
    return found


@pytest.fixture
def scene(exit_snapshot: Path) -> Scene:
    session, chosen = opened(exit_snapshot)
    memory = session.kernel.physical
    assert isinstance(memory, Overlay)
    return Scene(session, chosen, memory, session.vmcs12(chosen))


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


def test_in_what_a_fault_differs_is_told_once_a_cause(scene: Scene) -> None:
    scene.see(0x182)
    place, registers, _ = scene.left(STACK)
    one = scene.vmcs12.field("exit_qualification")

    def written() -> None:
        scene.written()
        scene.place((scene.vmcs12.address or 0) + one.offset, one.size, 0x182)

    begins = (scene.inject, scene.call(STACK), scene.poison)
    (event,) = scene.watch(scene.debugger(begins, (place, registers, written)))
    tally = Tally()
    first, second = tally.take(event), tally.take(event)
    assert "DIFFER [a]" in first
    assert " ".join(verdict_words(event).split()) in " ".join(first.split())
    assert second.endswith("DIFFER [a]")
    assert len(second.splitlines()) == 1
    page = watch_page(tally, (), "kvm", "ended")
    assert page.blocks[0] == "2 faults watched, 2 differ; ended"


def verdict_words(event: Event) -> str:
    assert isinstance(event, Reflected)
    return verdict(event.check)


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


def test_what_no_bug_explains_is_told_once_as_well(scene: Scene) -> None:
    """As often as L2 makes the same access again, at whatever address."""
    event = differing(scene, 0x8)
    tally = Tally()
    first, second = tally.take(event), tally.take(event)
    assert UNNAMED in " ".join(first.split())
    assert " ".join(verdict_words(event).split()) in " ".join(first.split())
    assert second.endswith("DIFFER [a]")
    assert len(second.splitlines()) == 1
    elsewhere = replace(event, gpa=L2Phys(0x7000))
    (cause,) = causes_of(event)
    assert cause.startswith(f"{UNNAMED}: differ: no access to (address) leads to this")
    assert "bits 0x8 of" in cause, "which bits differ is of the cause"
    assert "0x7000" not in like_others(elsewhere)
    third = tally.take(differing(scene, 0x20))
    assert third.splitlines()[0].endswith("DIFFER [b]"), "other bits are another cause"
    assert len(third.splitlines()) > 2


def differing(scene: Scene, bits: int) -> Reflected:
    """An exit of which KVM tells a qualification that nothing known leads to."""
    place, registers, _ = scene.left(STACK)
    one = scene.vmcs12.field("exit_qualification")

    def written() -> None:
        scene.written()
        scene.place((scene.vmcs12.address or 0) + one.offset, one.size, one.value ^ bits)

    begins = (scene.inject, scene.call(STACK), scene.poison)
    (event,) = scene.watch(scene.debugger(begins, (place, registers, written)))
    assert isinstance(event, Reflected)
    return event


@pytest.mark.parametrize("width", [80, 99, 100, 120])
def test_its_lines_fit_the_terminal(scene: Scene, width: int) -> None:
    event, tally = differing(scene, 0x8), Tally(width=width)
    lines = [*heading((), "kvm@bochs-2.7", None, width).splitlines()]
    lines += tally.take(event).splitlines()
    assert max(map(len, lines)) <= width
    assert ("L2 linear" in lines[1]) == (width >= 100)
    assert lines[1].index("verdict") == lines[3].index("DIFFER")
    widest = cells_of(9999, event)
    assert len(widest) == len(WIDTHS)
    full = tuple("x" * each for each in WIDTHS)
    assert len(columns(full, width) + "  agree, not SDM [ab]") <= width
