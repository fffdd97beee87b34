# SPDX-License-Identifier: GPL-2.0-or-later
"""A watch, with a debugger of our own over a real memory.

L1 stands in its exit handler, just after an EPT exit.  The moment at which KVM began to make that
exit is played by the same memory with another exit in vmcs12's fields.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Callable

from gdb_nept.address import KernelVirt
from gdb_nept.arch.exits import EPT_VIOLATION
from gdb_nept.kvm.vcpu_registers import EXIT_INFO_1
from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.live.injection import INJECT, PAGE_FAULT
from gdb_nept.live.watch import Event, Watch
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session
from gdb_nept.render.fault import (
    fault_data,
)
from gdb_nept.target.running import Halt, NotInserted, Running
from tests.overlay import Overlay
from tests.schemas import hold

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
