# SPDX-License-Identifier: GPL-2.0-or-later
"""Our commands over kgdb: a kernel that stops itself, read through a serial line, against what L1
and the VMM logged.

One machine for all, which the gdb sessions move on: from before the guests run to the fault of L2's
that KVM reflects first, and from there to the point where L2 parks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bochs_lab import console, machine

from tests.gdb.batch import answers
from tests.gdb.relay import Relay
from tests.lab.command import lab

pytestmark = [pytest.mark.gdb, pytest.mark.bochs, pytest.mark.kgdb]

INJECTION = "nested_ept_inject_page_fault"
WATCHED = 100  # faults, unless all of the scenario's are: --whole
ALL = 1400  # at least
WALKED = 8  # pages of L2's whose walk is held against L1's word


@dataclass(frozen=True)
class Output:
    """What a gdb session showed for each line, and what it asked of kgdb."""

    lines: dict[str, str]
    packets: list[str]

    def data(self, line: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.lines[line])
        return found


@dataclass(frozen=True)
class Kgdb:
    """A machine in kgdb: what to type into gdb, without the port; the port; its console."""

    before: tuple[str, ...]
    port: int
    serial: Path

    def session(self, *lines: str, vmlinux: bool = True, seconds: float = 600) -> Output:
        """gdb's answers to the lines, which differ from each other."""
        with Relay(("127.0.0.1", self.port)) as relay:
            target = f"target remote 127.0.0.1:{relay.port}"
            told = [*self.before[not vmlinux :], target]
            parts = answers(told, [*lines, "detach"], seconds)
        return Output(dict(zip(lines, parts)), relay.packets)

    def said(self) -> list[dict[str, Any]]:
        return list(console.facts(console.clean(self.serial.read_text("latin-1"))).objects)


@pytest.fixture(scope="module")
def kgdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kgdb]:
    """Apart from a machine that the user may have up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        try:
            done = lab("up", "--kgdb", timeout=None)  # it builds a kernel, once
            assert done.returncode == 0, done.stderr
            lines = done.stdout.splitlines()[-4:]
            status = machine.ask("status")
            serial = Path(status["folder"]) / "serial.txt"
            yield Kgdb(tuple(lines[:-1]), int(lines[-1].rpartition(":")[2]), serial)
        finally:
            machine.down()


@pytest.fixture(scope="module")
def without_vmlinux(kgdb: Kgdb) -> Output:
    return kgdb.session("nept-vms", "nept-target", vmlinux=False)


@pytest.fixture(scope="module")
def fault(kgdb: Kgdb, without_vmlinux: Output) -> Output:
    """From before the guests run until KVM has told L1 of the first fault of L2."""
    return kgdb.session(
        "nept-target",
        "nept-vms",
        f"tbreak {INJECTION}",
        "continue",
        "info symbol $pc",
        "print/x fault->address",
        "finish",
        "nept-check --json",
        "nept-vmcs12 --json",
        "info breakpoints",
    )


@pytest.fixture(scope="module")
def whole(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--whole"))


@pytest.fixture(scope="module")
def watched(
    kgdb: Kgdb, fault: Output, whole: bool, tmp_path_factory: pytest.TempPathFactory
) -> list[Any]:
    """The faults after that one, as nept-watch saw them."""
    file = tmp_path_factory.mktemp("watch") / "faults.jsonl"
    line = f"nept-watch --model kvm@bochs-2.7 --json-lines {file}"
    line += "" if whole else f" --count {WATCHED}"
    output = kgdb.session(line, "info breakpoints", seconds=3600)
    assert output.lines["info breakpoints"].startswith("No breakpoints")
    assert {packet[:2] for packet in output.packets if packet[:1] in "Zz"} == {"Z0", "z0"}
    assert not whole or "the target stopped by itself" in output.lines[line]
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def parked(kgdb: Kgdb, watched: list[Any], whole: bool) -> Output:
    """From there to where L2 parks; there, every command."""
    if not whole:
        kgdb.session("continue")
    return kgdb.session(
        "nept-vms --json",
        "nept-target --json",
        "nept-ept --entries --json",
        "nept-ept --shadow 0x2000000+128K",
        "nept-ept --l1 0x1020000+64K",
        "nept-vmcs12 --json",
        "nept-check",
        "nept-predict 0x2002000 --write",
        "nept-decode spte 0x0610000002220877",
        *(f"nept-walk {page['l2gpa']} --json" for page in pages(kgdb)),
    )


def pages(kgdb: Kgdb) -> list[dict[str, Any]]:
    """Some of the pages into which L1 or L2 wrote signatures."""
    return [line["page"] for line in kgdb.said() if "page" in line][:WALKED]


def faults(kgdb: Kgdb) -> list[dict[str, Any]]:
    """The EPT exits that L1 took, as it logged them."""
    return [line for line in kgdb.said() if line.get("reason") in ("0x30", "0x31")]


def test_without_vmlinux_we_ask_for_it_and_read_next_to_nothing(without_vmlinux: Output) -> None:
    for line in without_vmlinux.lines:
        assert "file vmlinux" in " ".join(without_vmlinux.lines[line].split())
        assert "Traceback" not in without_vmlinux.lines[line]
    assert sum(packet.startswith("m") for packet in without_vmlinux.packets) < 10


def test_it_is_told_what_is_used(fault: Output) -> None:
    told = " ".join(fault.lines["nept-target"].split())
    assert "the kernel's direct map at 0xffff888000000000" in told
    assert re.search(
        r"kernel: Linux 6\.1\.\d+-kgdb symbols: (\S+/vmlinux) types: DWARF of \1", told
    )
    assert "does not know the packet qqemu.PhyMemMode" in told
    assert "missing" not in told


def test_before_the_guests_run_there_is_no_vm(fault: Output) -> None:
    assert "there is no VM" in fault.lines["nept-vms"]


def test_a_breakpoint_in_kvm_is_hit_at_the_fault_that_l1_logged_first(
    kgdb: Kgdb, fault: Output, parked: Output
) -> None:
    assert fault.lines["info symbol $pc"].startswith(INJECTION)
    logged = faults(kgdb)[0]
    assert int(fault.lines["print/x fault->address"].split()[-1], 16) == int(logged["gpa"], 16)
    assert fault.lines["info breakpoints"].startswith("No breakpoints")


def test_nept_check_agrees_with_kvm_and_with_l1s_log(
    kgdb: Kgdb, fault: Output, parked: Output
) -> None:
    logged, check = faults(kgdb)[0], fault.data("nept-check --json")
    fields = {field["name"]: field for field in fault.data("nept-vmcs12 --json")["fields"]}
    for name, key in (
        ("vm_exit_reason", "reason"),
        ("exit_qualification", "qualification"),
        ("guest_physical_address", "gpa"),
    ):
        assert int(fields[name]["value"], 16) == int(logged[key], 16), name
    assert check["finding"] == "agree", fault.lines["nept-check --json"]


def test_nept_watch_sees_every_fault_that_l1_logged(
    kgdb: Kgdb, watched: list[Any], parked: Output, whole: bool
) -> None:
    keys = ("exit_reason", "exit_qualification", "guest_physical_address", "guest_linear_address")
    told = [tuple(fault["told"][key] for key in keys) for fault in watched]
    logged = [
        tuple(each[key] for key in ("reason", "qualification", "gpa", "gla"))
        for each in faults(kgdb)[1:]
    ]
    if not whole:
        logged = logged[:WATCHED]
    assert len(logged) >= (ALL if whole else WATCHED)
    # the scenario's own exits come first; the case shown at the park point is made once more
    assert told[: len(logged)] == logged
    assert all(fault["agrees"] for fault in watched)


def test_vms_and_memslots_are_those_that_the_vmm_set_up(kgdb: Kgdb, parked: Output) -> None:
    made = [line for line in kgdb.said() if "vm" in line]
    found = parked.data("nept-vms --json")["vms"]
    assert len(found) == len(made) == 3
    for vm, line in zip(found, made):
        assert (vm["pid"], vm["problems"]) == (line["pid"], [])
        assert [vcpu["id"] for vcpu in vm["vcpus"]] == [vcpu["id"] for vcpu in line["vcpus"]]
        assert [
            (slot["id"], slot["start"], hex(slot["size"]), slot["userspace_addr"])
            for slot in vm["memslots"]["slots"]
        ] == [(slot["slot"], slot["gpa"], slot["size"], slot["hva"]) for slot in line["slots"]]


def test_l2_is_active_by_every_sign(parked: Output) -> None:
    (vcpu,) = parked.data("nept-vms --json")["vms"][0]["vcpus"]
    assert [sign["says"] for sign in vcpu["signs"]] == [True] * 4


def test_every_ept12_leaf_is_one_that_l1_logged(kgdb: Kgdb, parked: Output) -> None:
    logged = [line["entry_at_park"] for line in kgdb.said() if "entry_at_park" in line]
    wanted = {(entry["gpa"], entry["value"], entry["address"]) for entry in logged}
    runs = parked.data("nept-ept --entries --json")["runs"]
    listed = {(run["start"], run["entry"], run["entry_address"]) for run in runs if "entry" in run}
    assert len(listed) > 100
    assert listed <= wanted


def test_each_walk_ends_at_the_page_that_l1_put_there(kgdb: Kgdb, parked: Output) -> None:
    walked = pages(kgdb)
    assert len(walked) == WALKED
    for page in walked:
        journey = parked.data(f"nept-walk {page['l2gpa']} --json")
        assert int(journey["ept12"]["address"], 16) == int(page["l1gpa"], 16)


def test_vmcs12_is_what_l1_read(kgdb: Kgdb, parked: Output) -> None:
    read = next(line for line in kgdb.said() if line.get("at") == "l2")["vmcs"]
    compared = 0
    for field in parked.data("nept-vmcs12 --json")["fields"]:
        if field["encoding"] in read and field["authority"] != "stale":
            compared += 1
            assert int(field["value"], 16) == int(read[field["encoding"]], 16), field["name"]
    assert compared > 80


def test_every_command_answers(parked: Output) -> None:
    assert "EPT02" in parked.lines["nept-ept --shadow 0x2000000+128K"]
    assert "EPT01" in parked.lines["nept-ept --l1 0x1020000+64K"]
    assert "EPT violation" in parked.lines["nept-predict 0x2002000 --write"]
    assert "read" in parked.lines["nept-decode spte 0x0610000002220877"]
    assert "not an EPT exit" in " ".join(parked.lines["nept-check"].split())


def test_nothing_was_written_and_little_was_read(fault: Output, parked: Output) -> None:
    assert {packet[:1] for packet in parked.packets} & {"M", "X", "P", "G"} == set()
    assert {packet[:1] for packet in fault.packets} & {"M", "X", "G"} == set()
    # where a breakpoint was hit, gdb takes the instruction pointer back before it, as kgdb does
    # not, and with it the number of a system call (amd64_linux_write_pc)
    moved = {packet for packet in fault.packets if packet[:1] == "P"}
    inserted = {packet.split(",")[1] for packet in fault.packets if packet[:2] == "Z0"}
    expected = {f"P10={int(place, 16).to_bytes(8, 'little').hex()}" for place in inserted}
    assert moved <= {*expected, "P39=ffffffffffffffff"}
    lengths = [int(text.rpartition(",")[2], 16) for text in parked.packets if text[:1] == "m"]
    assert lengths
    assert max(lengths) <= 512  # what a packet of kgdb holds
    assert sum(lengths) < 256 << 10
