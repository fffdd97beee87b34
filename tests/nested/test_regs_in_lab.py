# SPDX-License-Identifier: GPL-2.0-or-later
"""L2's registers and L1's, against what L2, L1 and the processor's own rules put there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.errors import BadInput, NoMemory
from gdb_nept.kvm.vcpu_registers import GENERAL
from gdb_nept.nested import at_hand
from gdb_nept.nested.registers import Registers, named, registers
from gdb_nept.render.registers import registers_page
from gdb_nept.render.text import draw
from tests.nested.test_lab import last_park
from tests.overlay import opened

pytestmark = pytest.mark.bochs

PARK = 0x4E455054  # "NEPT": what L2 has in RAX when it parks
PAGE, CODE = 0x2000000, 0x1000000
#: Of the host-state area (appendix B.4), as L1 reads them.
HOST = {"rip": "0x6c16", "rsp": "0x6c14", "cr3": "0x6c02", "cr0": "0x6c00", "cs": "0xc02"}


def logged(snapshot: Path) -> dict[str, int]:
    """The fields of vmcs12 that L1 read by VMREAD before the park, by encoding."""
    found: dict[str, Any] = next(line["vmcs"] for line in last_park(snapshot) if "vmcs" in line)
    return {name: int(value, 16) for name, value in found.items()}


def l2s(found: Registers, name: str) -> int:
    one = found.find(name)
    assert one is not None
    assert one.l2 is not None, name
    return one.l2.number


def l1s(found: Registers, name: str) -> int:
    one = found.find(name)
    assert one is not None
    assert one.l1 is not None, name
    return one.l1.number


def test_while_l2_runs(plain_snapshot: Path) -> None:
    """L2 has called for the park with its own magic; what L1 goes on with is what it wrote."""
    found = registers(*opened(plain_snapshot))
    assert found.l2_active
    assert l2s(found, "rax") >> 32 == PARK
    assert l2s(found, "rip") & ~0xFFF == CODE
    wrote = logged(plain_snapshot)
    for name, encoding in HOST.items():
        assert l1s(found, name) == wrote[encoding], name
    rax = found.find("rax")
    assert rax is not None
    assert rax.l1 is None, "a VM exit loads no general register"


def test_after_an_exit_l1_alone_has_the_general_ones(exit_snapshot: Path) -> None:
    found = registers(*opened(exit_snapshot))
    assert not found.l2_active
    for name in set(GENERAL) - {"rsp"}:
        one = found.find(name)
        assert one is not None
        assert one.l2 is None
        l1s(found, name)
    wrote = logged(exit_snapshot)
    assert l2s(found, "rip") == wrote["0x681e"]
    assert l1s(found, "rip") != l2s(found, "rip")
    text = draw(registers_page(found, named(found, ["rip", "cs"])))
    assert text.startswith(f"L2 on VM 0, vCPU 0: rip {wrote['0x681e']:#x}")
    assert "cs.limit" in text


def test_an_msr_that_no_exit_loads_is_not_l1s(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    control = session.vmcs12(chosen).exit.value
    for load in (0, 1 << 21):
        poison = {"vm_exit_controls": control & ~(1 << 21) | load, "host_ia32_efer": 0xD01}
        one = registers(*opened(plain_snapshot, poison)).find("efer")
        assert one is not None
        assert (one.l1.number if one.l1 else None) == (0xD01 if load else None)


def test_a_register_that_is_none(plain_snapshot: Path) -> None:
    found = registers(*opened(plain_snapshot))
    with pytest.raises(BadInput, match="Did you mean rip"):
        named(found, ["ripp"])
    assert [one.name for one in named(found, ["$pc", "eflags"])] == ["rip", "rflags"]


def test_numbers_for_expressions(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    journey = session.journey(chosen, L2Phys(PAGE + 0x123))
    assert journey.ept12.address is not None
    assert at_hand.host_of_l2(session, chosen, L2Phys(PAGE + 0x123)) == journey.shadowed
    assert at_hand.host_of_vcpu(session, chosen, journey.ept12.address) == journey.shadowed
    linear = at_hand.host_of_l2_linear(session, chosen, L2Virt(CODE))
    assert linear == session.journey(chosen, L2Phys(CODE)).shadowed
    assert at_hand.vmcs12_field(session, chosen, "ept_pointer") == journey.eptp.value
    assert at_hand.l2_register(session, chosen, "rax") >> 32 == PARK
    with pytest.raises(NoMemory, match="EPT12 does not translate"):
        at_hand.host_of_l2(session, chosen, L2Phys(0x1000))
    with pytest.raises(NoMemory, match="no memslot"):
        at_hand.host_of_vcpu(session, chosen, L1Phys(1 << 40))
    with pytest.raises(NoMemory, match="canonical"):
        at_hand.host_of_l2_linear(session, chosen, L2Virt(1 << 60))


def test_the_api_has_them(plain_snapshot: Path) -> None:
    import gdb_nept

    with gdb_nept.open_dump(plain_snapshot / "memory.raw") as target:
        vcpu = target.vcpu()
        rip = L2Virt(l2s(vcpu.registers(), "rip"))
        journey = vcpu.walk_virtual(rip).journey
        assert journey is not None
        assert vcpu.host_of(rip) == journey.host_physical
