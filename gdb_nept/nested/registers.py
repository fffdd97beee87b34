# SPDX-License-Identifier: GPL-2.0-or-later
"""L2's registers and L1's, as far as L0's memory has them, each with where it was taken from.

While L2 is active KVM keeps its general registers in kvm_vcpu_arch.regs as of the last exit, and
what L1 goes on with is the host-state area of vmcs12 (SDM vol. 3, June 2026, 27.5).  After an exit
to L1 it is the other way round: L2's are in vmcs12 where a field of it is for them, and L1 alone
has the general ones, which no VM exit saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gdb_nept.arch.paging import PAGING_PAE
from gdb_nept.errors import BadInput
from gdb_nept.kvm.guest_state import PDPTRS, SEGMENTS
from gdb_nept.kvm.vcpu import Vcpu
from gdb_nept.kvm.vcpu_registers import GENERAL
from gdb_nept.kvm.vmcs12 import Field, Vmcs12
from gdb_nept.near import advised
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.guest_registers import (
    GuestRegister,
    GuestRegisters,
    guest_registers,
)
from gdb_nept.nested.session import Session
from gdb_nept.nested.whose import IN_VMCS12

PARTS = ("selector", "base", "limit", "ar_bytes")
#: Registers that are shown if none is named.
USUAL = (*GENERAL, "rip", "rflags", "cr0", "cr3", "cr4", "efer", "cs", "ss")
OTHERS = {
    "dr7": "guest_dr7",
    "debugctl": "guest_ia32_debugctl",
    "pat": "guest_ia32_pat",
    "sysenter_cs": "guest_sysenter_cs",
    "sysenter_esp": "guest_sysenter_esp",
    "sysenter_eip": "guest_sysenter_eip",
}
#: The host-state area's own names (27.5): a VM exit loads these, and no others.
HOST = {"efer": "host_ia32_efer", "pat": "host_ia32_pat"}


@dataclass(frozen=True)
class Both:
    """One register of each; None where L0 does not know it."""

    name: str
    l2: GuestRegister | None
    l1: GuestRegister | None


@dataclass(frozen=True)
class Registers:
    """All of a vCPU; `lost` says what this kernel has no member for."""

    vm: int
    vcpu: int
    l2_active: bool
    lines: tuple[Both, ...]
    lost: tuple[str, ...] = ()

    def find(self, name: str) -> Both | None:
        return next((one for one in self.lines if one.name == name), None)


def registers(session: Session, chosen: Chosen) -> Registers:
    """All that there are.  Raises NoGuest where L1 has loaded no VMCS."""
    vmcs12 = session.vmcs12(chosen)
    own = guest_registers(session, chosen)
    lines = tuple(_lines(chosen.vcpu, vmcs12, own))
    active = vmcs12.situation.l2_active
    return Registers(chosen.vm, chosen.place, active, lines, own.lost)


def named(found: Registers, names: Sequence[str]) -> tuple[Both, ...]:
    """The registers of these names (rip, cs: with its base, limit and access rights); raises
    BadInput for one that is none."""
    known = [one.name for one in found.lines]
    lines: dict[str, Both] = {}
    for name in names:
        wanted = name.lstrip("$%").lower()
        wanted = {"eflags": "rflags", "pc": "rip", "sp": "rsp"}.get(wanted, wanted)
        fitting = [one for one in found.lines if one.name.split(".")[0] == wanted]
        fitting = fitting or [one for one in found.lines if one.name == wanted]
        if not fitting:
            advice = advised(name, known, "nept-regs --all shows all of them.")
            raise BadInput(f"there is no register '{name}'", advice)
        lines.update({one.name: one for one in fitting})
    return tuple(lines.values())


def _lines(vcpu: Vcpu, vmcs12: Vmcs12, own: GuestRegisters) -> Iterator[Both]:
    for name in (*GENERAL, "rip"):
        yield Both(name, _general(vcpu, vmcs12, name), _of_l1(vcpu, vmcs12, name))
    paging = {one.name: one for one in own.registers}
    for name in ("rflags", "cr0", "cr3", "cr4", "efer"):
        yield Both(name, paging.get(name), _of_l1(vcpu, vmcs12, name))
    for segment in SEGMENTS:
        for part in PARTS:
            shown = segment if part == "selector" else f"{segment}.{part.partition('_')[0]}"
            yield _pair(vmcs12, shown, f"guest_{segment}_{part}", f"host_{segment}_{part}")
    for table in ("gdtr", "idtr"):
        for part in ("base", "limit"):
            yield _pair(vmcs12, f"{table}.{part}", f"guest_{table}_{part}", f"host_{table}_{part}")
    for name, field in OTHERS.items():
        yield _pair(vmcs12, name, field, HOST.get(name, f"host_ia32_{name}"))
    if own.paging.mode is PAGING_PAE:
        for place, field in enumerate(PDPTRS):
            yield _pair(vmcs12, f"pdptr{place}", field, "")


def _general(vcpu: Vcpu, vmcs12: Vmcs12, name: str) -> GuestRegister | None:
    live = vcpu.register(name) if vmcs12.situation.l2_active else None
    if live is not None and (live.valid or name not in IN_VMCS12):
        return GuestRegister(name, live.number, "kvm_vcpu_arch.regs", live.why)
    return _field(vmcs12, name, IN_VMCS12[name]) if name in IN_VMCS12 else None


def _of_l1(vcpu: Vcpu, vmcs12: Vmcs12, name: str) -> GuestRegister | None:
    """While L2 is active, what the next exit gives L1."""
    if vmcs12.situation.l2_active:
        return _host(vmcs12, name, HOST.get(name, f"host_{name}"))
    live = vcpu.register(name)
    origin = f"kvm_vcpu_arch.{name}" if name not in (*GENERAL, "rip") else "kvm_vcpu_arch.regs"
    return None if live is None else GuestRegister(name, live.number, origin, live.why)


def _pair(vmcs12: Vmcs12, name: str, guest: str, host: str) -> Both:
    l1 = _host(vmcs12, name, host) if vmcs12.situation.l2_active else None
    return Both(name, _field(vmcs12, name, guest), l1)


def _host(vmcs12: Vmcs12, name: str, field: str) -> GuestRegister | None:
    """What an exit loads (29.5.1): of two MSRs only where a control asks for it."""
    asked = {"efer": vmcs12.exit.load_efer, "pat": vmcs12.exit.load_pat}
    return _field(vmcs12, name, field) if asked.get(name, True) else None


def _field(vmcs12: Vmcs12, name: str, wanted: str) -> GuestRegister | None:
    found: Field | None = next((one for one in vmcs12.fields if one.name == wanted), None)
    if found is None:
        return None
    return GuestRegister(name, found.value, f"vmcs12.{found.name}", found.doubt)
