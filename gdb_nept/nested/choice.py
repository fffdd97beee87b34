# SPDX-License-Identifier: GPL-2.0-or-later
"""Which vCPU the user means, where one is enough to need no option."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.errors import NoGuest
from gdb_nept.kvm.vcpu import Vcpu
from gdb_nept.kvm.vm import Vm
from gdb_nept.kvm.vms import VmList

MOST_LISTED = 8  # names: a damaged VM can have thousands of vCPUs


@dataclass(frozen=True)
class Chosen:
    """A vCPU with the VM that it belongs to."""

    owner: Vm
    vcpu: Vcpu

    @property
    def vm(self) -> int:
        """The VM's number in nept-vms."""
        return self.owner.index

    @property
    def place(self) -> int:
        """The vCPU's number in its VM."""
        return self.vcpu.place


def choose(found: VmList, vm: int | None, vcpu: int | None, of_l1: bool = False) -> Chosen:
    """The vCPU of these numbers in nept-vms.

    What is not given is found: the only vCPU on which L2 is active, or else the only one in VMX
    operation; for what L1 has by itself (`of_l1`), where no guest is in VMX operation, the first
    vCPU of the only VM.  Raises NoGuest, which says what there is to choose from.
    """
    if vm is not None and vcpu is not None:
        owner = vm_at(found, vm)
        return Chosen(owner, vcpu_at(owner, vcpu))
    owners = found.vms if vm is None else (vm_at(found, vm),)
    if not owners:
        raise NoGuest("no VM runs on this host", "Start one, or attach while one runs.")
    there = [Chosen(owner, each) for owner in owners for each in owner.vcpus]
    meant = [each for each in there if vcpu is None or each.place == vcpu]
    if there and not meant:
        raise NoGuest(f"no VM has a vCPU {vcpu}", "List them with nept-vms.")
    problems = [problem for owner in owners for problem in owner.problems]
    return _only(meant, problems, of_l1)


def _only(candidates: list[Chosen], problems: list[str], of_l1: bool) -> Chosen:
    """The one on which L2 is active, or else the one in VMX operation, or else the only one."""
    active = [each for each in candidates if each.vcpu.nested and each.vcpu.nested.l2_active]
    in_vmx = [each for each in candidates if each.vcpu.nested and each.vcpu.nested.vmxon]
    for what, chosen in (("L2 active", active), ("in VMX operation", in_vmx)):
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            named = _listed([f"VM {each.vm} vCPU {each.place}" for each in chosen])
            raise NoGuest(
                f"{len(chosen)} vCPUs are {what}: {named}", "Choose with --vm and --vcpu."
            )
    if of_l1 and len({each.vm for each in candidates}) == 1:
        return candidates[0]
    if problems:
        raise NoGuest(f"which vCPU is nested cannot be told: {problems[0]}", "See nept-vms.")
    if of_l1 and candidates:
        raise NoGuest(f"{len(candidates)} vCPUs are in several VMs", "Choose with --vm.")
    if len(candidates) == 1:
        return candidates[0]
    raise NoGuest(
        f"none of the {len(candidates)} vCPUs has nested state: no guest is in VMX operation",
        "Start an L2 in one of the VMs; nept-vms lists them.",
    )


def vm_at(found: VmList, index: int) -> Vm:
    """The VM that the list shows as `index`; raises NoGuest."""
    if 0 <= index < len(found.vms):
        return found.vms[index]
    if found.unknown:
        raise NoGuest(f"VM {index} is not among the VMs that can be read: {found.unknown}")
    count = len(found.vms)
    known = "there is no VM" if not count else f"VMs are numbered 0 to {count - 1}"
    raise NoGuest(f"no VM {index}: {known}", "List them with nept-vms.")


def vcpu_at(vm: Vm, place: int) -> Vcpu:
    """vCPU `place` of `vm`; raises NoGuest."""
    for vcpu in vm.vcpus:
        if vcpu.place == place:
            return vcpu
    for unread in vm.unread:
        if unread.place == place:
            raise NoGuest(f"VM {vm.index}, vCPU {place} cannot be read: {unread.why}")
    if vm.vcpus_unknown:
        raise NoGuest(f"the vCPUs of VM {vm.index} cannot all be read: {vm.vcpus_unknown}")
    places = _listed([str(vcpu.place) for vcpu in vm.vcpus]) or "none"
    raise NoGuest(f"VM {vm.index} has no vCPU {place}", f"Its vCPUs: {places}.")


def _listed(names: list[str]) -> str:
    """'0, 1, 2', and of many the first few."""
    more = len(names) - MOST_LISTED
    return ", ".join((*names[:MOST_LISTED], *([f"{more} more"] if more > 0 else [])))
