# SPDX-License-Identifier: GPL-2.0-or-later
"""VMs, vCPUs and their nested state."""

from __future__ import annotations

import pytest

from gdb_nept.errors import NoGuest
from gdb_nept.kvm.nested_vmx import host_flags, read_nested
from gdb_nept.kvm.vcpu import in_force, read_vcpu
from gdb_nept.kvm.vms import VmList, vms
from gdb_nept.nested.choice import choose, vcpu_at, vm_at
from gdb_nept.render.json import draw_json
from gdb_nept.render.page import WIDEST, WIDTH, Table
from gdb_nept.render.text import draw, pieces
from gdb_nept.render.vms import vms_page
from gdb_nept.target.ports import Value
from tests.kvm.fake import FakeKernel, add_slots, link, new_vcpu, new_vm
from tests.kvm.offsets import DEBIAN_6_1, DEBIAN_6_12, Offsets, debian, oldest

KERNELS = [debian(DEBIAN_6_1), debian(DEBIAN_6_12), oldest()]
NAMES = ["6.1", "6.12", "oldest"]


def host(offsets: Offsets) -> tuple[FakeKernel, list[Value]]:
    """Two VMs, the first made with one vCPU, the second with two."""
    kernel = FakeKernel(offsets)
    machines = [
        new_vm(kernel, [new_vcpu(kernel)]),
        new_vm(kernel, [new_vcpu(kernel, 0), new_vcpu(kernel, 4)]),
    ]
    head = kernel.allocate(16)
    kernel.symbols.addresses["vm_list"] = head
    newest_first = [vm.member("vm_list").address for vm in reversed(machines)]
    link(kernel, head, list(newest_first))
    return kernel, machines


def enter_l2(kernel: FakeKernel, vmx: Value, hflags: int = 1 << 5) -> None:
    """As nested_vmx_enter_non_root_mode() with EPT12 leaves it."""
    nested = vmx.member("nested")
    kernel.poke(vmx, "nested.vmxon", 1)
    kernel.poke(vmx, "nested.vmxon_ptr", 0x5000)
    kernel.poke(vmx, "nested.current_vmptr", 0x6000)
    kernel.poke(vmx, "nested.cached_vmcs12", kernel.allocate(4096))
    other = nested.member("vmcs02").address if nested.has("vmcs02") else kernel.allocate(160)
    kernel.poke(vmx, "loaded_vmcs", other)
    kernel.poke(vmx, "vcpu.arch.hflags", hflags)
    kernel.poke(vmx, "vcpu.stat.guest_mode", 1)
    arch = vmx.member("vcpu.arch")
    if arch.has("guest_mmu"):
        kernel.poke(arch, "mmu", arch.member("guest_mmu").address)
    else:
        kernel.poke(arch, "walk_mmu", arch.member("nested_mmu").address)


@pytest.mark.parametrize("offsets", KERNELS, ids=NAMES)
def test_all_vms_oldest_first(offsets: Offsets) -> None:
    kernel, machines = host(offsets)
    found = vms(kernel)
    assert [vm.address for vm in found.vms] == [vm.address for vm in machines]
    assert [[vcpu.id for vcpu in vm.vcpus] for vm in found.vms] == [[0], [0, 4]]
    assert [vcpu.place for vcpu in found.vms[1].vcpus] == [0, 1]
    assert not found.notes
    assert [vm.problems for vm in found.vms] == [(), ()]


def test_what_l1_has_by_itself_needs_no_l2() -> None:
    """EPT01 of the only VM, or of the one that is named, whatever its vCPUs run."""
    found = vms(host(debian())[0])
    with pytest.raises(NoGuest, match="no guest is in VMX operation"):
        choose(found, 1, None)
    chosen = choose(found, 1, None, of_l1=True)
    assert (chosen.vm, chosen.place) == (1, 0)
    only = VmList(found.vms[:1], ())
    assert choose(only, None, None, of_l1=True).vm == 0
    with pytest.raises(NoGuest) as caught:
        choose(found, None, None, of_l1=True)
    assert caught.value.advice == "Choose with --vm."


def test_what_l1_has_by_itself_is_that_of_the_vcpu_that_runs_an_l2_first() -> None:
    kernel = FakeKernel(debian())
    vcpus = [new_vcpu(kernel, 0), new_vcpu(kernel, 1)]
    head = kernel.allocate(16)
    kernel.symbols.addresses["vm_list"] = head
    link(kernel, head, [new_vm(kernel, vcpus).member("vm_list").address])
    assert choose(vms(kernel), None, None, of_l1=True).place == 0
    enter_l2(kernel, vcpus[1])
    assert choose(vms(kernel), None, None, of_l1=True).place == 1


def test_no_vm_is_a_result() -> None:
    kernel = FakeKernel(debian())
    head = kernel.allocate(16)
    kernel.symbols.addresses["vm_list"] = head
    link(kernel, head, [])
    assert vms(kernel) == VmList((), ())


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([], "kvm module is not loaded"),
        (["kvm"], "without kvm_intel"),
        (["kvm", "kvm_amd"], "Intel only"),
        (["kvm", "kvm_intel"], "'vm_list' has no symbol"),
    ],
)
def test_no_kvm_is_told(modules: list[str], message: str) -> None:
    kernel = FakeKernel(debian())
    kernel.loaded = modules
    with pytest.raises(NoGuest, match=message) as raised:
        vms(kernel)
    assert raised.value.advice


@pytest.mark.parametrize("modules", [[], ["kvm"]])
def test_a_processor_without_vmx_is_told(modules: list[str]) -> None:
    kernel = FakeKernel(debian())
    kernel.loaded = modules
    cpu = kernel.new("cpuinfo_x86")
    kernel.symbols.addresses["boot_cpu_data"] = cpu.address
    kernel.poke(cpu, "x86_capability", 0xFFFFFFFF & ~(1 << 5), place=4)
    with pytest.raises(NoGuest, match="no VMX, so that no nested guest"):
        vms(kernel)
    kernel.poke(cpu, "x86_capability", 1 << 5, place=4)
    with pytest.raises(NoGuest, match=r"kvm_intel|not loaded"):
        vms(kernel)


def test_a_list_under_change_is_noted() -> None:
    kernel, _ = host(debian())
    kernel.variable("kvm_lock", 0xFFFF888000123401)
    assert "kvm_lock" in vms(kernel).notes[0]


def test_the_process_of_a_vm() -> None:
    kernel, machines = host(debian())
    mm, task = kernel.new("mm_struct"), kernel.new("task_struct")
    kernel.poke(machines[0], "userspace_pid", 77)
    kernel.poke(machines[0], "mm", mm.address)
    kernel.poke(mm, "pgd", 0xFFFF888000ABC000)
    found = vms(kernel).vms[0]
    assert (found.pid, found.command, found.mm_pgd) == (77, "", 0xFFFF888000ABC000)
    kernel.poke(mm, "owner", task.address)
    kernel.poke(task, "tgid", 70)
    kernel.put(task.member("comm").address, b"qemu-system-x86\0")
    found = vms(kernel).vms[0]
    assert (found.pid, found.command) == (70, "qemu-system-x86")


def test_an_unreadable_vcpu_does_not_hide_the_others() -> None:
    kernel, machines = host(debian())
    node = machines[1].member("vcpu_array.xa_head").pointer() - 2
    kernel.put_u64(node + machines[1].kernel.types.struct("xa_node").member("slots").offset, 8)
    found = vms(kernel).vms[1]
    assert [vcpu.id for vcpu in found.vcpus] == [4]
    assert "vCPU 0" in found.problems[0]


def test_tdx_vcpus_have_no_nested_state() -> None:
    kernel, machines = host(debian(DEBIAN_6_12))
    kernel.poke(machines[0], "arch.vm_type", 5)
    found = vms(kernel).vms[0]
    assert found.vcpus[0].nested is None
    assert "TDX" in found.problems[0]


def test_without_the_types_of_kvm_intel_the_rest_is_shown() -> None:
    kernel, _ = host(debian())
    del kernel.types.structs["vcpu_vmx"]
    found = vms(kernel).vms[1]
    assert [(vcpu.id, vcpu.nested, vcpu.last_exit) for vcpu in found.vcpus] == [
        (0, None, None),
        (4, None, None),
    ]
    assert "vcpu_vmx" in found.problems[0]


def test_choosing_by_number() -> None:
    kernel, _ = host(debian())
    found = vms(kernel)
    assert vcpu_at(vm_at(found, 1), 1).id == 4
    with pytest.raises(NoGuest, match="numbered 0 to 1"):
        vm_at(found, 2)
    with pytest.raises(NoGuest, match="there is no VM"):
        vm_at(VmList((), ()), 0)
    with pytest.raises(NoGuest, match="no vCPU 7"):
        vcpu_at(found.vms[0], 7)


@pytest.mark.parametrize("offsets", KERNELS, ids=NAMES)
def test_signs_agree_while_l2_runs_and_while_it_does_not(offsets: Offsets) -> None:
    kernel = FakeKernel(offsets)
    vmx = new_vcpu(kernel)
    idle = read_nested(vmx)
    assert not idle.l2_active
    assert not idle.disagreement
    assert (idle.vmxon, idle.vmxon_ptr, idle.current_vmptr) == (False, None, None)
    enter_l2(kernel, vmx)
    running = read_nested(vmx)
    assert running.l2_active
    assert all(sign.says for sign in running.signs)
    assert not running.disagreement
    assert (running.vmxon_ptr, running.current_vmptr) == (0x5000, 0x6000)


def test_signs_that_disagree_are_named() -> None:
    kernel = FakeKernel(debian())
    vmx = new_vcpu(kernel)
    enter_l2(kernel, vmx, hflags=0)
    nested = read_nested(vmx)
    assert nested.l2_active
    assert "not by hflags" in nested.disagreement


@pytest.mark.parametrize(
    ("word", "guest", "smm", "numbering"),
    [
        (0, False, False, "no flag"),
        (1 << 0, True, False, "6.3"),
        (1 << 1, False, True, "6.3"),
        (1 << 5, True, False, "6.2"),
        (1 << 5 | 1 << 6, True, True, "6.2"),
    ],
)
def test_host_flags_of_both_numberings(word: int, guest: bool, smm: bool, numbering: str) -> None:
    flags = host_flags(word)
    assert (flags.guest_mode, flags.smm) == (guest, smm)
    assert numbering in flags.numbering


def test_capabilities_of_l1() -> None:
    kernel = FakeKernel(debian())
    vmx = new_vcpu(kernel)
    kernel.poke(vmx, "nested.msrs.ept_caps", 0x06334041)
    kernel.poke(vmx, "nested.msrs.vpid_caps", 0xF01)
    kernel.poke(vmx, "nested.msrs.secondary_ctls_high", 0x2)
    vcpu = read_vcpu(kernel, vmx.address, 0)
    assert vcpu.nested
    assert vcpu.nested.secondary_allowed
    assert vcpu.capabilities
    cap = vcpu.capabilities.ept_vpid_cap
    assert vcpu.capabilities.maxphyaddr == 39
    assert (cap.execute_only, cap.walk_length_5, cap.accessed_dirty, cap.invvpid) == (1, 0, 1, 1)
    assert [row.name for row in vcpu.nested.secondary_allowed.named()] == ["ept"]
    assert not in_force(vcpu.capabilities, vcpu.nested.secondary_allowed).mbec


def test_flat_capabilities_of_old_kernels() -> None:
    kernel = FakeKernel(oldest())
    vmx = new_vcpu(kernel)
    kernel.poke(vmx, "nested.nested_vmx_ept_caps", 0x41)
    offered = read_nested(vmx).ept_vpid_cap
    assert offered
    assert offered.walk_length_4


def test_enlightened_vmcs() -> None:
    kernel = FakeKernel(debian())
    vmx = new_vcpu(kernel)
    assert read_nested(vmx).evmcs_state == ""
    kernel.poke(vmx, "nested.hv_evmcs_vmptr", 0x7000)
    assert read_nested(vmx).evmcs == 0x7000
    assert read_nested(vmx).has_vmcs12
    kernel.poke(vmx, "nested.hv_evmcs_vmptr", -2)
    assert read_nested(vmx).evmcs_state == "map pending"


def test_the_last_exit() -> None:
    kernel = FakeKernel(debian())
    vmx = new_vcpu(kernel)
    kernel.poke(vmx, "exit_reason.full", 48)
    kernel.poke(vmx, "exit_qualification", 0x181)
    last = read_vcpu(kernel, vmx.address, 0).last_exit
    assert last
    assert (last.reason.name, last.qualification) == ("EPT violation", None)
    kernel.poke(vmx, "vcpu.arch.regs_avail", 1 << 23)
    last = read_vcpu(kernel, vmx.address, 0).last_exit
    assert last
    assert last.qualification == 0x181


@pytest.mark.parametrize("offsets", KERNELS, ids=NAMES)
def test_slots_come_with_the_vm(offsets: Offsets) -> None:
    kernel, machines = host(offsets)
    add_slots(kernel, machines[0], [(0, 0, 0x10000, 0x7F0000000000)])
    assert [vm.slot_count for vm in vms(kernel).vms] == [1, 0]


def test_all_is_one_table_in_80_columns() -> None:
    """A VM, and below it its vCPUs, each with its own number."""
    kernel, machines = host(debian())
    vmx = vms(kernel).vms[1].vcpus[0].vmx
    assert vmx is not None
    assert len(machines) == 2
    enter_l2(kernel, vmx)
    page = vms_page(vms(kernel))
    tables = [block for block in page.blocks if isinstance(block, Table)]
    assert [table.headers[0] for table in tables] == ["VM"]
    rows = [row[:2] for row in tables[0].rows]
    assert rows == [("0", ""), ("0", "0"), ("1", ""), ("1", "0"), ("1", "1")]
    assert max(map(len, draw(page).splitlines())) <= WIDTH


@pytest.mark.parametrize(
    "name", [b"\x1b]0;x\x07", b"a\n 9  0  b", b"\xe2\x80\xaeevil", b"\x0b\x85\xc2\x85\r"], ids=repr
)
def test_a_name_of_the_targets_neither_drives_a_terminal_nor_makes_a_row(name: bytes) -> None:
    """Whoever may set a task's comm on L0 may not drive the analyst's screen, nor forge a VM."""
    kernel, machines = host(debian())
    plain = draw(vms_page(vms(kernel))).splitlines()
    space, task = kernel.new("mm_struct"), kernel.new("task_struct")
    kernel.poke(machines[0], "mm", space.address)
    kernel.poke(space, "owner", task.address)
    for place, byte in enumerate(name):
        kernel.bytes[task.member("comm").address + place] = byte
    found = vms(kernel)
    assert found.vms[0].command
    page = vms_page(found)
    shown = "".join(pieces(page, width=WIDEST))
    assert len(shown.splitlines()) == len(plain)
    assert all(line.isprintable() for line in shown.splitlines())
    assert "\\" in shown
    assert not set(draw_json(page)) & set("\x1b\x07\x0b\x85\u202e\r")
