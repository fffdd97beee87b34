# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the three ways of nesting memory an L2 runs in.

The measurements of "nEPT: Nested EPT for Nested VMX" (2011) named them: shadow on shadow, shadow on
EPT, and EPT on EPT.
"""

from __future__ import annotations

from enum import Enum

from gdb_nept.errors import NeptError
from gdb_nept.kvm.variables import variable
from gdb_nept.kvm.vms import VmList
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session

Nestings = dict["tuple[int, int]", "Nesting"]


class Nesting(Enum):
    """The value is the name in output and JSON."""

    EPT_ON_EPT = "EPT on EPT"
    SHADOW_ON_EPT = "shadow on EPT"
    SHADOW_ON_SHADOW = "shadow on shadow"


SAYS = {
    Nesting.EPT_ON_EPT: "L1 translates L2's physical addresses by EPT12",
    Nesting.SHADOW_ON_EPT: "L1 runs this L2 without EPT, and CR3 is that of L1's own shadow of "
    "L2's tables, which leads to L1 physical addresses; EPT01 translates those",
    Nesting.SHADOW_ON_SHADOW: "L0 uses no EPT (kvm_intel.ept=0): CR3 is that of L1's own shadow of "
    "L2's tables, which leads to L1 physical addresses, and KVM shadows that again",
}


def nesting(session: Session, chosen: Chosen) -> Nesting:
    """Of the L2 whose vmcs12 is current.  Raises NoGuest where L1 has loaded no VMCS.

    kvm_intel's variable `enable_ept` (vmx/vmx.c) tells of L0; where it is not known, EPT is what
    almost every host uses."""
    if session.vmcs12(chosen).ept_enabled:
        return Nesting.EPT_ON_EPT
    if variable(session.kernel, "enable_ept", 1, "kvm_intel") == 0:
        return Nesting.SHADOW_ON_SHADOW
    return Nesting.SHADOW_ON_EPT


def nestings(session: Session, found: VmList) -> Nestings:
    """Of every vCPU that has a vmcs12, by its VM's number and its own; what cannot be read is left
    out."""
    ways: Nestings = {}
    for vm in found.vms:
        for vcpu in vm.vcpus:
            if vcpu.nested is None or vcpu.nested.current_vmptr is None:
                continue
            try:
                ways[vm.index, vcpu.place] = nesting(session, Chosen(vm, vcpu))
            except NeptError:
                continue  # nept-vmcs12 says why
    return ways
