# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit statuses of the shell's commands, for scripts, on each kind of input.

doc/usage.md has them as a table; NEPT_WRITE_DOCUMENTS=1 puts that of today into it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bochs_lab import snapshot as lab
from bochs_lab.options import LabOptions

from gdb_nept.__main__ import main
from gdb_nept.address import L2Phys
from gdb_nept.memory import dump as dump_module
from gdb_nept.memory.dump import Dump
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.render.page import Status
from tests.overlay import Filtered, Held, Overlay, opened, tables

pytestmark = pytest.mark.bochs

DOCUMENT = Path(__file__).resolve().parents[2] / "gdb_nept" / "doc" / "usage.md"
MARK = "<!-- tests/commands/test_exit_statuses.py -->\n"
NO_GUESTS = Path(__file__).resolve().parents[1] / "data" / "no-guests"
ASKED = 0x2000000  # L2 physical; mapped by a PTE of 4K
COMMANDS = ("check", "walk", "vms", "who", "x", "regs")
NOT_ASKED = "-"

Opened = Callable[[Path], Held]


@dataclass(frozen=True)
class Kind:
    """A kind of input, and what is asked of it beside the usual; None: that is not asked."""

    title: str
    memory: Opened
    park: str = "l1-exit"
    overlay: Path | None = None
    words: dict[str, str | None] = field(default_factory=dict)
    more: str = ""


def whole(path: Path) -> Held:
    return Overlay(RawMemory(path))


def changed(path: Path) -> Held:
    """EPT12's PTE leads to the page behind the one that KVM shadowed."""
    session, chosen = opened(path.parent)
    walk = session.journey(chosen, L2Phys(ASKED)).ept12
    leaf = walk.steps[-1]
    memory = Overlay(RawMemory(path))
    place = session.l1_memory(chosen).host_physical(leaf.address)
    memory.put(place, leaf.entry.value + PAGE_SIZE, 8)
    return memory


def told_otherwise(path: Path) -> Held:
    """An exit qualification that no access here has."""
    session, chosen = opened(path.parent)
    vmcs12 = session.vmcs12(chosen)
    assert vmcs12.address is not None
    one = vmcs12.field("exit_qualification")
    memory = Overlay(RawMemory(path))
    memory.put(session.kernel.to_physical(vmcs12.address) + one.offset, one.value ^ 0x38, 8)
    return memory


def without_ept12(path: Path) -> Held:
    memory = Filtered(RawMemory(path))
    memory.without = set(tables(*opened(path.parent)))
    return memory


def without_vcpu(path: Path) -> Held:
    session, chosen = opened(path.parent)
    memory = Filtered(RawMemory(path))
    memory.without = {session.kernel.to_physical(chosen.vcpu.address) // PAGE_SIZE}
    return memory


def nothing(path: Path) -> Held:
    memory = Filtered(RawMemory(path))
    memory.without = set(range(path.stat().st_size // PAGE_SIZE))
    return memory


AWAY = {"check": None, "vms": None, "regs": None}
KINDS = (
    Kind("all there, and agreeing", whole),
    Kind("L1 changed EPT12, and KVM's shadow is of before", changed),
    Kind("the exit that L1 was told is not what must be", told_otherwise),
    Kind(
        "an address that L1 maps to nothing; a page of no VM's",
        whole,
        words={**AWAY, "walk": "0x200000000000", "x": "--l2-physical 0x200000000000", "who": "0"},
    ),
    Kind(
        "memory that breaks off (`x/4xg`)",
        whole,
        words={**AWAY, "walk": None, "who": None, "x": "/4xg --l2-physical 0x2011ff0"},
    ),
    Kind("`--limit 1`", whole, more="--limit 1"),
    Kind("EPT12 is left out of the dump (`makedumpfile -d 31`)", without_ept12),
    Kind("the page of the vCPU is left out of the dump", without_vcpu),
    Kind("a VM without an L1 hypervisor (`--vm 1`)", whole, words={"vms": None, "who": None},
         more="--vm 1"),
    Kind("no VM runs", whole, overlay=NO_GUESTS),
    Kind("KVM is not loaded", whole, park="l2", overlay=NO_GUESTS),
    Kind("no Linux is in the dump", nothing, words={"who": "0"}),
    Kind("wrong arguments", whole, more="--nonsense"),
)  # fmt: skip


def memory_of(kind: Kind) -> Path:
    options = LabOptions(park=kind.park, overlay=kind.overlay) if kind.overlay else None
    return lab.ensure(options or LabOptions(park=kind.park)) / "memory.raw"


def usual(path: Path, kind: Kind) -> dict[str, str]:
    host = "0x6020000"
    if kind.overlay is None:
        session, chosen = opened(path.parent)
        found = session.journey(chosen, L2Phys(ASKED)).host_physical
        assert found is not None
        host = hex(found)
    words = dict.fromkeys(COMMANDS, "")
    return {**words, "walk": hex(ASKED), "x": f"--l2-physical {ASKED:#x}", "who": host}


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> Callable[[Kind], dict[str, str]]:
    def of(kind: Kind) -> dict[str, str]:
        path = memory_of(kind)
        made = kind.memory(path)
        monkeypatch.setattr(dump_module, "open_dump", lambda *_: Dump(path, "raw image", made))
        asked: dict[str, str | None] = {**usual(path, kind), **kind.words}
        found = {}
        for command, words in asked.items():
            line = [command, *(words or "").split(), *kind.more.split()]
            status = NOT_ASKED if words is None else str(main(["--dump", str(path), *line]))
            found[command] = status
        return found

    return of


@pytest.mark.parametrize("kind", KINDS, ids=[one.title for one in KINDS])
def test_each_kind_of_input_ends_as_the_document_says(
    statuses: Callable[[Kind], dict[str, str]],
    capsys: pytest.CaptureFixture[str],
    kind: Kind,
) -> None:
    found = statuses(kind)
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    if os.environ.get("NEPT_WRITE_DOCUMENTS"):
        write(kind, found)
    assert documented()[kind.title] == [found[command] for command in COMMANDS]


def test_every_status_is_in_the_table() -> None:
    """But that of Ctrl-C, which no input has."""
    told = {cell for cells in documented().values() for cell in cells} - {NOT_ASKED}
    assert told == {str(one.value) for one in Status if one is not Status.INTERRUPTED}
    assert len(documented()) == len(KINDS)
    head = DOCUMENT.read_text().split("| status | what it means |")[1].split("\n\n")[0]
    assert all(f"| {one.value} | " in head for one in Status)


def documented() -> dict[str, list[str]]:
    table = DOCUMENT.read_text().split(MARK)[1].split("\n\n")[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert not rows or rows[0][1:] == [f"`{one}`" for one in COMMANDS]
    return {cells[0]: cells[1:] for cells in rows[2:]}


def write(kind: Kind, found: dict[str, str]) -> None:
    rows = {**documented(), kind.title: [found[command] for command in COMMANDS]}
    lines = [["input", *(f"`{one}`" for one in COMMANDS)], ["---"] * (len(COMMANDS) + 1)]
    lines += [[one.title, *rows[one.title]] for one in KINDS if one.title in rows]
    made = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    before, _, after = DOCUMENT.read_text().partition(MARK)
    rest = after.split("\n\n", 1)[1]
    DOCUMENT.write_text(f"{before}{MARK}{made}\n{rest}")
