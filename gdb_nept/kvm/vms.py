# SPDX-License-Identifier: GPL-2.0-or-later
"""All VMs of a KVM host: the list vm_list of virt/kvm/kvm_main.c."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gdb_nept.address import KernelVirt
from gdb_nept.errors import MemoryUnreadable, NoGuest, SymbolMissing
from gdb_nept.kvm.containers import Found, list_nodes
from gdb_nept.kvm.loaded import require_intel
from gdb_nept.kvm.problems import Unreadable
from gdb_nept.kvm.variables import variable, variable_address
from gdb_nept.kvm.vm import Vm, read_vm
from gdb_nept.memory.budget import out_of_fields
from gdb_nept.target.ports import Kernel, container_of, object_at


@dataclass(frozen=True)
class VmList:
    """The VMs, oldest first; `notes` are what the user should know about the list itself, and
    `unknown` says why there may be more VMs ('' if these are all)."""

    vms: tuple[Vm, ...]
    notes: tuple[str, ...]
    unknown: str = ""
    unreadable: tuple[Unreadable, ...] = ()  # of the notes


def vms(kernel: Kernel) -> VmList:
    """Every VM of the host.  No VM at all is a result.

    Raises NoGuest where KVM or its Intel part is not there, TypeMissing where types of it are
    not to be had.
    """
    require_intel(kernel)
    found = _listed(kernel, vm_list(kernel))
    read, unread = _read_all(kernel, found.addresses)
    unknown = [each for each in (found.problem, unread) if each]
    notes = list(unknown)
    if _lock_held(kernel):
        notes.append("kvm_lock is held: the list of VMs may be in the middle of a change")
    cut = (Unreadable(found.problem, found.kind),) if found.kind else ()
    return VmList(read, tuple(notes), "; ".join(unknown), cut)


def _read_all(kernel: Kernel, places: Sequence[KernelVirt]) -> tuple[tuple[Vm, ...], str]:
    """The VMs at `places` as far as they may be looked at, and what is said of the others.  One
    that was begun alone is shown as far as it was read; of several, none is in part."""
    found: list[Vm] = []
    for index, address in enumerate(places):
        vm = read_vm(object_at(kernel, address, "kvm", "kvm"), index)
        spent = out_of_fields()
        if not spent or not found:
            found.append(vm)
        if spent and len(found) < len(places):
            left = f"VMs {len(found)} to {len(places) - 1} ({len(places) - len(found)})"
            return tuple(found), f"{left} not looked at: {spent}"
    return tuple(found), ""


def vm_places(kernel: Kernel, head: KernelVirt) -> dict[KernelVirt, int]:
    """Each struct kvm of the list at `head`, and its index; nothing more is read."""
    return {address: index for index, address in enumerate(_listed(kernel, head).addresses)}


def vm_list(kernel: Kernel) -> KernelVirt:
    """Where the head of the list lies.  Raises NoGuest."""
    head = variable_address(kernel, "vm_list", "kvm")
    if head is not None:
        return head
    advice = (
        "The kernel needs CONFIG_KALLSYMS_ALL, or give gdb the debug symbols of kvm.ko: "
        "nept-target tells how."
    )
    try:
        return kernel.symbols.address("vm_list", "kvm")
    except SymbolMissing as error:
        what = "kvm is loaded, but its variable 'vm_list' has no symbol"
        raise NoGuest(what, f"{error.advice} {advice}") from None


def _listed(kernel: Kernel, head: KernelVirt) -> Found:
    """Every struct kvm of the list at `head`, the oldest first: list_add() puts a new one in
    front."""
    nodes = list_nodes(kernel, head)
    vms = (container_of(kernel, node, "kvm", "vm_list", "kvm") for node in nodes.addresses[::-1])
    return replace(nodes, addresses=tuple(vm.address for vm in vms))


def _lock_held(kernel: Kernel) -> bool:
    """struct mutex kvm_lock begins with its owner (5.3+; a spinlock before, told the same)."""
    try:
        return bool(variable(kernel, "kvm_lock", 4, "kvm"))
    except MemoryUnreadable:
        return False
