# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux in Linux in Linux: L1 and L2 are Debian's kernels, and L2's init runs.

Not a part of the usual tests, since it takes 10 to 20 minutes: `scripts/test --linux-l2`.  L1's own
kernel is the witness for EPT12: looked at from inside, through its memory, it is a host whose KVM
runs L2.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bochs_lab import linux_l1, machine
from bochs_lab import snapshot as lab
from bochs_lab.image import image
from bochs_lab.options import LabOptions
from bochs_lab.progress import Silent

import gdb_nept
from gdb_nept.address import HostPhys, KernelVirt, L1Phys, L2Phys, L2Virt
from gdb_nept.errors import MemoryUnreadable, NoGuest
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.agreement import Agreement, Fault
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Ept, Which
from gdb_nept.nested.examine import Space, examine
from gdb_nept.nested.session import Session
from gdb_nept.nested.spaces import l1_of_vcpu
from gdb_nept.nested.verdict import verdict
from gdb_nept.nested.virtual import virtual_walk
from gdb_nept.target.kallsyms import SymbolTable
from gdb_nept.target.linux import attach
from gdb_nept.walk.runs import Run, Unread
from gdb_nept.walk.scan import Scan
from tests.conftest import kernel_cache
from tests.lab.inside import inside

pytestmark = [pytest.mark.linux_l2, pytest.mark.bochs, pytest.mark.gdb, pytest.mark.qemu]

ROOT = Path(__file__).resolve().parents[2]
PLAIN_TERMINAL = {**os.environ, "TERM": "dumb"}
PATIENCE = 900.0  # seconds for one watch
FAULTS, FAULTS_BY_SDM = 1000, 200
#: What is among those faults at least: the access, and what its address is.
KINDS = {("read", "final"), ("write", "final"), ("fetch", "final"), ("rmw", "walk")}
WALKS = 50
SYMBOLS = 1000
SEED = 9
RAM = 96 << 20  # of L2, as in tests/linux_l1/l2linux.c
DEVICES = 0xFEC00000, 0xFEE00000  # I/O APIC, local APIC

Entries = list[Run[Any, Any]]


@dataclass(frozen=True)
class Watched:
    """What a watch showed, and its JSON lines."""

    shown: str
    faults: list[dict[str, Any]]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of the gdb stub of a machine at L2's park point, of which a snapshot has been taken; apart
    from one that the user may have up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        try:
            command = [sys.executable, str(ROOT / "scripts" / "lab"), "up", "--stub"]
            done = subprocess.run(
                [*command, "--l2", "linux"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            lab.ensure(options())
            yield int(done.stdout.split(":")[-1])
        finally:
            machine.down()


def options() -> LabOptions:
    return linux_l1.with_linux_l2(LabOptions(), Silent())


@pytest.fixture(scope="module")
def taken(request: pytest.FixtureRequest) -> Path:
    """The snapshot; the machine is booted for it if there is none yet."""
    found = lab.path_of(image(options(), Silent()).snapshot_key)
    if not found.is_dir():
        request.getfixturevalue("port")
    return found


@pytest.fixture(scope="module")
def by_sdm(port: int, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """The first faults behind the park point, in which L2 walks all of its own tables anew."""
    return watch(port, "sdm", FAULTS_BY_SDM, tmp_path_factory.mktemp("watch") / "sdm.jsonl")


@pytest.fixture(scope="module")
def watched(port: int, by_sdm: Watched, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """Those that follow."""
    return watch(port, "kvm", FAULTS, tmp_path_factory.mktemp("watch") / "kvm.jsonl")


def watch(port: int, model: str, count: int, lines: Path) -> Watched:
    words = ["gdb", "-nx", "-batch", "-ex", f"source {ROOT}/gdb_nept/init.py"]
    line = f"nept-watch --model {model} --count {count} --json-lines {lines}"
    for each in (f"target remote 127.0.0.1:{port}", line, "disconnect"):
        words += ["-ex", each]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=PATIENCE, check=False, env=PLAIN_TERMINAL
    )
    return Watched(done.stdout + done.stderr, [json.loads(line) for line in lines.open()])


@dataclass(frozen=True)
class Views:
    """The same stopped machine, seen from L0 and from inside L1."""

    outer: Session
    l1: Chosen  # the vCPU that runs L1 and L2
    inner: Session
    l2: Chosen  # L1's own vCPU, which runs L2

    @property
    def ept12(self) -> Ept:
        return self.outer.ept(self.l1, Which.L1)

    @property
    def l1s_own(self) -> Ept:
        return self.inner.ept(self.l2, Which.HOST)


@pytest.fixture(scope="module")
def views(taken: Path) -> Views:
    raw: RawMemory[HostPhys] = RawMemory(taken / "memory.raw")
    outer = Session(attach(raw, ram=raw.size, cache=kernel_cache()))
    l1 = outer.pick(None, None)
    inner = inside(outer, l1)
    return Views(outer, l1, inner, inner.pick(None, None))


def entries(ept: Ept) -> Entries:
    """All, those that lead to a table, too; none was unreadable."""
    scan: Scan[Any, Any] = Scan(ept.memory, ept.eptp, ept.cpu, 0, ept.eptp.reach, references=True)
    found = list(scan.entries())
    assert scan.incomplete is None
    runs = [one for one in found if not isinstance(one, Unread)]
    assert len(runs) == len(found), found
    return runs


def test_l2_is_parked_within_its_own_process(views: Views) -> None:
    nested = views.l1.vcpu.nested
    assert nested is not None
    assert nested.l2_active
    assert [vm.problems for vm in views.inner.vms().vms] == [()]


def test_the_tool_sees_l1s_own_kvm_in_the_export_of_its_memory(
    views: Views, tmp_path: Path
) -> None:
    """As in L1's memory itself, but found by the note that was taken over."""
    told = l1_of_vcpu(views.outer, views.l1).export(tmp_path / "l1")
    assert told.release == views.inner.kernel.release
    assert not told.lost
    with gdb_nept.open_dump(tmp_path / "l1") as target:
        assert [vm.pid for vm in target.vms()] == [vm.pid for vm in views.inner.vms().vms]
        vm = next(iter(target.vms()))
        assert vm.slots == views.inner.slots(views.l2).slots
        seen = [(run.start, run.word) for run in entries(views.l1s_own)]
        assert len(seen) > 1000
        ept01 = target.session.ept(target.session.pick(None, None), Which.HOST)
        assert [(run.start, run.word) for run in entries(ept01)] == seen


def test_ept12_is_what_l1s_own_kvm_holds(views: Views) -> None:
    """The EPTP, and each entry of each table: its place, level and value."""
    outside, within = views.ept12, views.l1s_own
    assert outside.eptp == within.eptp
    seen = {one.place: (one.start, one.level, one.word) for one in entries(outside)}
    held = {one.place: (one.start, one.level, one.word) for one in entries(within)}
    assert seen == held
    assert len(seen) > 1000


def test_ept12_leads_where_l1s_memslots_and_its_vmms_page_tables_do(views: Views) -> None:
    """What L1 put into EPT12 is known from elsewhere in L1: each page of L2's memory, by the
    process that owns it."""
    memory = views.inner.l1_memory(views.l2)
    compared = 0
    for one in entries(views.ept12):
        if one.stop is None and one.entry.leaf_at(one.level) and one.start < RAM:
            assert memory.host_physical(L1Phys(one.start)) == one.address
            compared += 1
    assert compared > 1000


def test_l2s_kernel_is_found_in_the_memory_of_l1s_vm(views: Views) -> None:
    """Of the same release, but without KVM."""
    innermost = inside(views.inner, views.l2)
    assert innermost.kernel.release == views.outer.kernel.release
    with pytest.raises(NoGuest):
        innermost.vms()


def test_a_thousand_addresses_of_l2s_kernel_lead_where_it_has_them(views: Views) -> None:
    """By CR3 and EPT12 from L0, and by L2's own kernel: its symbols, found in its memory, and its
    init_top_pgt, read through L1's memslots and L1's page tables, in which EPT12 has no part."""
    innermost = inside(views.inner, views.l2).kernel
    symbols: Any = innermost.symbols
    table = symbols.vmlinux
    assert isinstance(table, SymbolTable)
    places = sorted({address for address in table.addresses if address >> 63})
    through_ept12 = 0
    for place in random.Random(SEED).sample(places, SYMBOLS):
        found = virtual_walk(views.outer, views.l1, L2Virt(place))
        assert found.walk is not None, found.why
        try:
            wanted_gpa = innermost.to_physical(KernelVirt(place))
        except MemoryUnreadable:  # freed since: L2's init code
            assert found.walk.gpa is None, hex(place)
            continue
        assert found.walk.gpa is not None
        assert int(found.walk.gpa) == int(wanted_gpa), hex(place)
        seen = examine(views.outer, views.l1, Space.L2_LINEAR, place, 16)
        if seen.ends is None:
            wanted = innermost.physical.read(HostPhys(found.walk.gpa), 16)
            assert seen.data == wanted, hex(place)
            through_ept12 += 1
        else:
            assert "EPT12 does not translate it" in seen.ends.why, "L1 has not mapped it yet"
    assert through_ept12 > SYMBOLS // 2
    banner = innermost.symbols.address("linux_banner")
    told = examine(views.outer, views.l1, Space.L2_LINEAR, banner, 100).data
    assert told.startswith(f"Linux version {innermost.release} ".encode())


def walked(views: Views) -> list[L2Phys]:
    """Half of them mapped by EPT12; of the others some within L2's memory, some at its devices,
    and some anywhere."""
    chance = random.Random(SEED)
    mapped = [one.start for one in entries(views.ept12) if one.entry.leaf_at(one.level)]
    found = [chance.choice(mapped) + chance.randrange(4096) for _ in range(WALKS // 2)]
    found += [chance.randrange(RAM) for _ in range(WALKS // 4)]
    found += [place + chance.randrange(4096) for place in DEVICES]
    found += [chance.randrange(1 << 48) for _ in range(WALKS - len(found))]
    return [L2Phys(each) for each in found]


def test_random_walks_agree_or_are_explained(views: Views) -> None:
    """Nobody has made a mistake here.  What "explained" may be: KVM has not shadowed the page yet,
    or L1 has not mapped it, or only as MMIO, by a misconfigured entry."""
    found = [verdict(views.outer.journey(views.l1, each)) for each in walked(views)]
    explained = {
        *(Agreement.AGREE, Agreement.WRITE_TRACKED, Agreement.NOT_SHADOWED),
        *(Agreement.NOT_MAPPED, Agreement.MISCONFIGURED),
    }
    assert len(found) == WALKS
    for each in found:
        assert each.agreement in explained, each
        assert each.fault is Fault.NOBODY or each.agreement is Agreement.MISCONFIGURED, each
    assert sum(each.agreement is Agreement.AGREE for each in found) > WALKS // 3


def test_a_thousand_faults_behind_l2s_init_are_foretold(watched: Watched) -> None:
    """Reads, writes, fetches, and page walks (writes, since L1 has A/D flags on in EPT12)."""
    assert len(watched.faults) == FAULTS, watched.shown
    assert [each for each in watched.faults if not each["agrees"]] == [], watched.shown
    assert {(each["seen"]["op"], each["seen"]["stage"]) for each in watched.faults} >= KINDS


def writes_in_a_walk(fault: dict[str, Any]) -> bool:
    seen = fault["seen"]
    return bool(seen["stage"] == "walk" and seen["op"] != "read")


def test_where_this_kvm_departs_from_the_sdm_it_is_told_why(watched: Watched) -> None:
    """KVM reports the write of a page walk as no read (until 7.2); in all else it is the SDM's."""
    for each in watched.faults:
        departs = int(each["processor"]["differing_bits"], 16) != 0
        assert departs is writes_in_a_walk(each) is bool(each["departures"]), each


def test_the_sdm_differs_in_these_faults_alone(by_sdm: Watched) -> None:
    """By --model sdm: each that differs has its cause named."""
    assert len(by_sdm.faults) == FAULTS_BY_SDM, by_sdm.shown
    assert any(not each["agrees"] for each in by_sdm.faults)
    for each in by_sdm.faults:
        assert each["agrees"] is not writes_in_a_walk(each), each
        assert each["agrees"] or each["explanations"], each
