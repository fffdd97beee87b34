# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose a page is that begins as a vmcs12: what the VMs of the attached kernel say of it."""

from __future__ import annotations

from collections.abc import Iterator

from gdb_nept.address import HostPhys
from gdb_nept.errors import NeptError
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session


def owners(session: Session) -> dict[HostPhys, str]:
    """By host physical page, what KVM keeps there for a vCPU: its copy of the vmcs12, and the pages
    that L1 named by VMPTRLD and VMXON."""
    found: dict[HostPhys, str] = {}
    for vm in session.vms().vms:
        for vcpu in vm.vcpus:
            for place, words in _of(session, Chosen(vm, vcpu)):
                found.setdefault(place, f"{words} of VM {vm.index}, vCPU {vcpu.place}")
    return found


def _of(session: Session, chosen: Chosen) -> Iterator[tuple[HostPhys, str]]:
    """What cannot be followed is left out."""
    nested = chosen.vcpu.nested
    if nested is None or not nested.vmxon:
        return
    try:
        if nested.cached_vmcs12 is not None:
            yield session.kernel.to_physical(nested.cached_vmcs12), "KVM's copy of the vmcs12"
    except NeptError:
        pass
    for pointer, words in (
        (nested.current_vmptr, "current vmcs12"),
        (nested.vmxon_ptr, "VMXON region"),
    ):
        try:
            if pointer is not None:
                place = session.l1_memory(chosen).host_physical(pointer)
                yield HostPhys(place & -PAGE_SIZE), f"{words} (L1 physical {pointer:#x})"
        except NeptError:
            pass
