# SPDX-License-Identifier: GPL-2.0-or-later
"""L1 looked at from inside: its physical memory, through its memslots, as that of a host.

The tool finds L1's own kernel there, with L1's own KVM and the VM in which that runs L2.  What L0
calls EPT12 is this KVM's table for its VM, EPT01 as it calls it.
"""

from __future__ import annotations

from gdb_nept.address import HostPhys, L1Phys
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.guest import GuestMemory
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session
from gdb_nept.target.linux import attach


class Inside:
    """L1's physical addresses are host physical ones to who looks from inside."""

    def __init__(self, l1: GuestMemory) -> None:
        self._l1 = l1

    def read(self, address: HostPhys, size: int) -> bytes:
        try:
            return self._l1.read(L1Phys(address), size)
        except MemoryUnreadable as error:
            raise MemoryUnreadable(address, size, error.message) from None


def inside(session: Session, chosen: Chosen) -> Session:
    """A session on the kernel that the VM of `chosen` runs, found by search in its memory alone."""
    ram = [range(slot.start, slot.end) for slot in session.slots(chosen).slots if not slot.private]
    memory = Inside(session.l1_memory(chosen))
    return Session(attach(memory, ram=ram, cache=None))
