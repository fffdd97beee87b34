# SPDX-License-Identifier: GPL-2.0-or-later
"""A real memory of the lab with single words replaced, and a session on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gdb_nept.address import HostPhys, L1Phys, L2Phys
from gdb_nept.errors import MemoryUnreadable, UnreadKind
from gdb_nept.judge.candidates import place_of
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.target.linux import attach
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.scan import Scan
from tests.conftest import kernel_cache


class Held:
    """A snapshot, to be read in another way; open as a dump is."""

    def __init__(self, below: RawMemory[HostPhys]) -> None:
        self.below = below

    def read(self, address: HostPhys, size: int) -> bytes:
        return self.below.read(address, size)

    def data_ranges(self) -> list[range]:
        return self.below.data_ranges()

    def left_out(self) -> int:
        return self.below.left_out()

    def close(self) -> None:
        self.below.close()


class Overlay(Held):
    """A snapshot with some bytes replaced."""

    def __init__(self, below: RawMemory[HostPhys]) -> None:
        super().__init__(below)
        self.bytes: dict[int, int] = {}

    def read(self, address: HostPhys, size: int) -> bytes:
        data = bytearray(self.below.read(address, size))
        for place, byte in self.bytes.items():
            if address <= place < address + size:
                data[place - address] = byte
        return bytes(data)

    def put(self, address: int, number: int, size: int) -> None:
        for place, byte in enumerate(number.to_bytes(size, "little")):
            self.bytes[address + place] = byte


class Filtered(Held):
    """A snapshot without some pages, as makedumpfile -d leaves them out; or for another reason."""

    def __init__(self, below: RawMemory[HostPhys]) -> None:
        super().__init__(below)
        self.without: set[int] = set()
        self.kind = UnreadKind.FILTERED

    def read(self, address: HostPhys, size: int) -> bytes:
        first, last = address // PAGE_SIZE, (address + size - 1) // PAGE_SIZE
        if self.without.intersection(range(first, last + 1)):
            raise MemoryUnreadable(address, size, "left out", self.kind)
        return self.below.read(address, size)


def tables(session: Session, chosen: Chosen) -> dict[int, int]:
    """Each table of EPT12: its page of the host's, and its level."""
    ept = session.ept(chosen, Which.L1)
    scan = session.scan(ept, 0, ept.eptp.reach)
    assert isinstance(scan, Scan)
    scan.references = True
    found = {int(ept.eptp.address): ept.eptp.levels}
    for run in scan.mappings():
        if run.stop is None and not run.entry.leaf_at(run.level):
            found[run.entry.address] = run.level - 1
    memory = session.l1_memory(chosen)
    return {
        memory.host_physical(L1Phys(place)) // PAGE_SIZE: level for place, level in found.items()
    }


def opened(
    snapshot: Path,
    poison: Mapping[str, int] | None = None,
    entries: Mapping[int, int] | None = None,
    at: int | None = None,
) -> tuple[Session, Chosen]:
    """A session on the snapshot, `poison` in place of what the fields of vmcs12 hold, and
    `entries` in place of EPT12's entries by level, on the way of the access that was reflected, or
    of the L2 physical address `at`."""
    raw: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
    memory = Overlay(raw)
    session = Session(attach(memory, ram=raw.size, cache=kernel_cache()))
    chosen = session.pick(None, None)
    vmcs12 = session.vmcs12(chosen)
    assert vmcs12.address is not None
    base = session.kernel.to_physical(vmcs12.address)
    for name, number in (poison or {}).items():
        field = vmcs12.field(name)
        memory.put(base + field.offset, number, field.size)
    if not entries:
        session.drop()
        return session, session.pick(None, None)
    l1 = session.l1_memory(chosen)
    gpa = place_of(vmcs12).gpa if at is None else L2Phys(at)
    for step in walk_ept(l1, vmcs12.eptp, gpa, session.ept(chosen, Which.L1).cpu).steps:
        if step.level in entries:
            memory.put(l1.host_physical(step.address), entries[step.level], 8)
    session.drop()
    return session, session.pick(None, None)
