# SPDX-License-Identifier: GPL-2.0-or-later
"""Our commands in a real gdb that has no target, or one that runs no Linux."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pexpect
import pytest

from tests import tools
from tests.gdb.batch import INIT, ROOT
from tests.gdb.machine import stopped_machine
from tests.gdb.relay import Relay

pytestmark = pytest.mark.gdb

NAMES = ("target", "vms", "vmcs12", "ept", "walk", "decode")
MODE = "maint packet qqemu.PhyMemMode"
BY_MODE = "set nept memory phymem"
Gdb = Callable[..., str]
Address = tuple[str, int]


def test_nept_lists_the_commands(gdb: Gdb) -> None:
    output = gdb("nept")
    assert all(f"nept-{name} " in output for name in NAMES)


def test_show_nept_lists_the_settings(gdb: Gdb) -> None:
    output = gdb("set nept memory phymem", "show nept")
    assert "nept memory:  gdb_nept reads physical memory by: phymem" in output
    assert "nept traceback:  gdb_nept shows the traceback of its mistakes: off" in output
    for name in ("btf", "memory-file", "libkdumpfile"):
        assert f"nept {name}:  " in output


@pytest.mark.parametrize("verb", ["set", "show"])
def test_a_setting_that_is_none_meets_what_is_near(gdb: Gdb, verb: str) -> None:
    output = gdb(f"{verb} nept memry direct")
    assert "there is no setting 'nept memry'" in output
    assert "Did you mean memory" in output


@pytest.mark.parametrize("name", NAMES)
def test_help_is_the_manual(gdb: Gdb, name: str) -> None:
    output = gdb(f"help nept-{name}")
    assert f"Usage: nept-{name}" in output
    assert "Example" in output
    assert "See also" in output
    assert gdb(f"help nept {name}") == output
    assert max(map(len, output.splitlines())) <= 80


def test_a_second_source_is_harmless(gdb: Gdb) -> None:
    output = gdb(f"source {INIT}", f"source {INIT}", "nept-decode eptp 0x10105e")
    assert "Error" not in output
    assert "0x101000" in output


def test_a_relative_path_will_do(tmp_path: Path) -> None:
    words = ["gdb", "-nx", "-batch", "-ex", "cd gdb_nept", "-ex", "source init.py", "-ex", "nept"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "nept-walk" in done.stdout


def test_python_itself_gets_a_hint() -> None:
    done = subprocess.run([sys.executable, str(INIT)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "source init.py" in done.stderr


@pytest.mark.parametrize("line", ["nept-vms", "nept-ept", "nept-vmcs12", "nept-walk 0"])
def test_without_a_target_every_command_says_what_to_do(gdb: Gdb, line: str) -> None:
    assert "not attached\nAttach to QEMU's gdb stub: target remote HOST:PORT" in gdb(line)


def test_target_says_so_without_failing(gdb: Gdb) -> None:
    output = gdb("nept-target --json")
    found = json.loads(output)
    assert found["kernel"] is None
    assert found["missing"][0]["advice"].startswith("Attach")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nept-walk", "nept-walk: the following arguments are required: ADDRESS"),
        ("nept-walk --nonsense 1", "unrecognized arguments: --nonsense"),
        ("nept-decode nonsense 1", "argument KIND: invalid choice: 'nonsense'"),
        ("nept-decode ept nonsense", "'nonsense' is neither a number nor an expression"),
        ("nept-ept 5..4", "'5..4' is an empty range"),
        ("nept-ept 0x2000000-0x2010000", "'0x2000000-0x2010000' is no range\nWrite LOW..HIGH"),
        ("nept-ept -5", "'-5' is not a 64-bit number"),
        ("nept-decode ept 16E", "'16E' is no whole number"),
        ("nept-decode ept 1.5", "'1.5' is no whole number"),
        ("nept-watch --count -1", "'-1' is not a 64-bit number"),
        ("nept-watch --count 1-2", "is no number of things"),
        ("nept-walk --vm -1 0", "'-1' is not a 64-bit number"),
        ("nept-predict --linear --size -1 0", "'-1' is not a 64-bit number"),
        ("nept nonsense", "there is no command 'nept nonsense'"),
    ],
)
def test_wrong_arguments_get_a_message(gdb: Gdb, line: str, message: str) -> None:
    output = gdb(line)
    assert message in output
    assert "Traceback" not in output


def test_an_address_may_be_an_expression(gdb: Gdb) -> None:
    assert "PTE, not present" in gdb("set var $x = 7", "nept-decode ept '$x - 7'")


def test_completion(gdb: Gdb) -> None:
    assert gdb("complete nept-vmcs12 guest_cr").split("\n")[:3] == [
        "nept-vmcs12 guest_cr0",
        "nept-vmcs12 guest_cr3",
        "nept-vmcs12 guest_cr4",
    ]
    assert gdb("complete nept-ept --sh") == "nept-ept --shadow\n"
    assert gdb("complete nept-decode secondary-c") == "nept-decode secondary-controls\n"
    levels = [f"nept-decode --level {level}" for level in range(1, 6)]
    assert gdb("complete nept-decode --level ").splitlines() == levels


def test_reload_keeps_the_commands(gdb: Gdb) -> None:
    output = gdb("nept-reload", "nept-decode exit-reason 48")
    assert "modules loaded again" in output
    assert "EPT violation" in output


def test_a_mistake_is_one_line_and_a_traceback_when_wanted(gdb: Gdb) -> None:
    breakage = "python import gdb_nept.render.word as w; w._table = None"
    output = gdb(breakage, "nept-decode ept 7", "set nept traceback on", "nept-decode ept 7")
    first, second = output.split("Traceback", 1)
    assert first.startswith("a mistake in gdb_nept: TypeError")
    assert "set nept traceback on" in first
    assert "word_table" in second


def test_without_tabulate_and_pygments_output_is_the_same(gdb: Gdb) -> None:
    block = "python import sys; sys.modules['tabulate'] = sys.modules['pygments'] = None"
    line = "nept-decode ept 0x80000000123fb7 --level 2"
    assert gdb(block, line) == gdb(line)


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_colour_is_for_a_terminals_own_prompt(kind: str) -> None:
    """What a script takes is text, and a dumb terminal gets nothing else."""
    tools.module("pygments")
    variables = {**os.environ, "TERM": kind}
    variables.pop("NO_COLOR", None)
    child = pexpect.spawn(
        "gdb",
        ["-nx", "-q", "-ex", f"source {INIT}"],
        encoding="utf-8",
        timeout=30,
        env=variables,
        dimensions=(50, 80),
    )

    def ask(line: str) -> str:
        child.sendline(line)
        child.expect_exact("(gdb) ")
        return str(child.before)

    child.expect_exact("(gdb) ")
    line = "nept-decode ept 0x1001"
    assert ("\x1b[90m" in ask(line)) == (kind == "xterm")
    taken = f'gdb.execute("{line}", to_string=True)'
    assert "escapes: 0" in ask(f'python print("escapes:", {taken}.count(chr(27)))')
    child.sendline("quit")
    child.expect(pexpect.EOF)


@pytest.mark.qemu
def test_a_machine_in_its_firmware(gdb: Gdb, firmware: Address) -> None:
    with Relay(firmware) as relay:
        attach = f"target remote 127.0.0.1:{relay.port}"
        output = gdb(BY_MODE, attach, "nept-vms", "nept-target", MODE)
    assert "no Linux kernel in the target's physical memory" in output
    assert "let it boot first" in output
    assert re.search(r"memory: +QEMU's physical memory mode, \d+ MiB", output)
    assert 'received: "0"' in output
    assert not relay.kinds & set("MXPGcCsS")


@pytest.mark.qemu
def test_only_ram_is_read(gdb: Gdb, firmware: Address) -> None:
    with Relay(firmware) as relay:
        gdb(BY_MODE, f"target remote 127.0.0.1:{relay.port}", "nept-vms")
    started = relay.packets.index("Qqemu.PhyMemMode:1")
    ended = relay.packets.index("Qqemu.PhyMemMode:0")
    reads = [p[1:].split(",") for p in relay.packets[started:ended] if p.startswith("m")]
    places = [int(start, 16) for start, _ in reads]
    assert places
    assert all(place < 4 << 20 or place >= 0xFFFC0000 for place in places)
    assert not any(0xA0000 <= place < 0xC0000 for place in places), "VGA memory was touched"


@pytest.mark.qemu
def test_the_mode_found_is_the_mode_left(gdb: Gdb, firmware: Address) -> None:
    with Relay(firmware) as relay:
        output = gdb(
            BY_MODE,
            f"target remote 127.0.0.1:{relay.port}",
            "maint packet Qqemu.PhyMemMode:1",
            "nept-vms",
            MODE,
            "maint packet Qqemu.PhyMemMode:0",
        )
    assert 'received: "1"' in output
    assert relay.packets.count("Qqemu.PhyMemMode:0") == 1


@pytest.mark.qemu
def test_a_32_bit_machine_is_told(gdb: Gdb) -> None:
    with stopped_machine("qemu-system-i386") as port:
        output = gdb(f"target remote 127.0.0.1:{port}", "nept-vms")
    assert "gdb takes the target for 'i386'" in output
    assert "set architecture i386:x86-64" in output


@pytest.mark.qemu
def test_a_stub_that_goes_away_in_mid_command(gdb: Gdb, firmware: Address) -> None:
    with Relay(firmware, hang_up_after=600) as relay:
        attach = f"target remote 127.0.0.1:{relay.port}"
        output = gdb(BY_MODE, attach, "nept-vms", "nept-vms", attach, MODE, "nept-vms", MODE)
    first, left, put_back = output.partition('received: "1"')
    assert "the target does not answer" in first
    assert "not attached" in first
    assert left, "QEMU keeps the mode that nobody could put back"
    assert "no Linux kernel" in put_back
    assert 'received: "0"' in put_back
    assert "Traceback" not in output


@pytest.mark.qemu
def test_ctrl_c_comes_back_to_the_prompt_and_puts_the_mode_back(firmware: Address) -> None:
    with Relay(firmware, delay=0.005) as relay:
        plain = {**os.environ, "TERM": "dumb"}
        child = pexpect.spawn("gdb", ["-nx", "-q"], timeout=20, encoding="utf-8", env=plain)
        child.sendline("set confirm off")
        child.sendline(f"source {INIT}")
        child.sendline(BY_MODE)
        child.sendline(f"target remote 127.0.0.1:{relay.port}")
        child.expect("0x000000000000fff0 in")
        child.sendline("nept-vms")
        child.expect("searching for the kernel")
        time.sleep(0.5)
        child.kill(signal.SIGINT)
        started = time.monotonic()
        child.expect("nept-vms: interrupted")
        assert time.monotonic() - started < 10
        child.expect(r"\(gdb\) ")
        child.sendline(MODE)
        child.expect('received: "0"')
        child.sendline("quit")
        child.expect(pexpect.EOF)
    assert "Qqemu.PhyMemMode:0" in relay.packets


def test_files_for_types_are_named_and_checked(gdb: Gdb, tmp_path: Path) -> None:
    good, bad = tmp_path / "kvm", tmp_path / "kvm.ko"
    good.write_bytes(b"\x9f\xeb\x01\x00" + bytes(20))
    bad.write_bytes(b"not a module")
    lines = [f"set nept btf {file}" for file in (good, bad, tmp_path / "none.ko")]
    output = gdb(lines[0], "show nept btf", *lines[1:], "show nept btf", "set nept btf")
    words = " ".join(output.split())
    assert words.count(f"also takes types from: {good}") == 2, "what is refused changes nothing"
    assert f"{bad} is neither a 64-bit ELF file nor BTF" in words
    assert f"no file {tmp_path}/none.ko" in words
    assert "Traceback" not in output
