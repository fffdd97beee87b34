# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers that decide how L2 translates linear addresses, and where each comes from.

While L2 is active KVM keeps its own copies of CR0, CR3, CR4 and EFER in kvm_vcpu_arch, some of them
older than what is in the processor's VMCS; after an exit to L1 they are in vmcs12.
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.errors import MemberMissing, MemoryUnreadable, NoGuest
from gdb_nept.kvm.vcpu import Vcpu
from gdb_nept.kvm.vmcs12 import Authority, Vmcs12
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session
from gdb_nept.walk.paging import Cr0, Cr4, Efer, GuestPaging

NAMES = {
    "cr0": "guest_cr0",
    "cr3": "guest_cr3",
    "cr4": "guest_cr4",
    "efer": "guest_ia32_efer",
    "rflags": "guest_rflags",
}
CURRENT = (Authority.AUTHORITATIVE, Authority.LAST_EXIT)
PDPTRS = 4
ALIGNMENT_CHECK = 1 << 18  # RFLAGS.AC


@dataclass(frozen=True)
class GuestRegister:
    """`doubt` says why the number may not be the true one; '' if it is."""

    name: str
    number: int
    origin: str
    doubt: str = ""


@dataclass(frozen=True)
class GuestRegisters:
    paging: GuestPaging
    registers: tuple[GuestRegister, ...]

    @property
    def doubts(self) -> tuple[str, ...]:
        """Each doubt once, with the registers that it is about."""
        reasons = dict.fromkeys(one.doubt for one in self.registers if one.doubt)
        return tuple(f"{self._named(reason)}: {reason}" for reason in reasons)

    def _named(self, doubt: str) -> str:
        return ", ".join(one.name for one in self.registers if one.doubt == doubt)


def guest_registers(session: Session, chosen: Chosen) -> GuestRegisters:
    """L2's paging registers.  Raises NoGuest where L1 has loaded no VMCS."""
    vmcs12, vcpu = session.vmcs12(chosen), chosen.vcpu
    found = {name: _register(vcpu, vmcs12, name) for name in NAMES}
    if vcpu.capabilities is None:
        raise NoGuest("the vCPU has no nested state")
    paging = GuestPaging(
        Cr0(found["cr0"].number),
        found["cr3"].number,
        Cr4(found["cr4"].number),
        Efer(found["efer"].number),
        vcpu.capabilities.maxphyaddr,
        _pdptrs(vcpu, vmcs12),
        bool(found["rflags"].number & ALIGNMENT_CHECK),
    )
    return GuestRegisters(paging, tuple(found.values()))


def _register(vcpu: Vcpu, vmcs12: Vmcs12, name: str) -> GuestRegister:
    """From the vCPU if L2 is active and KVM has it, else from vmcs12."""
    live = vcpu.register(name) if vmcs12.situation.l2_active else None
    if live is not None:
        return GuestRegister(name, live.number, f"kvm_vcpu_arch.{name}", live.why)
    field = vmcs12.field(NAMES[name])
    doubt = "" if field.authority in CURRENT else f"{field.authority.value}: {field.why}"
    return GuestRegister(name, field.value, f"vmcs12.{field.name}", doubt)


def _pdptrs(vcpu: Vcpu, vmcs12: Vmcs12) -> tuple[int, ...]:
    """Of use with PAE paging alone: arch.pdptrs since 7.2, before in the MMU that walks for L2."""
    if not vmcs12.situation.l2_active:
        return tuple(vmcs12.number(f"guest_pdptr{place}") for place in range(PDPTRS))
    arch = vcpu.value.member("arch")
    try:
        array = arch if arch.has("pdptrs") else arch.member("walk_mmu").deref()
        return tuple(array.member("pdptrs").index(place).number() for place in range(PDPTRS))
    except (MemberMissing, MemoryUnreadable):
        return ()
