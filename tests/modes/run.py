# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of the cases of the paging modes, on bare Bochs and under a KVM, and what was recorded."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bochs_lab import bare, cache, kernels, snapshot
from bochs_lab.emulator import Emulator
from bochs_lab.guests import Guests, guests
from bochs_lab.options import LabOptions, Timeouts
from bochs_lab.progress import Progress, Silent

from gdb_nept.address import L1Phys
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session
from tests.modes.machine import ModesMachine
from tests.modes.scenario import Scenario
from tests.proof.lab import built, under_kvm
from tests.proof.log import Record
from tests.proof.machine import Memory

HERE = Path(__file__).resolve().parent
PATIENCE = Timeouts(park=3600)
RECORD = struct.Struct("<IBBH5Q5Q")


@dataclass(frozen=True)
class ModesRecord:
    """struct modes_record.  `written` is an L1 address, or 0."""

    usual: Record
    written: int
    entries: tuple[int, ...]

    @property
    def number(self) -> int:
        return self.usual.number


@dataclass(frozen=True)
class ModesRun:
    machine: ModesMachine
    records: list[ModesRecord]
    skipped: int


def run(
    scenario: Scenario,
    progress: Progress | None = None,
    emulator: Emulator | None = None,
    words: str = "",
) -> ModesRun:
    """`words` are more of L1's command line: modes.c has them."""
    folder = prepared(scenario)
    options = bare.BareOptions(
        folder,
        words=f"quiet=1 {words}".rstrip(),
        image="modes.elf",
        emulator=emulator or Emulator(),
        timeouts=PATIENCE,
    )
    taken = bare.ensure(options, progress or Silent())
    memory = Memory(((0, (taken / snapshot.MEMORY).read_bytes()),), open_bus=True)
    return read_run(scenario, json.loads((taken / "facts.json").read_text()), memory)


@dataclass(frozen=True)
class ModesKvmRun:
    run: ModesRun
    session: Session
    chosen: Chosen


def run_under_kvm(
    scenario: Scenario,
    progress: Progress | None = None,
    line: str = kernels.DEFAULT,
    emulator: Emulator | None = None,
) -> ModesKvmRun:
    """Under the KVM of the lab's kernel `line`, with L1 in the place of the lab's own."""
    teller, bochs = progress or Silent(), emulator or Emulator()
    options = LabOptions(
        kernel=line,
        guests=_in_place_of_l1(scenario, teller),
        append="lab.quiet=1",
        park="l1-exit",
        bochs=bochs.version,
        cpu=bochs.cpu,
        timeouts=PATIENCE,
    )
    taken = snapshot.ensure(options, teller)
    session, chosen, memory = under_kvm(taken)
    found = read_run(scenario, json.loads((taken / "facts.json").read_text()), memory)
    return ModesKvmRun(found, session, chosen)


def _in_place_of_l1(scenario: Scenario, progress: Progress) -> Path:
    """The lab's guests with our L1 and our cases."""
    usual, ours = guests(None, progress), prepared(scenario)
    key = cache.key_of([usual.key, ours.key])

    def build(folder: Path) -> None:
        for path in usual.files():
            shutil.copy(path, folder)
        shutil.copy(ours.folder / "modes.elf", folder / "l1.elf")
        shutil.copy(ours.folder / "scenarios.bin", folder)

    return cache.artifact("modes-under-kvm", key, build)


def read_run(scenario: Scenario, said: list[dict[str, Any]], memory: Memory) -> ModesRun:
    """From what L1 said, and its memory at the end."""
    start = next(one for one in said if "l1" in one)
    log = next(one["log"] for one in said if "log" in one)
    assert (log["dropped"], log["record"]) == (0, RECORD.size), log
    raw = memory.read(L1Phys(int(log["address"], 16)), log["count"] * RECORD.size)
    records = [_record(line) for line in RECORD.iter_unpack(raw)]
    cpu = Capabilities(start["maxphyaddr"], EptVpidCap(int(start["ept_vpid_cap"], 16)))
    machine = ModesMachine(scenario, memory, cpu)
    return ModesRun(machine, records, len(scenario.chosen) - len(records))


def _record(line: tuple[int, ...]) -> ModesRecord:
    number, outcome, _, reason, qualification, gpa, gla, value, written, *entries = line
    usual = Record(number, outcome, reason, qualification, gpa, gla, value, ())
    return ModesRecord(usual, written, tuple(entries))


def prepared(scenario: Scenario) -> Guests:
    """The image, and the cases."""
    sources = [HERE / name for name in ("Makefile", "modes.c", "modes.h", "stubs.S")]
    sources += [HERE.parent / "features" / "la57.S"]
    return built("modes", HERE, sources, scenario.pack())
