# SPDX-License-Identifier: GPL-2.0-or-later
"""The decoded state of a real L0, L1 and L2 against what those three said of themselves.

L1 logged its EPT12 entries, its VMREADs and where it and L2 put signatures; the VMM logged its
memslots and, from /proc/self/pagemap, the host's page frames.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.address import HostPhys, L1Phys, L2Phys
from gdb_nept.arch.ept import page_size
from gdb_nept.kvm.authority import Authority
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import read_u64
from gdb_nept.nested.agreement import Agreement
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.nested.verdict import verdict
from gdb_nept.target.linux import attach
from gdb_nept.walk.ept import walk_ept
from tests.conftest import kernel_cache
from tests.kernels import facts_of

pytestmark = pytest.mark.bochs


@lru_cache
def opened(snapshot: Path) -> tuple[Session, Chosen]:
    memory: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
    session = Session(attach(memory, ram=memory.size, cache=kernel_cache()))
    return session, session.pick(None, None)


def said(snapshot: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((snapshot / "facts.json").read_text())
    return found


def last_park(snapshot: Path) -> list[dict[str, Any]]:
    """What was said between the park point before the one that the snapshot is of, and that."""
    lines = said(snapshot)
    parks = [place for place, line in enumerate(lines) if "park" in line]
    return lines[parks[-2] + 1 if len(parks) > 1 else 0 : parks[-1]]


def hexed(number: int) -> str:
    return f"{number:#x}"


def test_vms_vcpus_and_memslots_are_those_that_the_vmm_set_up(snapshot: Path) -> None:
    session, _ = opened(snapshot)
    made = [line for line in said(snapshot) if "vm" in line]
    found = session.vms()
    assert found.notes == ()
    assert len(found.vms) == len(made) == 3
    for vm, line in zip(found.vms, made):
        assert (vm.pid, vm.problems) == (line["pid"], ())
        assert [vcpu.id for vcpu in vm.vcpus] == [vcpu["id"] for vcpu in line["vcpus"]]
        assert vm.slots is not None
        assert [
            (slot.id, hexed(slot.start), hexed(slot.size), hexed(slot.userspace_addr))
            for slot in vm.slots.slots
        ] == [(slot["slot"], slot["gpa"], slot["size"], slot["hva"]) for slot in line["slots"]]
        assert [slot.flags.value for slot in vm.slots.slots] == [
            slot["flags"] for slot in line["slots"]
        ]


def nested_state(snapshot: Path) -> dict[str, Any]:
    """The last KVM_GET_NESTED_STATE that the VMM printed."""
    lines = [line["nested_state"] for line in said(snapshot) if "nested_state" in line]
    found: dict[str, Any] = lines[-1]
    return found


def test_l2_is_active_by_every_sign(snapshot: Path) -> None:
    _, chosen = opened(snapshot)
    nested = chosen.vcpu.nested
    assert nested is not None
    assert nested.l2_active
    counted = True if facts_of(snapshot).guest_mode_counted else None
    assert [sign.says for sign in nested.signs] == [True, True, counted, True]
    assert nested.disagreement == ""
    state = nested_state(snapshot)
    assert nested.vmxon_ptr == int(state["vmxon_pa"], 16)
    assert nested.current_vmptr == int(state["vmcs12_pa"], 16)


def test_l2_is_not_active_in_l1s_exit_handler(exit_snapshot: Path) -> None:
    _, chosen = opened(exit_snapshot)
    nested = chosen.vcpu.nested
    assert nested is not None
    assert nested.vmxon
    assert not nested.l2_active
    signs = [sign.says for sign in nested.signs]
    counted = False if facts_of(exit_snapshot).guest_mode_counted else None
    assert signs == [False, False, counted, None]  # arch.mmu does not tell while L1 runs
    assert nested_state(exit_snapshot)["guest_mode"] is False


def test_ept02_is_the_one_that_the_processor_uses(snapshot: Path) -> None:
    """Bochs tells its VMCS pointer, and the EPTP in its own cache of that VMCS."""
    session, chosen = opened(snapshot)
    vmx = json.loads((snapshot / "registers.json").read_text())["vmx"]
    assert chosen.vcpu.vmx is not None
    vmcs02 = chosen.vcpu.vmx.member("nested.vmcs02.vmcs").pointer()
    assert hexed(session.kernel.to_physical(vmcs02)) == vmx["vmcsptr"]
    controls = vmx["VMCS_CACHE"]["VMEXEC_CTRLS"]
    assert hexed(session.ept(chosen, Which.SHADOW).eptp.value) == controls["eptptr"]


def test_ept01_is_the_one_that_the_processor_uses(exit_snapshot: Path) -> None:
    session, chosen = opened(exit_snapshot)
    registers = json.loads((exit_snapshot / "registers.json").read_text())
    controls = registers["vmx"]["VMCS_CACHE"]["VMEXEC_CTRLS"]
    assert hexed(session.ept(chosen, Which.HOST).eptp.value) == controls["eptptr"]


def test_capabilities_are_those_that_l1_was_offered(snapshot: Path) -> None:
    _, chosen = opened(snapshot)
    start = next(line for line in said(snapshot) if "l1" in line)
    cpu = chosen.vcpu.capabilities
    assert cpu is not None
    assert hexed(cpu.ept_vpid_cap.value) == start["ept_vpid_cap"]
    assert cpu.maxphyaddr == start["maxphyaddr"]


@pytest.mark.parametrize("at", ["l2", "l1-exit"])
def test_vmcs12_is_what_l1_read(plain_snapshot: Path, exit_snapshot: Path, at: str) -> None:
    snapshot = plain_snapshot if at == "l2" else exit_snapshot
    session, chosen = opened(snapshot)
    vmcs12 = session.vmcs12(chosen)
    read = next(line for line in said(snapshot) if line.get("at") == at)["vmcs"]
    differing = {}
    compared = 0
    for encoding, value in read.items():
        field = vmcs12.find(encoding)
        if field is None or field.authority is Authority.STALE:
            continue
        compared += 1
        if hexed(field.value) != value:
            differing[field.name] = (hexed(field.value), value, field.authority.value)
    assert differing == {}
    assert compared > 80


def test_every_ept12_entry_is_the_one_that_l1_logged(snapshot: Path) -> None:
    session, chosen = opened(snapshot)
    ept = session.ept(chosen, Which.L1)
    memory = session.l1_memory(chosen)
    logged = [line["entry_at_park"] for line in last_park(snapshot) if "entry_at_park" in line]
    leaves = {}
    for entry in logged:
        level, value, gpa = entry["level"], int(entry["value"], 16), int(entry["gpa"], 16)
        address = L1Phys(int(entry["address"], 16))
        assert read_u64(memory, address) == value
        step = walk_ept(memory, ept.eptp, L2Phys(gpa), ept.cpu).steps[ept.eptp.levels - level]
        assert (step.level, step.address, step.entry.value) == (level, address, value)
        leaves[gpa, level] = value
    listed = {
        (mapping.start, mapping.level): mapping.entry.value
        for mapping in session.scan(ept, 0, ept.eptp.reach).mappings()
    }
    assert listed.items() <= leaves.items()
    assert len(listed) > 100
    tables = {key for key in leaves if key not in listed}
    assert all(
        any(key[0] <= gpa < key[0] + page_size(key[1]) for gpa, _ in listed) for key in tables
    )


def test_each_walk_ends_at_the_page_with_its_signature(snapshot: Path) -> None:
    session, chosen = opened(snapshot)
    sizes = set()
    writers = set()
    for line in said(snapshot):
        page = line.get("page")
        if page is None:
            continue
        journey = session.journey(chosen, L2Phys(int(page["l2gpa"], 16)))
        assert journey.ept12.address is not None, verdict(journey)
        assert hexed(journey.ept12.address) == page["l1gpa"]
        assert journey.host_physical is not None, verdict(journey)
        signature = read_u64(session.kernel.physical, journey.host_physical)
        assert hexed(signature) == page["signature"]
        sizes.add(journey.ept12.size)
        writers.add(page["by"])
    assert sizes == {page_size(level) for level in (1, 2, 3)}
    assert writers == {"l1", "l2"}


def test_shadow_and_memslots_lead_to_one_host_page(snapshot: Path) -> None:
    session, chosen = opened(snapshot)
    shadow = session.ept(chosen, Which.SHADOW)
    compared = 0
    for mapping in session.scan(shadow, 0, shadow.eptp.reach).mappings():
        if mapping.stop is not None:
            continue  # MMIO entries: hardware sees a misconfiguration
        journey = session.journey(chosen, mapping.start)
        assert journey.host_physical == mapping.address, verdict(journey)
        assert verdict(journey).agreement is Agreement.AGREE, verdict(journey)
        compared += 1
    assert compared > 50


def test_host_pages_are_those_of_the_vmms_pagemap(snapshot: Path) -> None:
    session, chosen = opened(snapshot)
    memory = session.l1_memory(chosen)
    pages = next(line["pagemap"] for line in last_park(snapshot) if "pagemap" in line)
    present = [page for page in pages if int(page["pfn"], 16)]
    for page in present:
        gpa = L1Phys(int(page["gpa"], 16))
        assert hexed(memory.host_virtual(gpa)) == page["hva"]
        assert hexed(memory.host_physical(gpa) >> 12) == page["pfn"]
    assert len(present) > 64


def test_ept01_agrees_wherever_it_maps(snapshot: Path) -> None:
    session, chosen = opened(snapshot)
    memory = session.l1_memory(chosen)
    ept01 = session.ept(chosen, Which.HOST)
    compared = 0
    for mapping in session.scan(ept01, 0, 1 << 32).mappings():
        if mapping.stop is None:
            assert memory.host_physical(mapping.start) == mapping.address
            compared += 1
    assert compared > 50
