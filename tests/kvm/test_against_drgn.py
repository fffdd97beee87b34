# SPDX-License-Identifier: GPL-2.0-or-later
"""A second answer: drgn and crash, with the debug symbols of the very kernel, on the dump that QEMU
writes of a host; VMs, vCPUs, memslots, symbols, and 1,000 kernel addresses."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bochs_lab import debug_symbols
from bochs_lab import snapshot as lab
from bochs_lab.errors import LabError
from bochs_lab.options import LabOptions
from bochs_lab.progress import Silent

import gdb_nept
from gdb_nept.address import KernelVirt
from gdb_nept.errors import MemoryUnreadable
from tests import tools
from tests.conftest import MACHINES
from tests.dumps.machine import DumpingMachine

pytestmark = [pytest.mark.bochs, pytest.mark.qemu, pytest.mark.kdumpfile]

KERNEL = "6.12"  # of which apt has the debug symbols
SYMBOLS = (
    *("_stext", "init_task", "init_mm", "modules", "page_offset_base", "vmalloc_base"),
    *("linux_banner", "schedule", "init_top_pgt"),
)
OF_MODULES = (
    *(("kvm", name) for name in ("vm_list", "kvm_lock", "kvm_vcpu_halt")),
    *(("kvm_intel", name) for name in ("vmx_l1d_flush_pages", "nested_vmx_reflect_vmexit")),
)
ADDRESSES = 1000
PAGE = 4096


@dataclass
class Host:
    """A dump, its debug symbols, and what we make of it."""

    dump: Path
    vmlinux: Path
    modules: list[Path]
    target: gdb_nept.Target

    @property
    def kernel(self) -> Any:
        return self.target.session.kernel


@pytest.fixture(scope="module", params=list(MACHINES))
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    snapshot = lab.ensure(LabOptions(kernel=KERNEL, **MACHINES[request.param]))
    release = json.loads((snapshot / "meta.json").read_text())["release"]
    try:
        vmlinux, modules = debug_symbols.files(release, Silent())
    except LabError as error:
        tools.missing("debug-symbols", str(error))
    folder = tmp_path_factory.mktemp("dump")
    with DumpingMachine(snapshot, folder) as machine:
        dump = machine.dump("vmcore")
    with gdb_nept.open_dump(dump) as target:
        yield Host(dump, vmlinux, modules, target)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def program(host: Host) -> Any:
    drgn = tools.module("drgn")
    found = drgn.Program()
    found.set_core_dump(str(host.dump))
    found.load_debug_info([str(host.vmlinux), *map(str, host.modules)])
    return found


def vms_of(program: Any) -> Iterator[Any]:
    helpers = tools.module("drgn.helpers.linux")
    yield from helpers.list_for_each_entry(
        "struct kvm", program["vm_list"].address_of_(), "vm_list"
    )


def test_vms_and_vcpus(host: Host, program: Any) -> None:
    helpers = tools.module("drgn.helpers.linux")
    ours = {
        (int(vm.address), vm.pid, tuple(int(one.address) for one in vm.vcpus))
        for vm in host.target.session.vms().vms
    }
    theirs = {
        (
            vm.value_(),
            vm.userspace_pid.value_(),
            tuple(entry.value_() for _, entry in helpers.xa_for_each(vm.vcpu_array.address_of_())),
        )
        for vm in vms_of(program)
    }
    assert ours == theirs
    assert len(ours) == 3


def test_memslots(host: Host, program: Any) -> None:
    helpers = tools.module("drgn.helpers.linux")
    theirs = set()
    for vm in vms_of(program):
        slots = vm.memslots[0]
        node = f"gfn_node[{slots.node_idx.value_()}]"
        for slot in helpers.rbtree_inorder_for_each_entry(
            "struct kvm_memory_slot", slots.gfn_tree.address_of_(), node
        ):
            place, size = slot.base_gfn.value_() * PAGE, slot.npages.value_() * PAGE
            theirs.add((vm.value_(), slot.id.value_(), place, size, slot.userspace_addr.value_()))
    ours = {
        (int(vm.address), slot.id, int(slot.start), slot.size, int(slot.userspace_addr))
        for vm in host.target.session.vms().vms
        for slot in (vm.slots.slots if vm.slots else ())
    }
    assert ours == theirs
    assert len(ours) > 4


def test_symbols(host: Host, program: Any) -> None:
    for name in SYMBOLS:
        assert host.kernel.symbols.address(name) == program.symbol(name).address, name
    for module, name in OF_MODULES:
        assert host.kernel.symbols.address(name, module) == program.symbol(name).address, name


def places(host: Host) -> list[int]:
    """Of text, data, the direct map, modules and vmalloc, none of them special."""
    dice = random.Random(11)
    symbols = host.kernel.symbols
    text = int(symbols.address("_stext"))
    direct = int.from_bytes(host.kernel.read(symbols.address("page_offset_base"), 8), "little")
    starts = [(text, 16 << 20), (int(symbols.address("init_task")), 1 << 16), (direct, 500 << 20)]
    starts += [(int(symbols.address("vm_list", "kvm")), 1 << 12)]
    starts += [(int(vm.address), PAGE) for vm in host.target.session.vms().vms]
    return [
        (base & -8) + dice.randrange(size // 8) * 8
        for base, size in (dice.choice(starts) for _ in range(ADDRESSES))
    ]


def translated(host: Host, place: int) -> int | None:
    try:
        return int(host.kernel.to_physical(KernelVirt(place)))
    except MemoryUnreadable:
        return None


def test_translations(host: Host, program: Any) -> None:
    drgn = tools.module("drgn")
    helpers = tools.module("drgn.helpers.linux")
    space, found = program["init_mm"].address_of_(), 0
    for place in places(host):
        try:
            theirs = helpers.follow_phys(space, place).value_()
        except drgn.FaultError:
            theirs = None
        assert translated(host, place) == theirs, hex(place)
        found += theirs is not None
    assert found > ADDRESSES * 0.8


def ran_by_crash(host: Host, script: Path) -> subprocess.CompletedProcess[str]:
    """crash 8.0.2 overruns a buffer of its own on such a dump: x86_64_init() reads into malloc(0),
    by valgrind.  Now and then its heap does not bear that, and it ends by SIGABRT before it
    answers: then it is asked again."""
    words = ["crash", "--no_modules", "--no_panic", "--kaslr=auto", "-s", "-i", str(script)]
    for _ in range(5):
        done = subprocess.run(
            [*words, str(host.vmlinux), str(host.dump)],
            capture_output=True,
            text=True,
            timeout=400,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode >= 0:
            break
    return done


def test_crash_says_the_same_of_symbols_and_translations(host: Host, tmp_path: Path) -> None:
    """Where it is installed.  Debian 12's, 8.0.2, knows no modules of Linux 6.4 and later
    ("invalid structure member offset: module_core_size"), hence nothing of KVM's here."""
    tools.program("crash")
    asked = places(host)
    script = tmp_path / "commands"
    lines = [f"sym {name}" for name in SYMBOLS] + [f"vtop -k {place:x}" for place in asked]
    script.write_text("\n".join([*lines, "quit", ""]))
    done = ran_by_crash(host, script)
    symbols = dict(re.findall(r"^([0-9a-f]{16}) \(\w\) (\w+)", done.stdout, re.MULTILINE))
    assert symbols, (done.returncode, done.stdout[-500:], done.stderr[-500:])
    for name in SYMBOLS:
        address = int(host.kernel.symbols.address(name))
        assert symbols[f"{address:016x}"] == name
    row = r"^VIRTUAL +PHYSICAL *\n([0-9a-f]+) +([0-9a-f]+|\(not mapped\))"
    told = {int(place, 16): found for place, found in re.findall(row, done.stdout, re.MULTILINE)}
    for place in asked:
        theirs = None if "not" in told[place] else int(told[place], 16)
        assert translated(host, place) == theirs, hex(place)
