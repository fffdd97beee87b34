# SPDX-License-Identifier: GPL-2.0-or-later
"""The stub over a live machine, held against QEMU's over a snapshot of that same machine.

One machine for all, which the tests move on in the order they stand here: what needs it at its
first park point comes first.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest
from bochs_lab import machine, target_xml
from bochs_lab.errors import LabError
from bochs_lab.guests import guests
from bochs_lab.progress import Silent
from bochs_lab.replay import Replay

from tests.conftest import facts
from tests.gdb.batch import answers
from tests.lab.command import lab
from tests.lab.rsp_client import MULTIPROCESS, Client

pytestmark = [pytest.mark.gdb, pytest.mark.qemu, pytest.mark.bochs]

ROOT = Path(__file__).resolve().parents[2]
PHYSICAL = "Qqemu.PhyMemMode"
BREAKPOINT, INTERRUPT = "T05thread:p01.01;", "T02thread:p01.01;"
QEMU_NAME = "qemu-system-x86"  # of its process, which has room for 15 letters
SOON = 0.5  # seconds for Ctrl-C
RIP, CR0, CR3, CR4, EFER = 0x10, 0x1B, 0x1D, 0x1E, 0x20  # numbers of registers


@dataclass(frozen=True)
class Live:
    """The machine: its stub's port, and a snapshot of it where it was parked."""

    port: int
    snapshot: Path

    def kernel(self, name: str) -> int:
        """The address of a function of L0."""
        return int(facts(self.snapshot, "kallsyms")[0][name], 16)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Apart from a machine that the user may have up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        try:
            done = lab("up", "--stub", "--park", "l1-exit")
            assert done.returncode == 0, done.stderr
            snapshot = tmp_path_factory.mktemp("live") / "snapshot"
            machine.ask("snapshot", target=str(snapshot))
            yield Live(int(done.stdout.split(":")[-1]), snapshot)
        finally:
            machine.down()


@pytest.fixture(scope="module")
def qemu(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    with Replay(live.snapshot, tmp_path_factory.mktemp("qemu")) as replay:
        yield replay


@pytest.fixture
def client(live: Live) -> Iterator[Client]:
    with Client(live.port) as one:
        one.ask(MULTIPROCESS)
        yield one


def register(client: Client, number: int) -> int:
    return int.from_bytes(bytes.fromhex(client.ask(f"p{number:x}")), "little")


# -- at the first park point: what QEMU says -------------------------------------------------------

PACKETS = (
    *(MULTIPROCESS, "?", "vMustReplyEmpty", "!", "nonsense", "qNonsense", "vNonsense;1"),
    *("Hg0", "Hgp0.0", "Hgp1.1", "Hgp1.9", "Hc-1", "Hcp1.-1", "Tp1.1", "Tp1.9"),
    *("qC", "qfThreadInfo", "qsThreadInfo", "qThreadExtraInfo,p1.1", "qAttached", "qAttached:1"),
    *("qTStatus", "qOffsets", "qSymbol::", "vFile:setfs:0", "vCont?", "vCont;t", "vAttach;1"),
    "qXfer:features:read:target.xml:0,ffb",
    "qXfer:features:read:nothing.xml:0,ffb",
    *(f"qXfer:features:read:{target_xml.CORE}:{start:x},400" for start in range(0, 9000, 0x400)),
    *("p42", "p5a", "p7f", "pzz", "X0,0:", "R00", "Z0,", "Z9,1000,1", "z1,2000,1"),
    *("Z0,1000,1", "z0,1000,1", "z0,1000,1", "Z1,1000,1", "z1,1000,1", "Z0,1000"),
    *("m0", "mzz,4", "M", "m0,100000", "qqemu.Supported", f"q{PHYSICAL[1:]}"),
    *(f"{PHYSICAL}:1", f"q{PHYSICAL[1:]}", "m100000,0", "m1000,20", "m1000000,800"),
    *("m20000000,10", "m1ffffff8,10", "mfee00000,10", "mffffffffffff0000,10", "m0,100000"),
    *(f"{PHYSICAL}:2", f"q{PHYSICAL[1:]}", f"{PHYSICAL}:0", f"q{PHYSICAL[1:]}", PHYSICAL),
    "qRcmd," + b"nonsense".hex(),
)


def test_packets_get_the_answers_that_qemu_gives(client: Client, qemu: Replay) -> None:
    with Client(qemu.port) as theirs:
        for packet in PACKETS:
            ours, reference = client.ask(packet), theirs.ask(packet)
            if packet == MULTIPROCESS:
                assert set(reference.split(";")[1:]) <= set(ours.split(";"))
            elif packet.startswith("qRcmd"):
                assert "unknown command: 'nonsense'" in bytes.fromhex(ours[1:]).decode()
                assert client.receive() == theirs.receive() == "OK"
            else:
                assert ours == reference, packet


def test_random_pages_are_those_of_qemu(live: Live, client: Client, qemu: Replay) -> None:
    """Physical memory by both stubs; every second page is one that is not empty."""
    data = (live.snapshot / "memory.raw").open("rb")
    source = random.Random(7)
    with data, Client(qemu.port) as theirs:
        for stub in (client, theirs):
            assert stub.ask(f"{PHYSICAL}:1") == "OK"
        compared = 0
        while compared < 200:
            place = source.randrange(0x100, 0x20000) << 12
            data.seek(place)
            if compared % 2 and not any(data.read(4096)):
                continue
            for part in (place, place + 0x800):
                assert client.ask(f"m{part:x},800") == theirs.ask(f"m{part:x},800")
            compared += 1
        whole = client.ask("m1000000,2000")
        assert whole == theirs.ask("m1000000,800") + "".join(
            theirs.ask(f"m{0x1000000 + part:x},800") for part in (0x800, 0x1000, 0x1800)
        )
        for stub in (client, theirs):
            assert stub.ask(f"{PHYSICAL}:0") == "OK"


def test_virtual_addresses_are_translated_as_qemu_does(
    live: Live, client: Client, qemu: Replay
) -> None:
    """QEMU walks the same tables, once it has been given our control registers."""
    facts_of_kernel = facts(live.snapshot, "kallsyms")[0]
    places = [int(text, 16) for text in facts_of_kernel.values() if text]
    places += [register(client, RIP), register(client, 7), 0xFFFF888000000000, 0xFFFF88801FFFFFF8]
    source = random.Random(9)
    places += [source.choice(places) + source.randrange(1 << 22) for _ in range(120)]
    places += [source.choice(places) ^ 1 << source.randrange(64) for _ in range(60)]
    with Client(qemu.port) as theirs:
        theirs.ask("qXfer:features:read:target.xml:0,ffb")  # before it, QEMU takes no P
        for number in (EFER, CR4, CR3, CR0):
            value = client.ask(f"p{number:x}")
            assert theirs.ask(f"P{number:x}={value}") == "OK"
            assert theirs.ask(f"p{number:x}") == value
        answers = [(client.ask(f"m{place:x},8"), theirs.ask(f"m{place:x},8")) for place in places]
    assert [ours for ours, _ in answers] == [reference for _, reference in answers]
    mapped = [ours for ours, _ in answers if ours != "E14"]
    assert 40 < len(mapped) < len(answers) - 20


def test_registers_are_those_of_the_snapshot(live: Live, client: Client) -> None:
    taken = (live.snapshot / "registers.json").read_text()
    whole = bytes.fromhex(client.ask("g"))
    place = 0
    for number, each in enumerate(target_xml.registers()):
        assert client.ask(f"p{number:x}") == whole[place : place + each.size].hex()
        if each.name[0] == "r" or each.name in ("cr0", "cr2", "cr3", "cr4", "efer"):
            shown = re.search(rf'^ "{each.name}": "0x(\w+)"', taken, re.MULTILINE)
            assert shown
            assert register(client, number) == int(shown[1], 16)
        place += each.size
    assert place == len(whole)


def test_the_monitor_is_qemus_where_it_matters(client: Client) -> None:
    assert "at the park point l1-exit" in client.monitor("info status")
    assert "0000000000100000-000000001fffffff (prio 0, ram)" in client.monitor("info mtree -f")
    assert "(ram0) is 0x" in client.monitor("gpa2hva 0x100000")
    assert "0xc0000 is not RAM" in client.monitor("gpa2hva 0xc0000")
    assert "no address" in client.monitor("gpa2hva somewhere")
    assert re.search(r"RIP=[0-9a-f]{16} ", client.monitor("info registers"))
    assert "bochs COMMAND" in client.monitor("help")
    assert "CR0=0x8" in client.monitor("bochs creg")
    for moving in ("bochs c", "bochs s", "bochs q", "bochs set rax = 1", "bochs"):
        assert "changes nothing" in client.monitor(moving)


def test_status_shows_the_port(live: Live) -> None:
    assert f"gdb stub on port {live.port}" in lab("status").stdout
    done = lab("stub")
    assert done.stdout.splitlines() == [
        f"source {ROOT / 'gdb_nept' / 'init.py'}",
        "set architecture i386:x86-64",
        f"target remote 127.0.0.1:{live.port}",
    ]
    assert "leave gdb with `disconnect`" in done.stderr


# -- a stock gdb -----------------------------------------------------------------------------------


def gdb(port: int, *lines: str) -> list[str]:
    """What each line shows in a gdb with our commands, attached to a stub."""
    target = f"target remote 127.0.0.1:{port}"
    return answers([target], lines, timeout=120, last="disconnect")


READERS = {"auto": "process memory of {} (process N)", "phymem": "QEMU's physical memory mode"}


@pytest.mark.parametrize("way", list(READERS))
def test_our_commands_show_what_they_show_over_qemu(live: Live, qemu: Replay, way: str) -> None:
    """The memory of either is read in the same two ways."""
    lines = ("nept-target", "nept-vms", "nept-walk 0x2000123", "nept-vmcs12", "nept-ept --shadow")
    ours, theirs = (
        gdb(port, f"set nept memory {way}", *lines)[1:] for port in (live.port, qemu.port)
    )
    for shown, port, name in ((ours, live.port, "bochs-bin"), (theirs, qemu.port, QEMU_NAME)):
        shown[0] = re.sub(r"process \d+", "process N", shown[0].replace(str(port), ""))
        shown[0] = " ".join(shown[0].split())
        how = READERS[way].format(name)
        assert f"memory: {how}, 512 MiB of RAM and ROM" in shown[0]
        shown[0] = shown[0].replace(how, "")
    assert ours == theirs
    assert "kvm_intel at 0x" in ours[0]


# -- running ---------------------------------------------------------------------------------------


def test_a_breakpoint_in_the_kernel_and_steps_from_there(live: Live) -> None:
    """KVM is about to tell L1 of an EPT fault: the state is one that no snapshot has."""
    fault = live.kernel("nested_ept_inject_page_fault")
    words = ("continue", "p $rip", "nept-vms", "delete", "stepi", "p $rip", "info threads")
    hit, place, vms, _, _, stepped, threads = gdb(live.port, f"break *{fault:#x}", *words)[1:]
    assert "Breakpoint 1" in hit
    assert f"{fault:#x}" in place
    assert "L2 is active on VM 0, vCPU 0" in vms
    assert 0 < int(stepped.split()[-1], 16) - fault < 16
    assert "1.1 (CPU#0 [running])" in threads
    assert machine.debugger("info break").split() == ["Num", "Type", "Disp", "Enb", "Address"]


def test_a_guests_memory_is_read_while_it_runs(live: Live, client: Client) -> None:
    """The bytes of L1's code, through its tables and KVM's EPT, are those of its ELF file."""
    file = guests(None, Silent()).folder / "l1.elf"
    symbols = subprocess.run(["nm", file], capture_output=True, text=True, check=True).stdout
    place = int(re.findall(r"^(\w+) T enter_l2$", symbols, re.MULTILINE)[0], 16)
    kernel = live.kernel("_text")
    assert client.ask(f"m{kernel:x},8") != "E14"
    assert client.ask(f"Z1,{place:x},1") == "OK"
    assert client.ask("vCont;c:p1.-1") == BREAKPOINT
    assert register(client, RIP) == place
    assert "in a guest of KVM" in client.monitor("info status")
    assert bytes.fromhex(client.ask(f"m{place:x},40")) in file.read_bytes()
    assert client.ask(f"m{kernel:x},8") == "E14"
    assert client.ask(f"z1,{place:x},1") == "OK"


def test_a_park_point_stops_like_a_breakpoint(live: Live, client: Client) -> None:
    assert client.ask("c") == BREAKPOINT
    assert "at the park point l2; the processor is in L0" in client.monitor("info status")
    assert "is parked at l2" in lab("status").stdout
    with pytest.raises(LabError, match="l1-exit any more"):
        machine.ask("snapshot", target=str(live.snapshot))


def test_registers_and_memory_can_be_set(client: Client) -> None:
    assert client.ask(f"{PHYSICAL}:1") == "OK"
    before = client.ask("m10fd,6")
    assert client.ask("M10fd,6:112233445566") == "OK"
    assert client.ask("m10fd,6") == "112233445566"
    assert client.ask(f"M10fd,6:{before}") == "OK"
    assert client.ask(f"{PHYSICAL}:0") == "OK"
    value = client.ask("p3")
    assert client.ask("P3=8877665544332211") == "OK"
    assert client.ask("p3") == "8877665544332211"
    assert client.ask(f"P3={value}") == "OK"
    assert client.ask("G00") == client.ask("P1d=00") == "E01"


def test_detached_it_runs_past_the_last_park_point(live: Live, client: Client) -> None:
    assert client.ask("vCont;c") == BREAKPOINT
    assert "at the park point done" in client.monitor("info status")
    assert client.ask("D;1") == "OK"
    client.close()
    time.sleep(0.3)
    assert " runs (Bochs is pid" in lab("status").stdout
    with Client(live.port) as again:
        assert again.ask("?").startswith("T02")
        again.send("c")
        time.sleep(0.3)
        answer, seconds = again.interrupt()
        assert answer.startswith("T02")
        assert seconds < SOON


def test_ctrl_c_comes_back_at_once(live: Live) -> None:
    plain = {**os.environ, "TERM": "dumb"}
    child = pexpect.spawn("gdb", ["-nx", "-q"], timeout=20, encoding="utf-8", env=plain)
    child.delaybeforesend = None
    with closing(child):
        child.sendline(f"target remote 127.0.0.1:{live.port}")
        child.expect(r"0x[0-9a-f]{16} in")
        for _ in range(3):
            child.expect(r"\(gdb\) ")
            child.sendline("continue")
            child.expect("Continuing")
            time.sleep(0.05)
            started = time.monotonic()
            child.kill(signal.SIGINT)
            child.expect("received signal SIGINT")
            assert time.monotonic() - started < SOON
        child.sendline("disconnect")
        child.expect("Ending remote debugging")


def test_a_debugger_that_vanishes_leaves_a_usable_machine(live: Live, client: Client) -> None:
    """As it was: it runs on, without the breakpoints that were set."""
    assert client.ask(f"Z0,{live.kernel('vm_list'):x},1") == "OK"
    client.send("c")
    client.close()
    with Client(live.port) as second:
        assert second.ask("?") == INTERRUPT.replace("p01.01", "01")
        assert "keep" not in second.monitor("bochs info break")
        assert second.ask("m0,100000") == "E22"


def test_what_is_asked_while_it_runs_stops_it(live: Live, client: Client) -> None:
    client.send("c")
    with pytest.raises(LabError, match="the machine runs"):
        machine.debugger("r")
    assert client.ask("?") == INTERRUPT


def test_the_end_of_bochs_is_told(client: Client) -> None:
    pid = machine.ask("status")["bochs_pid"]
    client.send("c")
    os.kill(pid, signal.SIGKILL)
    assert "Bochs ended (signal 9)" in bytes.fromhex(client.receive()[1:]).decode()
    assert client.receive() == "X09"
    with pytest.raises(EOFError):
        client.receive()
    machine.down()  # it is on its way already
    assert "the last: Bochs ended (signal 9)" in lab("status").stdout
