# SPDX-License-Identifier: GPL-2.0-or-later
"""Our commands in a real gdb, over QEMU's stub, on a real L0 with L2 active.

What gdb shows must be what the command line shows on the same memory as a dump.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
from bochs_lab.replay import Replay

from gdb_nept.address import HostPhys
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.session import Session
from gdb_nept.target.dwarf import ANCHORS
from gdb_nept.target.linux import attach
from tests.conftest import facts
from tests.gdb.batch import answers
from tests.gdb.relay import Relay

pytestmark = [pytest.mark.gdb, pytest.mark.qemu, pytest.mark.bochs]

Gdb = Callable[..., str]
BY_MODE = "set nept memory phymem"
LINES = (
    "vms",
    "vmcs12",
    "vmcs12 ept_pointer guest_cr 0x4402",
    "ept",
    "ept --shadow",
    "ept --l1",
    "ept --entries 0x2000000+64K",
    "walk 0x2000123",
    "walk 0x2012000",
    "walk 0",
    "walk --vm 1 0",
    "vmcs12 --vm 7",
    "vms --json",
    "ept --json",
)


def in_gdb(
    replay: Replay, lines: tuple[str, ...], *before: str, failing: dict[int, int] | None = None
) -> tuple[list[str], Relay]:
    """The output of each line in one gdb, and what it asked the stub."""
    with Relay(("127.0.0.1", replay.port), failing=failing) as relay:
        return answers([*before, f"target remote 127.0.0.1:{relay.port}"], lines), relay


def on_dump(snapshot: Path, line: str) -> str:
    words = [sys.executable, "-m", "gdb_nept", "--dump", str(snapshot / "memory.raw")]
    done = subprocess.run([*words, *line.split()], capture_output=True, text=True, check=False)
    said = done.stderr.replace("gdb_nept: ", "")  # which names commands as the shell has them
    return done.stdout + re.sub(r"\bnept (?=[a-z])", "nept-", said)


#: How memory may be read here, and what nept-target says of it.
WAYS = {
    "auto": r"memory:   process memory of qemu-system-x86 \(process \d+\), 512 MiB",
    "phymem": "memory:   QEMU's physical memory mode, 512 MiB",
}


@pytest.fixture(scope="module", params=list(WAYS))
def shown(request: pytest.FixtureRequest, replay: Replay) -> dict[str, str]:
    lines = tuple(f"nept-{line}" for line in LINES)
    mode = "maint packet qqemu.PhyMemMode"
    force = f"set nept memory {request.param}"
    outputs, relay = in_gdb(replay, (*lines, mode, "nept-target"), force)
    found = dict(zip((*LINES, "mode", "target"), outputs))
    switches = sum(packet == "Qqemu.PhyMemMode:1" for packet in relay.packets)
    kinds = "".join(sorted(relay.kinds))
    return {**found, "kinds": kinds, "switches": str(switches), "way": str(request.param)}


@pytest.mark.parametrize("line", LINES)
def test_gdb_shows_what_the_dump_shows(
    shown: dict[str, str], plain_snapshot: Path, line: str
) -> None:
    assert shown[line] == on_dump(plain_snapshot, line)


@pytest.mark.parametrize("line", [line for line in LINES if "--json" not in line])
def test_lines_fit_100_columns(shown: dict[str, str], line: str) -> None:
    """Of text: JSON has an item of a list on a line, however long."""
    assert max(len(each) for each in shown[line].splitlines()) <= 100


def test_nothing_is_written_or_continued(shown: dict[str, str]) -> None:
    assert 'received: "0"' in shown["mode"]
    assert not set(shown["kinds"]) & set("MXPGcCsSk")


def test_the_mode_is_switched_to_prove_the_process_and_never_again(shown: dict[str, str]) -> None:
    """For each QEMU process that could be the one, where another test runs one: some few; in the
    mode, once a command or more."""
    switches = int(shown["switches"])
    assert 1 <= switches <= 4 if shown["way"] == "auto" else switches >= len(LINES)


def test_target_tells_where_everything_came_from(shown: dict[str, str]) -> None:
    output = shown["target"]
    assert re.search(WAYS[shown["way"]], output)
    assert "kallsyms" in output
    assert "BTF" in output
    assert "kvm_intel at 0x" in output
    assert "missing" not in output


def test_a_stub_that_answers_errors_for_a_while(replay: Replay, plain_snapshot: Path) -> None:
    """Of the page of a struct kvm: who needs it says so, and the next command is right again."""
    raw: RawMemory[HostPhys] = RawMemory(plain_snapshot / "memory.raw")
    session = Session(attach(raw, raw.size))
    page = session.kernel.to_physical(session.pick(None, None).owner.address) & ~0xFFF
    works = [on_dump(plain_snapshot, line) for line in ("vms", "walk 0x2000123")]
    lines = ("nept-vms", "nept-walk 0x2000123") * 3
    outputs, relay = in_gdb(replay, lines, BY_MODE, failing={page: 3})
    assert relay.failing == {page: 0}
    assert outputs[-2:] == works
    told = [output for output in outputs if output not in works]
    assert told
    for output in told:
        assert re.search(rf"cannot read \d+ bytes at {page:#x}", " ".join(output.split()))
        assert "Traceback" not in output


def test_functions_in_expressions(replay: Replay) -> None:
    """Held against the commands; a number that fills 64 bits stays one."""
    lines = (
        'printf "%#lx\\n", $nept_vmcs12("vmcs_link_pointer")',
        'printf "%#lx\\n", $nept_l2_reg("rax") >> 32',
        'printf "%#lx\\n", $nept_l2p(0x2000123)',
        'printf "%#lx\\n", $nept_l1(0x1020123)',
        "print $nept_l2p(0x1000)",
        'print $nept_l2_reg("ripp")',
        "print $nept_l2v()",
        "nept-walk 0x2000123",
        "help function nept_l2v",
    )
    link, rax, l2, l1, hole, near, none, walk, manual = in_gdb(replay, lines)[0]
    assert link.strip() == "0xffffffffffffffff"
    assert rax.strip() == "0x4e455054"
    assert l2 == l1
    assert f"-> host {l2.strip()} " in walk
    assert "EPT12 does not translate it" in " ".join(hole.split())
    assert "Did you mean rip?" in near
    assert "takes one" in none
    assert "$nept_l2v(ADDRESS)" in manual


def test_registers_of_the_processor_are_not_taken_for_l2s(replay: Replay) -> None:
    """L0 stands in an exit to the VMM; the replay's own processor has never run."""
    lines = ("nept-predict $rsp --linear", "set $a = 0x2000", "nept-predict $a --linear")
    refused, _, walked = (" ".join(each.split()) for each in in_gdb(replay, lines)[0])
    assert "$rsp: not of L2, but of the processor" in refused
    assert "L2's own rsp: 0x" in refused
    assert "because:" not in refused
    assert "of 1 byte at linear 0x2000" in walked
    assert "because:" in walked


def test_every_page_of_l2_is_where_l1_put_it(replay: Replay, plain_snapshot: Path) -> None:
    pages = facts(plain_snapshot, "page")
    assert pages
    lines = tuple(f"nept-walk {page['l2gpa']} --json" for page in pages)
    outputs, _ = in_gdb(replay, lines)
    for page, output in zip(pages, outputs):
        journey: dict[str, Any] = json.loads(output)
        if journey["ept12"]["address"] is not None:
            assert int(journey["ept12"]["address"], 16) == int(page["l1gpa"], 16)


# -- a vmlinux with debug info ---------------------------------------------------------------------

SOURCE = """
struct list_head { struct list_head *next, *prev; };
struct rb_node { unsigned long __rb_parent_color; struct rb_node *rb_right, *rb_left; };
__attribute__((section(".init_task"))) struct list_head init_task = { &init_task, 0 };
struct rb_node *node;
int main(void) { return 0; }
"""


def vmlinux(folder: Path, snapshot: Path, moved: dict[str, int]) -> Path:
    """An ELF file with debug info of a few types, and the symbols of the snapshot's kernel where
    a vmlinux has them, `moved` by what a test wants."""
    memory: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
    symbols = attach(memory, memory.size).symbols
    places = {name: symbols.address(name) + moved.get(name, moved[""]) for name in ANCHORS}
    task = places.pop("init_task")
    source, target = folder / "vmlinux.c", folder / "vmlinux"
    source.write_text(SOURCE)
    words = ["gcc", "-g", "-no-pie", "-static", "-nostdlib", "-mcmodel=large", "-o", str(target)]
    words += ["-Wl,-emain", f"-Wl,--section-start=.init_task={task:#x}"]
    words += [f"-Wl,--defsym={name}={place:#x}" for name, place in places.items()]
    subprocess.run([*words, str(source)], check=True)
    return target


@pytest.mark.parametrize("offset", [0, -0x8000000])
def test_dwarf_of_the_same_build_is_used(
    replay: Replay, plain_snapshot: Path, tmp_path: Path, offset: int
) -> None:
    file = vmlinux(tmp_path, plain_snapshot, {"": offset})
    (target, vms), _ = in_gdb(replay, ("nept-target", "nept-vms"), f"file {file}")
    words = " ".join(target.split())
    assert f"DWARF of {file}" in words
    assert ("KASLR: moved by 0x8000000" in words) == bool(offset)
    assert vms == on_dump(plain_snapshot, "vms")


def test_dwarf_of_another_build_is_refused(
    replay: Replay, plain_snapshot: Path, tmp_path: Path
) -> None:
    file = vmlinux(tmp_path, plain_snapshot, {"": 0, "init_uts_ns": 0x40})
    (target, vms), _ = in_gdb(replay, ("nept-target", "nept-vms"), f"file {file}")
    assert "it is not the vmlinux of the running kernel" in " ".join(target.split())
    assert "types:    BTF" in target
    assert vms == on_dump(plain_snapshot, "vms")
