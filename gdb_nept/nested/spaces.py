# SPDX-License-Identifier: GPL-2.0-or-later
"""The physical memory of L1 and of L2, to be read in pieces or as a whole.

What cannot be read is a value here, an Unread: never a zero, and never a hole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar, cast

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.errors import MemoryUnreadable, NoMemory, UnreadKind
from gdb_nept.kvm.vm import Vm
from gdb_nept.memory.budget import UNBOUNDED, Budget
from gdb_nept.memory.reader import PAGE_SIZE, PhysicalMemory, SpaceIn, page_by_page
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.export import Exported, export
from gdb_nept.nested.pieces import L1Parts, L2Parts, Parts
from gdb_nept.nested.session import Session
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.result import Cause
from gdb_nept.walk.runs import Hole, Unread
from gdb_nept.walk.scan import Scan

Address = TypeVar("Address", bound=int)


class Readable(PhysicalMemory[SpaceIn], Protocol[SpaceIn]):
    """A physical memory that knows where it has any."""

    def extents(self) -> Iterator[tuple[int, int]] | Iterator[tuple[int, int] | Unread]:
        """Where it may have memory, (low, high), in order."""
        ...


@dataclass(frozen=True)
class Pages:
    """`data` is what lies from `start` on."""

    start: int
    data: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class Memory(Generic[Address]):
    """The memory of one physical address space; `whose` in words: "L1's physical memory"."""

    def __init__(
        self, session: Session, whose: str, below: Readable[Address], parts: Parts
    ) -> None:
        self.whose = whose
        self.below = below
        self._physical = session.kernel.physical
        self._parts = parts

    def read(self, address: Address, size: int) -> bytes | Unread:
        """`size` bytes at `address`, all of them or none."""
        try:
            return self.below.read(address, size)
        except MemoryUnreadable as error:
            return Unread(int(address), int(address) + size, error.message, kind=error.kind)

    def extents(self) -> Iterator[tuple[int, int] | Unread]:
        """Where there may be memory, (low, high) in order: L1's memslots, or what EPT12 maps."""
        yield from self.below.extents()

    def pages(self) -> Iterator[Pages | Unread | Hole]:
        """All of it, in order, page by page: what cannot be read is an Unread, and a Hole is what
        has no page: the VMM's process has not touched it, or EPT12 maps it to no memory."""
        for extent in self.extents():
            if isinstance(extent, Unread):
                yield extent
                continue
            for place in range(extent[0], extent[1], PAGE_SIZE):
                yield self._page(place, min(PAGE_SIZE, extent[1] - place))

    def export(
        self, path: Path | str, force: bool = False, budget: Budget | None = None
    ) -> Exported:
        """Write all of it into an ELF core at `path`, as nept-export; `left` of the answer is what
        could not be read.  `force` replaces an older export.  Raises BadInput where a file is
        there, NeptError where none can be written."""
        return export(
            self.whose,
            self._parts,
            lambda address, size: self.below.read(cast(Address, address), size),
            self._physical,
            Path(path),
            force,
            budget or Budget(UNBOUNDED),
        )

    def _page(self, place: int, size: int) -> Pages | Unread | Hole:
        try:
            return Pages(place, self.below.read(cast(Address, place), size))
        except NoMemory:
            return Hole(place, place + size)
        except MemoryUnreadable as error:
            return Unread(place, place + size, error.message, kind=error.kind)


class L2Memory:
    """L2's, through EPT12 and L1's.  What EPT12 does not let L2 read is memory all the same if an
    entry leads there.  Raises NoGuest where L1 uses no EPT."""

    def __init__(self, session: Session, chosen: Chosen) -> None:
        self._ept = session.ept(chosen, Which.L1)
        self._l1 = session.l1_memory(chosen)

    def l1(self, address: L2Phys) -> L1Phys:
        """Raises NoMemory where EPT12 maps nothing, MemoryUnreadable where it cannot be read."""
        walk = walk_ept(self._l1, self._ept.eptp, address, self._ept.cpu)
        if walk.address is not None:
            return walk.address
        why = walk.stop.why if walk.stop else "EPT12 leads nowhere"
        if walk.stop is not None and walk.stop.cause is Cause.UNREADABLE:
            kind = walk.stop.unread or UnreadKind.UNREADABLE
            raise MemoryUnreadable(address, 1, why, kind)
        raise NoMemory(address, 1, why)

    def read(self, address: L2Phys, size: int) -> bytes:
        parts = page_by_page(address, size)
        return b"".join(self._l1.read(self.l1(L2Phys(place)), count) for place, count in parts)

    def extents(self) -> Iterator[tuple[int, int] | Unread]:
        scan: Scan[L2Phys, L1Phys] = Scan(
            self._l1, self._ept.eptp, self._ept.cpu, 0, self._ept.eptp.reach
        )
        for one in scan.found():
            if isinstance(one, Unread):
                yield one
            elif one.stop is None:
                yield one.start, one.end


def l1_of_vcpu(session: Session, chosen: Chosen) -> Memory[L1Phys]:
    """L1's, in the address space that the vCPU is in (SMM has its own)."""
    memory = session.l1_memory(chosen)
    whose = f"L1's physical memory (VM {chosen.vm}, vCPU {chosen.place})"
    return Memory(session, whose, memory, L1Parts(session, chosen.owner, memory).all)


def l1_of_vm(session: Session, vm: Vm) -> Memory[L1Phys]:
    """L1's outside SMM.  Raises NoGuest where the memslots cannot be read."""
    memory = session.memory_of(vm, session.slots_of(vm))
    whose = f"L1's physical memory (VM {vm.index})"
    return Memory(session, whose, memory, L1Parts(session, vm, memory).all)


def l2_of_vcpu(session: Session, chosen: Chosen) -> Memory[L2Phys]:
    """L2's, through EPT12.  Raises NoGuest where L1 uses no EPT."""
    whose = f"L2's physical memory (VM {chosen.vm}, vCPU {chosen.place})"
    return Memory(session, whose, L2Memory(session, chosen), L2Parts(session, chosen).all)
