# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM's structures in a real host with a nested guest, against what the guests themselves said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.address import HostPhys, L1Phys
from gdb_nept.arch.ept import EptEntry, index, page_size
from gdb_nept.kvm.authority import NOT_OFFERED, Authority
from gdb_nept.kvm.memslots import spaces
from gdb_nept.kvm.shadow import Mmu, mmu
from gdb_nept.kvm.shadow_page import (
    NotShadowPage,
    ShadowPage,
    shadow_mmu_pages,
    shadow_page,
    shadowed_translation,
    tdp_mmu_roots,
)
from gdb_nept.kvm.spte import Spte, SpteKind, decode_spte
from gdb_nept.kvm.spte_format import SpteFormat, spte_format
from gdb_nept.kvm.tracking import tracking
from gdb_nept.kvm.vcpu import Vcpu
from gdb_nept.kvm.vm import Vm
from gdb_nept.kvm.vmcs12 import Vmcs12, decode, read_vmcs12
from gdb_nept.kvm.vmcs12_layout import by_content, from_table
from gdb_nept.kvm.vms import VmList, vms
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import read_u64
from gdb_nept.target.linux import attach
from gdb_nept.target.ports import Kernel
from tests.kernels import Facts, facts_of

pytestmark = pytest.mark.bochs


@dataclass(frozen=True)
class Lab:
    kernel: Kernel
    memory: RawMemory[HostPhys]
    found: VmList
    said: list[dict[str, Any]]
    known: Facts

    @property
    def vm(self) -> Vm:
        return self.found.vms[0]

    @property
    def vcpu(self) -> Vcpu:
        return self.vm.vcpus[0]

    @property
    def vmcs12(self) -> Vmcs12:
        assert self.vcpu.nested
        return read_vmcs12(self.kernel, self.vcpu.nested)

    @property
    def form(self) -> SpteFormat:
        return spte_format(self.kernel, self.vm.value)

    def facts(self, name: str) -> list[Any]:
        return [one[name] for one in self.said if name in one]

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The whole lines that have `name`."""
        return [one for one in self.said if name in one]

    def last(self, name: str) -> Any:
        return self.facts(name)[-1]

    def mmu(self, name: str) -> Mmu:
        return mmu(self.vcpu.value, name)

    def walk(self, name: str, address: int) -> Spte:
        """The last SPTE that this EPT has for `address`."""
        place = self.mmu(name)
        table = place.root.hpa
        assert table is not None
        for level in range(place.level, 0, -1):
            word = read_u64(self.memory, HostPhys(table + 8 * index(address, level)))
            spte = decode_spte(word, level, self.form)
            if spte.kind is not SpteKind.TABLE or spte.address is None:
                return spte
            table = spte.address
        raise AssertionError(f"a table at level 1: {spte}")


def opened(snapshot: Path) -> Lab:
    memory: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
    kernel = attach(memory, ram=memory.size)
    said = json.loads((snapshot / "facts.json").read_text())
    return Lab(kernel, memory, vms(kernel), said, facts_of(snapshot))


@pytest.fixture(scope="module")
def lab(snapshot: Path) -> Lab:
    return opened(snapshot)


def number(text: str) -> int:
    return int(text, 16)


def test_the_vms_that_the_vmm_made(lab: Lab) -> None:
    assert not lab.found.notes
    assert not any(vm.problems for vm in lab.found.vms)
    said = [(row["pid"], [vcpu["id"] for vcpu in row["vcpus"]]) for row in lab.lines("vm")]
    assert [(vm.pid, [vcpu.id for vcpu in vm.vcpus]) for vm in lab.found.vms] == said
    assert {vm.command for vm in lab.found.vms} == {"vmm"}


def test_the_memslots_that_the_vmm_made(lab: Lab) -> None:
    for vm, row in zip(lab.found.vms, lab.lines("vm")):
        assert vm.slots
        assert spaces(vm.value) == 2
        found = [
            (slot.id, slot.start, slot.size, slot.userspace_addr, slot.flags.value)
            for slot in vm.slots.slots
        ]
        said = [
            (one["slot"], number(one["gpa"]), number(one["size"]), number(one["hva"]), one["flags"])
            for one in row["slots"]
        ]
        assert found == sorted(said, key=lambda slot: slot[1])


def test_host_addresses_of_l1s_pages(lab: Lab) -> None:
    slots = lab.vm.slots
    assert slots
    for row in lab.last("pagemap"):
        gpa = L1Phys(number(row["gpa"]))
        slot = slots.find(gpa)
        assert slot
        assert slot.host_virtual(gpa) == number(row["hva"])


def test_l2_is_active_by_every_sign(lab: Lab) -> None:
    state = lab.last("nested_state")
    nested = lab.vcpu.nested
    assert nested
    assert nested.l2_active
    assert [sign.says for sign in nested.signs if sign.says is not None] == (
        [True] * (3 + lab.known.guest_mode_counted)
    )
    assert nested.hflags.guest_mode
    assert nested.vmxon_ptr == number(state["vmxon_pa"])
    assert nested.current_vmptr == number(state["vmcs12_pa"])
    others = [vcpu.nested for vm in lab.found.vms[1:] for vcpu in vm.vcpus]
    assert not any(one.l2_active or one.vmxon for one in others if one)


def test_what_l1_is_offered(lab: Lab) -> None:
    said = lab.lines("l1")[0]
    assert lab.vcpu.capabilities
    assert lab.vcpu.capabilities.ept_vpid_cap.value == number(said["ept_vpid_cap"])
    assert lab.vcpu.capabilities.maxphyaddr == said["maxphyaddr"]


def test_registers_that_are_said_to_be_current(lab: Lab) -> None:
    said = lab.last("regs")
    current = [register for register in lab.vcpu.registers if register.valid]
    compared = [register for register in current if register.name in said]
    assert len(compared) >= 10
    assert {one.name: one.number for one in compared} == {
        one.name: number(said[one.name]) for one in compared
    }


def test_fields_of_vmcs12_equal_l1s_vmreads(lab: Lab) -> None:
    said = {number(encoding): number(text) for encoding, text in lab.last("vmcs").items()}
    fields = {field.encoding: field for field in lab.vmcs12.fields}
    assert set(said) <= set(fields)
    assert not_offered(lab) == lab.known.not_offered
    told = [field.name for field in lab.vmcs12.fields if field.why == NOT_OFFERED.why]
    assert tuple(told) == lab.known.not_offered
    differ = {
        fields[encoding].name: (hex(found), fields[encoding].authority)
        for encoding, found in said.items()
        if fields[encoding].value != found
    }
    # L2 ran since L1 read them: what differs must be what is called stale
    assert {authority for _, authority in differ.values()} <= {Authority.STALE}
    assert not lab.vmcs12.problems


def not_offered(lab: Lab) -> tuple[str, ...]:
    """The fields of struct vmcs12 that L1 could not read."""
    said = {number(encoding) for encoding in lab.last("vmcs")}
    return tuple(field.name for field in lab.vmcs12.fields if field.encoding not in said)


def test_every_source_gives_the_same_layout(lab: Lab) -> None:
    vmcs12 = lab.vmcs12
    by_table = from_table(lab.kernel)
    assert by_table
    lacking = not_offered(lab)
    offered = [place for place in vmcs12.layout.places if place.name not in lacking]
    assert list(by_table.places) == offered
    assert vmcs12.address
    data = lab.kernel.read(vmcs12.address, 4096)
    built_in = decode(data, by_content(data), vmcs12.situation)
    values = {field.name: field.value for field in built_in.fields}
    assert {field.name: values[field.name] for field in vmcs12.fields} == {
        field.name: field.value for field in vmcs12.fields
    }


def test_eptp_and_the_mode_that_kvm_believes(lab: Lab) -> None:
    eptp = lab.vmcs12.eptp
    assert eptp.value == number(lab.last("eptp"))
    assert lab.vmcs12.ept_enabled
    guest = lab.mmu("guest_mmu")
    assert (guest.current, guest.root.pgd) == (True, eptp.value)
    assert (guest.level, guest.guest_level) == (eptp.levels, eptp.levels)
    assert guest.accessed_dirty == bool(eptp.accessed_dirty)
    assert guest.execute_only
    assert not lab.mmu("root_mmu").current


def test_ept01_leads_to_the_pages_of_the_vmm(lab: Lab) -> None:
    compared = 0
    for row in lab.last("pagemap"):
        spte = lab.walk("root_mmu", number(row["gpa"]))
        if spte.leaf and spte.address is not None:
            offset = number(row["gpa"]) & (page_size(spte.level) - 1)
            assert spte.address + offset == number(row["pfn"]) << 12
            compared += 1
    assert compared >= 20


def test_ept02_leads_to_the_signatures_of_l2(lab: Lab) -> None:
    compared = 0
    for row in {one["l2gpa"]: one for one in lab.facts("page")}.values():
        spte = lab.walk("guest_mmu", number(row["l2gpa"]))
        if spte.leaf and spte.address is not None:
            offset = number(row["l2gpa"]) & (page_size(spte.level) - 1)
            found = read_u64(lab.memory, HostPhys(spte.address + offset))
            assert found == number(row["signature"])
            compared += 1
    assert compared >= 5


def every_table(lab: Lab, name: str) -> list[tuple[HostPhys, int]]:
    place = lab.mmu(name)
    assert place.root.hpa is not None
    found, waiting = [], [(place.root.hpa, place.level)]
    while waiting:
        table, level = waiting.pop()
        found.append((table, level))
        for slot in range(512):
            word = read_u64(lab.memory, HostPhys(table + 8 * slot))
            spte = decode_spte(word, level, lab.form)
            assert spte.kind is not SpteKind.OTHER
            if spte.kind is SpteKind.TABLE and spte.address is not None:
                waiting.append((spte.address, level - 1))
    return found


@pytest.mark.parametrize("name", ["root_mmu", "guest_mmu"])
def test_every_table_has_its_shadow_page(lab: Lab, name: str) -> None:
    for table, level in every_table(lab, name):
        page = shadow_page(lab.kernel, lab.vm.value, table)
        assert isinstance(page, ShadowPage)
        assert page.level == level
        assert page.tdp_mmu == (name == "root_mmu" and lab.known.tdp_mmu)
        assert page.guest_mode == (name == "guest_mmu")


def test_pages_of_the_vmm_are_no_tables(lab: Lab) -> None:
    row = lab.last("pagemap")[0]
    page = HostPhys(number(row["pfn"]) << 12)
    assert isinstance(shadow_page(lab.kernel, lab.vm.value, page), NotShadowPage)


def test_shadowed_tables_are_tables_of_ept12(lab: Lab) -> None:
    listed = shadow_mmu_pages(lab.vm.value)
    assert not listed.problems
    root = [page for page in listed.pages if page.table == lab.mmu("guest_mmu").root.hpa]
    assert [page.gfn_address for page in root] == [lab.vmcs12.eptp.address]
    root_of_ept01 = lab.mmu("root_mmu").root.hpa
    by_tdp_mmu = [page.table for page in tdp_mmu_roots(lab.vm.value).pages]
    assert by_tdp_mmu == ([root_of_ept01] if lab.known.tdp_mmu else [])
    assert any(page.table == root_of_ept01 for page in listed.pages) != lab.known.tdp_mmu


def test_what_a_shadow_page_notes_is_what_ept12_says(lab: Lab) -> None:
    entries = {number(one["address"]): one for one in lab.facts("entry_at_park")}
    compared = 0
    for page in shadow_mmu_pages(lab.vm.value).pages:
        if page.direct or page.unsync or page.level > 1:
            continue
        for slot in range(512):
            said = entries.get(page.gfn_address + 8 * slot)
            word = read_u64(lab.memory, HostPhys(page.table + 8 * slot))
            spte = decode_spte(word, 1, lab.form)
            shadowed = shadowed_translation(page, slot)
            if said and spte.leaf and shadowed and said["level"] == page.level:
                assert shadowed.address == EptEntry(number(said["value"])).address
                compared += 1
    assert compared


def test_shadowed_tables_are_write_tracked(lab: Lab) -> None:
    slots = lab.vm.slots
    assert slots
    for page in shadow_mmu_pages(lab.vm.value).pages:
        if page.direct:
            continue
        slot = slots.find(page.gfn_address)
        assert slot
        found = tracking(slot, page.gfn_address)
        if page.level > 1:
            assert found.write_tracked
        assert found.large_page_users[0][1]


@pytest.fixture(scope="module")
def exit_lab(exit_snapshot: Path) -> Lab:
    return opened(exit_snapshot)


def test_l1_runs_just_after_an_exit(exit_lab: Lab) -> None:
    nested = exit_lab.vcpu.nested
    assert nested
    assert (nested.l2_active, nested.vmxon, nested.disagreement) == (False, True, "")
    assert nested.shadow.address
    assert exit_lab.mmu("root_mmu").current
    assert exit_lab.mmu("guest_mmu").root.pgd == exit_lab.vmcs12.eptp.value


def test_fields_just_after_an_exit_equal_l1s_vmreads(exit_lab: Lab) -> None:
    said = {number(encoding): number(text) for encoding, text in exit_lab.last("vmcs").items()}
    assert not_offered(exit_lab) == exit_lab.known.not_offered
    fields = [each for each in exit_lab.vmcs12.fields if each.encoding in said]
    sure = [field for field in fields if field.authority is not Authority.MAYBE_STALE]
    assert len(sure) > 100
    assert {field.encoding: field.value for field in sure} == {
        field.encoding: said[field.encoding] for field in sure if field.encoding is not None
    }
    doubtful = {field.name for field in fields if field.authority is Authority.MAYBE_STALE}
    assert {"guest_rip", "guest_cr3", "cpu_based_vm_exec_control"} <= doubtful
