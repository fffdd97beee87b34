# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-watch in a stock gdb, over the lab's stub, held against what L1 itself logs of its exits.

One machine, parked before the guests start: Ctrl-C first, then the whole of the scenario.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest
from bochs_lab import machine
from bochs_lab.emulator import Emulator
from bochs_lab.options import PARK_POINTS
from bochs_lab.replay import Replay

from gdb_nept.commands.catalogue import all_commands
from gdb_nept.predict.kvm import Feature
from tests.gdb.batch import answers
from tests.gdb.relay import Relay
from tests.kernels import Facts, facts_of_release
from tests.lab.command import lab
from tests.schemas import hold

pytestmark = [pytest.mark.gdb, pytest.mark.bochs]

ROOT = Path(__file__).resolve().parents[2]
SOON = 0.5  # seconds for Ctrl-C
EPT_EXITS = ("0x30", "0x31")
BEFORE_BOCHS_IS_NAMED = 900  # faults: among those after them are walks with EPT's A/D flags
PACKET = "show remote software-breakpoint-packet"
MODE = "maint packet qqemu.PhyMemMode"
WATCHES = ("software", "followed", "first", "one", "two", "mismatch", "rest")
ANY_TIME = "python from gdb_nept.live import stops; stops.QUICK = 60"  # on a machine under load
INTERRUPTIONS = 12
RINGS = 4  # Ctrl-C while gdb tells us that the target runs
PROMPT = "PROMPT> ?$"
BEFORE = (
    "set pagination off",
    "set prompt PROMPT> ",
    f"source {ROOT}/gdb_nept/init.py",
    "set nept memory phymem",  # so that there is a mode to put back
)
EVERY_COMMAND = (
    *("nept-target", "nept-vms", "nept-vmcs12", "nept-ept", "nept-ept --shadow", "nept-ept --l1"),
    *("nept-walk 0x2000000", "nept-predict 0x2002000 --write", "nept-check", "nept-diff"),
    *("nept-diff --json", "nept-decode eptp 0x101e", "nept-walk", "nept-walk --vm 9 0"),
    *("nept-predict --model none 0", "nept-watch --vm 9 --vcpu 0", "nept-watch --json-lines /"),
    *("nept-scan 0x1000", "nept-compare 0x2000000+4K", "nept-export --l2 --output /"),
    *("nept-regs --all", "nept-x 0x2000000", "nept-who 0x6020000", "nept-map"),
)


@dataclass(frozen=True)
class Watched:
    """`of_watch` are the JSON lines of each watch, in order; `told` what L1 logged."""

    of_watch: dict[str, list[dict[str, Any]]]
    told: list[dict[str, Any]]
    screens: dict[str, str]
    relay: Relay
    without_hardware: set[str]  # kinds of breakpoints that gdb asked a stub for that has no Z1
    without_breakpoints: set[str]  # first letters of what a stub without either was asked
    port: int
    seconds_to_prompt: list[float]
    kernel: Facts
    on_bochs: str  # the attached KVM on that processor, as a model

    @property
    def faults(self) -> list[dict[str, Any]]:
        return [fault for faults in self.of_watch.values() for fault in faults]

    @property
    def differs_from_sdm(self) -> bool:
        """Whether KVM makes exits, of accesses that are seen, that the SDM has otherwise."""
        return Feature.MISCONFIG_CLEARED not in self.kernel.features


@pytest.fixture(scope="module")
def watched(
    kernel_line: str, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        try:
            on = ("--bochs", emulator.version, "--cpu", emulator.cpu)
            done = lab("up", "--stub", "--park", "start", "--kernel", kernel_line, *on)
            assert done.returncode == 0, done.stderr
            port = int(done.stdout.split(":")[-1])
            with Relay(("127.0.0.1", port)) as relay:
                yield watch_all(relay, folder, f"kvm@bochs-{emulator.version}")
        finally:
            machine.down()


def watch_all(relay: Relay, folder: Path, on_bochs: str) -> Watched:
    screens: dict[str, str] = {}
    follow = {"followed": "nept-watch --follow --count 60"}
    screens.update(in_gdb(relay, folder, follow))
    seconds = interrupted(relay, folder, screens)
    interruptions = [f"interrupted-{turn}" for turn in range(INTERRUPTIONS)]
    interruptions += [f"rung-{turn}" for turn in range(RINGS)]
    with Relay(relay.target, unknown="Z1,") as poorer:
        screens.update(in_gdb(poorer, folder, {"software": "nept-watch --count 7"}))
        kinds = {each[:3] for each in poorer.packets if each.startswith("Z")}
    with Relay(relay.target, unknown="Z") as poorest:
        screens.update(in_gdb(poorest, folder, {"none": "nept-watch", "packet": PACKET}))
        letters = poorest.kinds
    scenes = {
        "first": f"nept-watch --model {on_bochs} --count {BEFORE_BOCHS_IS_NAMED}",
        "any time": ANY_TIME,
        "mark": "nept-diff --mark",
        "one": "nept-watch --count 1",
        "two": "nept-watch --count 2",
        "diff": "nept-diff --json",
        "diff from mark": "nept-diff --from-mark --json",
        "mismatch": "nept-watch --until-mismatch --model sdm",
        "check": "nept-check --model sdm",
        "rest": "nept-watch",
        **{line: line for line in EVERY_COMMAND},
    }
    screens.update(in_gdb(relay, folder, scenes))
    told = [each for each in machine.ask("facts") if each.get("reason") in EPT_EXITS]
    of_watch: dict[str, list[dict[str, Any]]] = {}
    for name in (*follow, *interruptions, "software", *scenes):
        lines = folder / f"{name}.jsonl"
        found = [json.loads(line) for line in lines.open()] if lines.exists() else []
        for each in found:
            hold("watch", each, "fault")
        of_watch[name] = [each for each in found if each["kind"] != "kept"]
    status = machine.status()
    assert status is not None
    kernel = facts_of_release(str(status["release"]))
    port = relay.target[1]
    return Watched(of_watch, told, screens, relay, kinds, letters, port, seconds, kernel, on_bochs)


def attached(port: int) -> pexpect.spawn[str]:
    """A gdb at its prompt."""
    plain = {**os.environ, "TERM": "dumb"}
    child = pexpect.spawn("gdb", ["-nx", "-q"], timeout=120, encoding="utf-8", env=plain)
    for line in (*BEFORE, f"target remote 127.0.0.1:{port}"):
        child.sendline(line)
    child.expect("0x[0-9a-f]+ in .*PROMPT> ?$")
    return child


def interrupted(relay: Relay, folder: Path, screens: dict[str, str]) -> list[float]:
    """Watches that Ctrl-C ends, each at another moment; the seconds until the prompt is back."""
    child = attached(relay.port)
    child.sendline("nept-vms")
    child.expect(PROMPT)
    seconds, moments = [], random.Random(11)
    for turn in range(INTERRUPTIONS):
        child.sendline(f"nept-watch --json-lines {folder}/interrupted-{turn}.jsonl")
        child.expect("---\r\n")
        time.sleep(moments.uniform(0, 1.5))
        child.kill(signal.SIGINT)
        started = time.monotonic()
        child.expect(PROMPT)
        seconds.append(time.monotonic() - started)
        screens[f"interrupted-{turn}"] = str(child.before)
        child.sendline(MODE)
        child.expect(PROMPT)
        screens[f"mode-{turn}"] = str(child.before)
    child.sendline(f"source {ROOT}/tests/gdb/ring.py")
    child.expect(PROMPT)
    for turn in range(RINGS):
        child.sendline(f"nept-watch --json-lines {folder}/rung-{turn}.jsonl")
        child.expect(PROMPT)
        screens[f"rung-{turn}"] = str(child.before)
    child.sendline("info breakpoints")
    child.expect(PROMPT)
    screens["breakpoints"] = str(child.before)
    child.sendline("disconnect")
    child.sendline("quit")
    child.expect(pexpect.EOF)
    return seconds


def in_gdb(relay: Relay, folder: Path, scenes: dict[str, str]) -> dict[str, str]:
    """What each line shows in one gdb."""
    lines = {**scenes, "left": "info breakpoints", "left mode": MODE}
    logs = {name: f" --json-lines {folder}/{name}.jsonl" for name in WATCHES}
    asked = [line + logs.get(name, "") for name, line in lines.items()]
    target = f"target remote 127.0.0.1:{relay.port}"
    shown = answers([*BEFORE, target], asked, timeout=900, last="disconnect")
    return {name: part.strip("\n") for name, part in zip(lines, shown)}


TOLD = ("exit_reason", "exit_qualification", "guest_physical_address", "guest_linear_address")
LOGGED = ("reason", "qualification", "gpa", "gla")


def fields(found: dict[str, Any], names: tuple[str, ...]) -> list[int]:
    return [int(found[name], 16) for name in names]


def test_every_exit_that_l1_logged_was_watched_once(watched: Watched) -> None:
    assert len(watched.told) > 1400
    # the scenario's own exits come first; the case shown at the park point is made once more
    assert len(watched.faults) >= len(watched.told)
    logged = iter(watched.told)
    cut_off = 0  # by Ctrl-C, while KVM made them: the next watch has the last of them, or none
    for fault in watched.faults[: len(watched.told)]:
        if fault["kind"] == "unread":
            cut_off += 1
            continue
        wanted = next(logged)
        while cut_off > 0 and fields(fault["told"], TOLD) != fields(wanted, LOGGED):
            wanted, cut_off = next(logged), cut_off - 1
        cut_off = 0
        assert fields(fault["told"], TOLD) == fields(wanted, LOGGED), wanted


def test_each_agrees(watched: Watched) -> None:
    unread = [fault["verdict"] for fault in watched.faults if fault["kind"] == "unread"]
    assert all("the watch ended before" in verdict for verdict in unread)
    assert len(unread) <= INTERRUPTIONS + RINGS
    faults = [fault for fault in watched.faults if fault["kind"] == "reflected"]
    on_bochs = [fault for fault in faults if fault["model"] == watched.on_bochs]
    assert len(on_bochs) == BEFORE_BOCHS_IS_NAMED
    assert all(fault["agrees"] for fault in on_bochs)
    # what KVM passes on of the processor's own bits is taken from the exit that was seen, so that
    # model kvm need not know that L0 runs on Bochs
    by_kvm = [fault for fault in faults if fault["model"] == "kvm"]
    assert all(fault["agrees"] for fault in by_kvm)
    by_sdm = [fault for fault in faults if fault["model"] == "sdm"]
    assert len(by_kvm) + len(by_sdm) > 300
    # L0's processor is Bochs, which is not the SDM's either: the first that differs ends the watch
    differing = [one for one in by_sdm if not (one["agrees"] or one["finding"] == "not known")]
    assert len(differing) <= 1


def test_the_first_mismatch_stops_the_watch(watched: Watched) -> None:
    """A KVM is not the SDM's processor: up to 6.9 a misconfiguration has a qualification."""
    screen = watched.screens["mismatch"]
    if not watched.differs_from_sdm:
        return
    assert "stopped at the first that differs" in screen
    assert screen.count("DIFFER") == 1
    first = watched.screens["check"].splitlines()[0]
    assert first.endswith(": differ"), "vmcs12 is as KVM has written it"


def test_nept_diff_compares_with_the_stop_before_the_watch(watched: Watched) -> None:
    """And with a mark.  Which faults these are depends on when Ctrl-C came before: two of them may
    be alike, but not all three."""
    compared = 0
    for diff, before, stops in (("diff", "one", 1), ("diff from mark", "first", 2)):
        found = json.loads(watched.screens[diff])
        hold("diff", found)
        assert found["stops"] == stops
        changed = {each["name"]: (each["before"], each["after"]) for each in found["fields"]}
        old, new = (watched.of_watch[name][-1]["told"] for name in (before, "two"))
        names = {name: "vm_exit_reason" if name == "exit_reason" else name for name in TOLD}
        expected = {names[name]: (old[name], new[name]) for name in TOLD if old[name] != new[name]}
        assert {each: changed[each] for each in names.values() if each in changed} == expected
        compared += len(expected)
    assert compared


def test_faults_that_l0_keeps_are_shown_with_the_reason(watched: Watched) -> None:
    screen = watched.screens["followed"]
    assert "none: L0 alone" in screen
    assert "EPT12 allows it and the shadow had no entry yet: KVM makes one" in screen
    assert "DIFFER" not in screen


def test_ctrl_c_comes_back_at_once_and_leaves_nothing(watched: Watched) -> None:
    assert len(watched.seconds_to_prompt) == INTERRUPTIONS
    assert max(watched.seconds_to_prompt) < SOON
    for turn in range(INTERRUPTIONS):
        assert "; interrupted" in watched.screens[f"interrupted-{turn}"]
        assert 'received: "0"' in watched.screens[f"mode-{turn}"]
    assert "No breakpoints" in watched.screens["breakpoints"]


def test_ctrl_c_while_gdb_tells_that_the_target_runs_leaves_nothing_stale(watched: Watched) -> None:
    """Each exit that was compared all the same agrees, as all do."""
    screens = [watched.screens[f"rung-{turn}"] for turn in range(RINGS)]
    assert all("; interrupted" in screen and "DIFFER" not in screen for screen in screens)
    assert sum("1 fault watched and agrees" in screen for screen in screens) > 0


def test_without_hardware_breakpoints_software_ones_do(watched: Watched) -> None:
    said = watched.screens["software"]
    assert re.search(r"^7 faults watched\b[^;]*; stopped after as many", said, re.MULTILINE)
    assert watched.without_hardware == {"Z1,", "Z0,"}


def test_where_a_breakpoint_would_have_to_be_written_there_is_none(watched: Watched) -> None:
    said = " ".join(watched.screens["none"].split())
    assert "gdb cannot let the target run with our breakpoints" in said
    assert "gdb would have to write to memory, and may not" in said
    assert watched.without_breakpoints & set("MXPGcC") == set()
    assert "auto" in watched.screens["packet"]


def test_the_end_of_the_run_is_told(watched: Watched) -> None:
    stopped = "stopped at the first" in watched.screens["mismatch"]
    last = watched.screens["rest" if stopped else "mismatch"]
    assert "the target stopped by itself at 0x" in last
    assert "No breakpoints" in watched.screens["left"]
    assert 'received: "0"' in watched.screens["left mode"]


def test_every_command_was_used_and_nothing_was_written(watched: Watched) -> None:
    used = {line.split()[0] for line in EVERY_COMMAND}
    assert used == {one.name for one in all_commands()}
    assert re.search(
        r"\n 0 +0 +\d+ +\d+ +0x\w+ +0x\w+ +(L1, VMX on|\* L2 active)", watched.screens["nept-vms"]
    )
    assert "cannot write /" in watched.screens["nept-watch --json-lines /"]
    assert not any("Traceback" in screen for screen in watched.screens.values())
    kinds = watched.relay.kinds
    assert {each[:2] for each in watched.relay.packets if each.startswith("Z")} == {"Z1"}
    assert not kinds & set("MXPGk")
    inserted = [each[1:] for each in watched.relay.packets if each.startswith("Z")]
    removed = [each[1:] for each in watched.relay.packets if each.startswith("z")]
    assert sorted(inserted) == sorted(removed)


@pytest.mark.parametrize("name", WATCHES)
def test_lines_fit_80_columns(watched: Watched, name: str) -> None:
    ours = watched.screens[name].partition("Program received")[0]
    assert max(len(line) for line in ours.splitlines()) <= 80


def test_detach_leaves_the_machine_running(watched: Watched) -> None:
    words = ["gdb", "-nx", "-batch", "-ex", f"target remote 127.0.0.1:{watched.port}"]
    subprocess.run([*words, "-ex", "detach"], capture_output=True, timeout=60, check=True)
    status = machine.status()
    assert status is not None
    assert status["running"]
    assert not status["gdb_attached"]


def test_a_machine_that_dies_ends_the_watch_with_one_line(watched: Watched, replay: Replay) -> None:
    """And gdb goes on with another target."""
    child = attached(watched.port)
    for _ in range(len(PARK_POINTS) + 1):  # at those that are left it stops by itself
        child.sendline("nept-watch")
        child.expect("---\r\n")
        if child.expect([PROMPT, pexpect.TIMEOUT], timeout=15) == 1:
            break  # it runs, and will not park again
    status = machine.status()
    assert status is not None
    os.kill(int(status["bochs_pid"]), signal.SIGKILL)
    child.expect(PROMPT)
    said = " ".join(str(child.before).split())
    assert "the target has ended: lab: Bochs ended (signal 9)" in said
    assert "Attach again: target remote HOST:PORT" in said
    assert "Traceback" not in said
    child.sendline(f"target remote 127.0.0.1:{replay.port}")
    child.expect(PROMPT)
    child.sendline("nept-vms")
    child.expect(PROMPT)
    assert "L2 is active on VM 0, vCPU 0" in str(child.before)
    child.sendline("disconnect")
    child.sendline("quit")
    child.expect(pexpect.EOF)
