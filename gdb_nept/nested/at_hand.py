# SPDX-License-Identifier: GPL-2.0-or-later
"""One number about L2, for an expression of a debugger's or a line of a script.

Each function answers with a number or raises NeptError, which says where the way ends.
"""

from __future__ import annotations

from gdb_nept.address import HostPhys, HostVirt, L1Phys, L2Phys, L2Virt
from gdb_nept.errors import BadInput, MemoryUnreadable, NoMemory, UnreadKind
from gdb_nept.kvm.memslots import MemSlots
from gdb_nept.kvm.vm import Vm
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.registers import named, registers
from gdb_nept.nested.session import Session
from gdb_nept.nested.virtual import virtual_walk


def host_of_vmm(session: Session, owner: Vm, address: HostVirt) -> HostPhys:
    """Where the tables of the process that runs the VM lead."""
    found = session.host_walk(owner, address)
    if found.physical is None:
        raise _no_way(address, found.why, found.unread)
    return found.physical


def host_of_l1(session: Session, owner: Vm, slots: MemSlots, address: L1Phys) -> HostPhys:
    """Where the memslots and the tables of the process behind them lead."""
    slot = slots.find(address)
    if slot is None:
        raise NoMemory(address, 1, "no memslot holds this L1 physical address")
    return host_of_vmm(session, owner, slot.host_virtual(address))


def host_of_vcpu(session: Session, chosen: Chosen, address: L1Phys) -> HostPhys:
    """The same in the address space that the vCPU is in (SMM has its own)."""
    return host_of_l1(session, chosen.owner, session.slots(chosen), address)


def host_of_l2(session: Session, chosen: Chosen, address: L2Phys) -> HostPhys:
    """Where EPT12 leads, and from there as `host_of_vcpu`."""
    journey = session.journey(chosen, address)
    if journey.ept12.address is None:
        stop = journey.ept12.stop
        why = stop.why if stop else "EPT12 leads nowhere"
        raise _no_way(address, f"EPT12 does not translate it: {why}", stop.unread if stop else None)
    return host_of_vcpu(session, chosen, journey.ept12.address)


def host_of_l2_linear(session: Session, chosen: Chosen, address: L2Virt) -> HostPhys:
    """Where L2's own tables lead, and from there as `host_of_l2`; where L1 uses no EPT, as
    `host_of_vcpu`."""
    found = virtual_walk(session, chosen, address)
    if found.landing is not None:
        return host_of_vcpu(session, chosen, found.landing.address)
    if found.walk is None or found.walk.gpa is None:
        stop = found.hidden.stop if found.hidden else None
        why = f"L2's tables do not translate it: {found.why}"
        raise _no_way(address, why, stop.unread if stop else None)
    return host_of_l2(session, chosen, found.walk.gpa)


#: The host has no page there now: that is known.
ABSENT = (None, UnreadKind.NOT_MAPPED, UnreadKind.SWAPPED)


def _no_way(address: int, why: str, kind: UnreadKind | None) -> MemoryUnreadable:
    """NoMemory where nothing is there; where what would tell cannot be read, not."""
    error = NoMemory if kind in ABSENT else MemoryUnreadable
    return error(address, 1, why, kind or UnreadKind.UNREADABLE)


def vmcs12_field(session: Session, chosen: Chosen, name: str) -> int:
    """By KVM's name, the SDM's, or the encoding."""
    found = session.vmcs12(chosen).find(name)
    if found is None:
        raise BadInput(f"vmcs12 has no field '{name}'", "nept-vmcs12 shows all of them.")
    return found.value


def l2_register(session: Session, chosen: Chosen, name: str) -> int:
    """As nept-regs has it."""
    one = named(registers(session, chosen), [name])[0]
    if one.l2 is None:
        raise BadInput(f"L0 does not know L2's {one.name}", "nept-regs says of which it does.")
    return one.l2.number
