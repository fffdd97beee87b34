# SPDX-License-Identifier: GPL-2.0-or-later
"""The place in KVM where an exit is made for L1 because of EPT12, and what registers hold there.

arch/x86/kvm/vmx/nested.c: nested_ept_inject_page_fault(vcpu, fault) is what the MMU that shadows
EPT12 calls for every access of L2 that EPT12 refuses (since 3.12, 25d92081ae2f).  It is called
through a pointer, kvm_mmu.inject_page_fault (after 7.2 in the struct kvm_pagewalk that kvm_mmu.w
points to: there vcpu->arch.ngpa_walk), so that it exists as a function whatever the compiler
inlines.  By the time it returns, vmcs12 is complete.
"""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.address import KernelVirt, L2Phys
from gdb_nept.errors import MemberMissing, NoGuest, SymbolMissing
from gdb_nept.kvm.vms import VmList
from gdb_nept.target.ports import Kernel, Value, object_at
from gdb_nept.target.running import Running

INJECT = "nested_ept_inject_page_fault"
PAGE_FAULT = "kvm_mmu_page_fault"
POINTER_SIZE = 8


@dataclass(frozen=True)
class Point:
    """A function of KVM's to stop at, and how it was found."""

    address: KernelVirt
    name: str
    how: str


@dataclass(frozen=True)
class Call:
    """A processor at the first instruction of a function that takes a struct kvm_vcpu first.

    `back` is where it returns to, and `stack` RSP once it has: together they tell this call from
    any other."""

    vcpu: KernelVirt
    second: int
    back: KernelVirt
    stack: int

    @property
    def end(self) -> tuple[KernelVirt, int]:
        return self.back, self.stack


def injection_point(kernel: Kernel, there: VmList) -> Point:
    """By its symbol, or else by the pointer to it in a vCPU that shadows an EPT12.  Raises NoGuest
    where neither tells."""
    try:
        address = kernel.symbols.address(INJECT, "kvm_intel")
        return Point(address, INJECT, f"symbol of {kernel.symbols.origin}")
    except SymbolMissing as error:
        for vm in there.vms:
            for vcpu in vm.vcpus:
                found = _pointer(vcpu.value)
                if found and vcpu.nested and vcpu.nested.l2_active:
                    return Point(found, INJECT, "guest_mmu.inject_page_fault of a nested vCPU")
        raise NoGuest(
            f"the place where KVM tells L1 of EPT faults is not known: {error.message}",
            "Without that symbol it is found by a vCPU on which L2 is active: let L2 run first.",
        ) from None


def _pointer(vcpu: Value) -> KernelVirt | None:
    try:
        mmu = vcpu.member("arch.guest_mmu")
        walk = mmu.member("w").deref() if mmu.has("w") else mmu
        return walk.member("inject_page_fault").pointer() or None
    except MemberMissing:
        return None  # before 5.0


def page_fault_point(kernel: Kernel) -> Point:
    """kvm_mmu_page_fault(vcpu, gpa, ...): every EPT violation and misconfiguration that the
    processor takes, of L1 and of L2, comes by here (arch/x86/kvm/mmu/mmu.c; exported).  Raises
    SymbolMissing."""
    address = kernel.symbols.address(PAGE_FAULT, "kvm")
    return Point(address, PAGE_FAULT, f"symbol of {kernel.symbols.origin}")


def call_at(machine: Running) -> Call:
    """The call that a processor is about to begin; System V ABI, nothing pushed yet."""
    stack = machine.register("rsp")
    return Call(
        KernelVirt(machine.register("rdi")),
        machine.register("rsi"),
        machine.pointer(KernelVirt(stack)),
        stack + POINTER_SIZE,
    )


def faulting_address(kernel: Kernel, call: Call) -> L2Phys:
    """Where the access went: `address` of the struct x86_exception, and nothing else of it, since
    the rest is KVM's answer."""
    fault = object_at(kernel, KernelVirt(call.second), "x86_exception", "kvm")
    return L2Phys(fault.member("address").number())
