# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose the registers are that a debugger shows, and what L2's own are.

A stub shows the processor as it stands: L2's registers if it is stopped in L2, else L0's, whatever
vCPU is looked at.  Of L2's, KVM keeps what it saved at its own last exit.
"""

from __future__ import annotations

from collections.abc import Iterator

from gdb_nept.arch.paging import Cr3
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.kvm.authority import Authority
from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.guest_registers import GuestRegister
from gdb_nept.nested.session import Session
from gdb_nept.target.running import Selected
from gdb_nept.target.scan import PTI_USER

IN_VMCS12 = {"rsp": "guest_rsp", "rip": "guest_rip"}


def not_l2s(session: Session, chosen: Chosen, selected: Selected) -> str:
    """Why the selected processor's registers are not those of L2 on this vCPU; '' if they are."""
    vcpu = chosen.vcpu
    name = f"L2 on VM {chosen.vm}, vCPU {chosen.place}"
    if selected.cpu is None:
        return f"this debugger shows tasks of L0's, and never {name}"
    if vcpu.nested is None or not vcpu.nested.l2_active:
        return f"{name}, is not active: L1 or L0 runs"
    if not vcpu.in_guest:
        return f"{name}, is not what a processor runs now: L0 does"
    if selected.cpu != vcpu.cpu:
        return f"{name}, runs on CPU {vcpu.cpu}, and gdb stands on CPU {selected.cpu}"
    return _another_cr3(session, chosen, selected)


def _another_cr3(session: Session, chosen: Chosen, selected: Selected) -> str:
    """KVM says "in guest mode" some instructions before and after it is; CR3 tells."""
    if selected.cr3 is None:
        return ""
    root, own = Cr3(selected.cr3).address, _process_root(session, chosen)
    if own is not None and root & ~PTI_USER == own:
        return "the processor's CR3 is that of the process that runs L1: it executes L0"
    if selected.cr3 == 0:
        return "the processor's CR3 is 0: it does not stand where its memory says"
    return ""


def _process_root(session: Session, chosen: Chosen) -> int | None:
    pgd = chosen.owner.mm_pgd
    try:
        return None if pgd is None else session.kernel.to_physical(pgd)
    except MemoryUnreadable:
        return None


def own_registers(
    chosen: Chosen, vmcs12: Vmcs12, names: tuple[str, ...]
) -> Iterator[GuestRegister]:
    """L2's, as KVM has them; nothing of those that it has not."""
    vcpu = chosen.vcpu
    for name in dict.fromkeys(("rsp", "rip", *names)):
        live = vcpu.register(name) if vmcs12.situation.l2_active else None
        if live is not None and live.valid:
            yield GuestRegister(name, live.number, f"kvm_vcpu_arch.regs, {name}")
        elif name in IN_VMCS12:
            field = vmcs12.field(IN_VMCS12[name])
            sure = field.authority is Authority.AUTHORITATIVE
            doubt = "" if sure else f"{field.authority.value}: {field.why}"
            yield GuestRegister(name, field.value, f"vmcs12.{field.name}", doubt)
        elif live is not None:
            yield GuestRegister(name, live.number, f"kvm_vcpu_arch.regs, {name}", live.why)
