# SPDX-License-Identifier: GPL-2.0-or-later
"""What KVM holds of a vCPU's registers, and whether it is what the guest has."""

from __future__ import annotations

import pytest

from gdb_nept.kvm.vcpu import pdptrs_cached, read_vcpu
from tests.kvm.fake import FakeKernel, new_vcpu
from tests.kvm.offsets import COMMON, debian

FREE = 4096  # of struct kvm_vcpu_arch, where nothing lies that is read


def test_registers_know_whether_they_are_current() -> None:
    kernel = FakeKernel(debian())
    vmx = new_vcpu(kernel)
    kernel.poke(vmx, "vcpu.arch.regs", 0x1234, 16)
    rip = read_vcpu(kernel, vmx.address, 0).register("rip")
    assert rip
    assert (rip.number, rip.valid, rip.why) == (0x1234, False, "in the loaded VMCS")
    kernel.poke(vmx, "vcpu.arch.regs_avail", 1 << 16 | 1 << 19)
    vcpu = read_vcpu(kernel, vmx.address, 0)
    valid = {register.name for register in vcpu.registers if register.valid}
    assert {"rip", "cr3", "rax", "efer"} <= valid
    assert not valid & {"rsp", "cr0", "cr4"}
    kernel.poke(vmx, "vcpu.mode", 1)
    kernel.poke(vmx, "vcpu.cpu", 3)
    vcpu = read_vcpu(kernel, vmx.address, 0)
    assert vcpu.in_guest
    assert not any(register.valid for register in vcpu.registers if register.name != "efer")


def test_rip_is_beside_the_general_registers_since_7_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """asm/kvm_host.h of 7.2: regs[16], rip, and regs_avail as a bitmap."""
    monkeypatch.setitem(COMMON["kvm_vcpu_arch"], "regs", "u8[16]")
    monkeypatch.setitem(COMMON["kvm_vcpu_arch"], "regs_avail", "u8[1]")
    offsets = debian()
    fields = offsets["kvm_vcpu_arch"].fields
    fields.update(regs=(0, 128), rip=(FREE, 8), regs_avail=(FREE + 8, 8))
    kernel = FakeKernel(offsets)
    vmx = new_vcpu(kernel)
    kernel.poke(vmx, "vcpu.arch.rip", 0x1234)
    kernel.poke(vmx, "vcpu.arch.regs_avail", 1 << 16 | 1 << 19, 0)
    vcpu = read_vcpu(kernel, vmx.address, 0)
    rip = vcpu.register("rip")
    assert rip
    assert (rip.number, rip.valid) == (0x1234, True)
    assert {one.name for one in vcpu.registers if one.valid} >= {"cr3", "rax"}


def test_where_registers_are_with_32_general_ones_is_not_guessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What follows the general registers in enum kvm_reg then has other places in regs_avail."""
    monkeypatch.setitem(COMMON["kvm_vcpu_arch"], "regs", "u8[32]")
    offsets = debian()
    offsets["kvm_vcpu_arch"].fields.update(regs=(FREE, 256), rip=(FREE + 256, 8))
    kernel = FakeKernel(offsets)
    vmx = new_vcpu(kernel)
    kernel.poke(vmx, "vcpu.arch.regs", 0xBAD, 16)  # R16
    kernel.poke(vmx, "vcpu.arch.rip", 0x1234)
    kernel.poke(vmx, "vcpu.arch.regs_avail", 0xFFFF_FFFF)
    vcpu = read_vcpu(kernel, vmx.address, 0)
    rip = vcpu.register("rip")
    assert rip
    assert (rip.number, rip.valid) == (0x1234, False)
    assert not pdptrs_cached(vcpu)
    valid = {one.name for one in vcpu.registers if one.valid}
    assert {"rax", "rsp"} <= valid
    assert not valid & {"cr0", "cr3", "cr4"}
