# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian kernel that runs in QEMU without VMX (TCG has none), with KASLR and two processors.

What our commands find is held against what the kernel itself printed on its console, and against
QEMU's own walk of the processor's page tables (`gva2gpa`).
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest
from bochs_lab import packages
from bochs_lab.guests import guests
from bochs_lab.initramfs import initramfs
from bochs_lab.options import LabOptions
from bochs_lab.progress import Silent

from tests.gdb.batch import INIT, ROOT, answers
from tests.gdb.relay import Relay

pytestmark = [pytest.mark.gdb, pytest.mark.qemu, pytest.mark.bochs]

NO_VMX = ROOT / "tests" / "data" / "no-vmx"
LINKED = 0xFFFFFFFF81000000  # _text without KASLR
BOOT = 240  # seconds that it may take
MODE = "maint packet qqemu.PhyMemMode"
KERNEL = "python from gdb_nept.commands.gdb import registry; K = registry.register().target"


@dataclass
class Linux:
    """A machine that runs, and what its kernel told of itself."""

    port: int
    symbols: dict[str, int]
    modules: dict[str, int]
    release: str = ""


@pytest.fixture(scope="module")
def linux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linux]:
    options = LabOptions(overlay=NO_VMX)
    kernel = packages.kernel(options.description, Silent())
    archive, _ = initramfs(options, kernel, guests(None, Silent()))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    console = tmp_path_factory.mktemp("live") / "console"
    words = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot"]
    words += ["-M", "q35,accel=tcg", "-cpu", "max", "-m", "512M", "-smp", "2"]
    words += ["-kernel", str(kernel.vmlinuz), "-initrd", str(archive)]
    words += ["-append", "console=ttyS0 quiet panic=1", "-serial", f"file:{console}"]
    words += ["-gdb", f"tcp:127.0.0.1:{port}"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as machine:
        try:
            yield _booted(console, port)
        finally:
            machine.terminate()


def _booted(console: Path, port: int) -> Linux:
    found = Linux(port, {}, {})
    deadline = time.monotonic() + BOOT
    while not found.release:
        assert time.monotonic() < deadline, console.read_text(errors="replace")[-2000:]
        time.sleep(0.2)
        for line in console.read_text(errors="replace").splitlines() if console.exists() else ():
            with suppress(ValueError):  # the last line may not be whole yet
                _take(found, json.loads(line[4:]) if line.startswith("LAB ") else {})
    return found


def _take(found: Linux, fact: dict[str, list[str]]) -> None:
    for kind, place in (("symbol", found.symbols), ("module", found.modules)):
        if kind in fact:
            place[fact[kind][0]] = int(fact[kind][1], 16)
    if "release" in fact:
        found.release = str(fact["release"])


def gdb(linux: Linux, *lines: str, way: str = "auto", before: str = "") -> tuple[list[str], Relay]:
    """What each line shows in one gdb, whose machine is stopped afterwards, and what gdb asked."""
    with Relay(("127.0.0.1", linux.port)) as relay:
        target = f"target remote 127.0.0.1:{relay.port}"
        told = [f"set nept memory {way}", before or "echo", target, KERNEL]
        return answers(told, lines, timeout=180), relay


def held(code: str) -> str:
    """A line for gdb that runs Python on `k`, the kernel, as within a command of ours."""
    return f"python exec('''with K.command():\\n    k = K.kernel()\\n    {code}''')"


@pytest.mark.parametrize("way", ["auto", "phymem"])
def test_the_kernel_is_found_where_it_says_it_is(linux: Linux, way: str) -> None:
    (target, data, mode), relay = gdb(linux, "nept-target", "nept-target --json", MODE, way=way)
    assert f"kernel:   Linux {linux.release}" in target
    moved = linux.symbols["_text"] - LINKED
    words = " ".join(target.split())
    assert f"KASLR moved it by {moved:#x}" in words if moved else "no KASLR" in words
    found = json.loads(data)
    bases = {one["name"]: int(one["base"], 16) for one in found["kernel"]["modules"]}
    assert bases == linux.modules
    assert found["transport"] == ("process" if way == "auto" else "phymem")
    assert 'received: "0"' in mode
    assert not relay.kinds & set("MXPGcCsS")


def test_symbols_of_kernel_and_modules_are_the_kernels_own(linux: Linux) -> None:
    names = sorted(linux.symbols)
    assert {"vm_list", "kvm_lock", "init_task"} <= set(names)
    lines = [held(f'print(hex(k.symbols.address("{name}")))') for name in names]
    shown, _ = gdb(linux, *lines)
    assert dict(zip(names, (int(each, 16) for each in shown))) == linux.symbols


@pytest.mark.parametrize("line", ["nept-vms", "nept-walk 0", "nept-ept", "nept-check"])
def test_no_nested_guest_can_be_there(linux: Linux, line: str) -> None:
    (shown,), _ = gdb(linux, line)
    words = " ".join(shown.split())
    assert "the host's processor has no VMX, so that no nested guest can be there" in words
    assert "-cpu host,+vmx" in words


STOP = "break *{:#x}"


def translated_by_qemu(address: str) -> str:
    """By the tables of the processor that stands at the breakpoint, which the monitor must be told:
    the other may be in a process, whose tables lack the kernel."""
    chosen = "gdb.execute(f'monitor cpu {gdb.selected_thread().num - 1}')"
    return f"python {chosen}; gdb.execute(f'monitor gva2gpa {{{address}:#x}}')"


@pytest.mark.parametrize("way", ["auto", "phymem"])
def test_page_tables_lead_where_the_processor_goes(linux: Linux, way: str) -> None:
    """Image, module, direct map, and a page of the process that makes a system call."""
    places = [linux.symbols[name] for name in ("linux_banner", "vm_list", "__x64_sys_newuname")]
    lines = [STOP.format(linux.symbols["__x64_sys_newuname"]), "continue"]
    for place in places:
        lines += [translated_by_qemu(hex(place)), held(f"print(hex(k.to_physical({place})))")]
    lines += ["python IP = int(gdb.parse_and_eval('*(unsigned long *)($rdi + 128)'))"]
    lines += ["python PGD = k.layout.page_offset_base + (int(gdb.parse_and_eval('$cr3')) & -8192)"]
    lines += [translated_by_qemu("IP")]
    lines += [held("print(hex(k.translate_user(PGD, IP).physical))"), "delete", MODE]
    shown, _ = gdb(linux, *lines, way=way)
    assert "Breakpoint 1" in shown[1]
    theirs, ours = [*shown[2:8:2], shown[10]], [*shown[3:9:2], shown[11]]
    assert [int(each.split()[-1], 16) for each in theirs] == [int(each, 16) for each in ours]
    assert 'received: "0"' in shown[-1]


def test_breakpoints_and_our_commands_in_between(linux: Linux) -> None:
    """Nothing is stale after the machine ran, and nothing is written to make it stop."""
    jiffies, place = linux.symbols["jiffies_64"], linux.symbols["__x64_sys_newuname"]
    ours = held(f"print(int.from_bytes(k.read({jiffies}, 8), 'little'))")
    once = ("continue", "nept-target", ours, f"output *(unsigned long *){jiffies:#x}")
    lines = [STOP.format(place), ours, *once * 3, "delete", "nept-vms", MODE]
    shown, relay = gdb(linux, *lines)
    rounds = [shown[at : at + 4] for at in range(2, 14, 4)]
    for stop, target, read, expected in rounds:
        assert f"{place:#018x}" in stop
        assert f"Linux {linux.release}" in target
        assert read.strip() == expected.strip()
    assert int(shown[1]) < int(rounds[-1][2]), "time does not stand still"
    assert 'received: "0"' in shown[-1]
    assert not relay.kinds & set("MXPG")
    runs = [packet.startswith(("vCont;c", "c")) for packet in relay.packets].index(True)
    switch = "Qqemu.PhyMemMode:1"  # to prove that it is this process's memory, and no other QEMU's
    assert switch in relay.packets[:runs]
    assert switch not in relay.packets[runs:], "once proven it is believed"


def test_the_direct_map_of_a_kernel_that_stands_in_itself(linux: Linux, tmp_path: Path) -> None:
    source, file = tmp_path / "base.c", tmp_path / "base"
    source.write_text("int main(void) { return 0; }\n")
    base = linux.symbols["page_offset_base"]
    words = [
        "gcc",
        "-nostdlib",
        "-no-pie",
        "-Wl,-emain",
        f"-Wl,--defsym=page_offset_base={base:#x}",
    ]
    subprocess.run([*words, "-o", str(file), str(source)], check=True)
    stop = STOP.format(linux.symbols["__x64_sys_newuname"])
    shown, relay = gdb(
        linux, stop, "continue", "nept-target", "nept-vms", way="direct", before=f"file {file}"
    )
    assert "memory:   the kernel's direct map at 0xff" in shown[2]
    assert f"Linux {linux.release}" in shown[2]
    assert "no VMX" in shown[3]
    assert not any("Qqemu.PhyMemMode" in packet for packet in relay.packets)  # asked, never set


def test_ctrl_c_again_and_again(linux: Linux) -> None:
    child = pexpect.spawn(
        "gdb", ["-nx", "-q"], timeout=60, encoding="utf-8", env={**os.environ, "TERM": "dumb"}
    )
    child.sendline("set confirm off")
    child.sendline("set pagination off")
    child.sendline(f"source {INIT}")
    child.sendline(f"target remote 127.0.0.1:{linux.port}")
    child.expect(r"0x[0-9a-f]{16} in")
    for _ in range(3):
        child.sendline("continue")
        child.expect("Continuing")
        time.sleep(0.3)
        child.kill(signal.SIGINT)
        child.expect("SIGINT")
        child.sendline("nept-target")
        child.expect(f"Linux {re.escape(linux.release)}")
        child.expect(r"kvm at 0x[0-9a-f]+")
        child.sendline("nept-vms")
        child.expect("no VMX")
    child.sendline(MODE)
    child.expect('received: "0"')
    child.sendline("detach")
    child.expect("detached")
    child.sendline("quit")
    child.expect(pexpect.EOF)
