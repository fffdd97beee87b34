# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of the cases with features, on bare Bochs and under KVM, and what is recorded there."""

from __future__ import annotations

import json
import re
import shutil
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from bochs_lab import bare, cache, snapshot
from bochs_lab.emulator import Emulator
from bochs_lab.guests import Guests, guests
from bochs_lab.options import LabOptions, Timeouts
from bochs_lab.progress import Progress, Silent

from gdb_nept.address import L1Phys
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session
from gdb_nept.walk.guest_paging import Cr4
from tests.features.cases import SWITCH, Cases
from tests.features.machine import CR4_LA57, FeatureMachine, still_blocked
from tests.proof.lab import built, fields_of, machine_of, under_kvm
from tests.proof.log import RECORD_FORM, CaseLine, Record, case_lines, record_of
from tests.proof.machine import Memory

HERE = Path(__file__).resolve().parent
PATIENCE = Timeouts(park=3600)
_WARNING = re.compile(rb"WARNING: [\w/.]+:\d+ at \w+\+[\w/]+ \[kvm\w*\]")
_MORE = struct.Struct("<4QQQ4Q5Q")
SIZE = RECORD_FORM.size + _MORE.size
USUAL_NUMBERS = 10  # of a struct log_record, before its `entry`


@dataclass(frozen=True)
class FeatureRecord:
    """struct feature_record.  `written` is an L1 address, or all ones."""

    usual: Record
    path: tuple[int, ...]
    written: int
    pml_index: int
    pml: tuple[int, ...]
    ve: tuple[int, ...]

    @property
    def number(self) -> int:
        return self.usual.number


@dataclass(frozen=True)
class FeatureRun:
    machine: FeatureMachine
    cases: list[CaseLine]
    groups: list[str]
    records: list[FeatureRecord]
    skipped: int


def run(
    scenario: Cases,
    progress: Progress | None = None,
    emulator: Emulator | None = None,
    words: str = "",
) -> FeatureRun:
    """`words` are more of L1's command line: features.c has them."""
    teller = progress or Silent()
    folder = prepared(scenario)
    options = bare.BareOptions(
        folder,
        words=f"quiet=1 {words}".rstrip(),
        image="features.elf",
        emulator=emulator or Emulator(),
        timeouts=PATIENCE,
    )
    taken = bare.ensure(options, teller)
    memory = Memory(((0, (taken / snapshot.MEMORY).read_bytes()),), open_bus=True)
    return _read(taken, folder, scenario, memory, kvm=False)


@dataclass(frozen=True)
class FeatureKvmRun:
    run: FeatureRun
    session: Session
    chosen: Chosen
    warnings: tuple[str, ...]  # in the log of L0's kernel, of kvm.ko and kvm-intel.ko


def run_kvm(
    scenario: Cases, line: str, progress: Progress | None = None, emulator: Emulator | None = None
) -> FeatureKvmRun:
    """Under the KVM of the lab's kernel `line`: L1 skips what that does not offer to it."""
    teller, on = progress or Silent(), emulator or Emulator()
    folder = _with_vmm(prepared(scenario), teller)
    options = LabOptions(
        kernel=line,
        guests=folder.folder,
        append="lab.quiet=1",
        bochs=on.version,
        cpu=on.cpu,
        timeouts=PATIENCE,
    )
    taken = snapshot.ensure(options, teller)
    session, chosen, memory = under_kvm(taken)
    found = _read(taken, folder, scenario, memory, kvm=True)
    log = _WARNING.findall((taken / snapshot.MEMORY).read_bytes())
    return FeatureKvmRun(found, session, chosen, tuple(one.decode() for one in log))


def _with_vmm(features: Guests, progress: Progress) -> Guests:
    """With the VMM, which takes the image by the usual one's name."""
    usual = guests(None, progress)
    key = cache.key_of([usual.key, features.key])

    def make(folder: Path) -> None:
        shutil.copy(usual.folder / "vmm", folder)
        shutil.copy(features.folder / "features.elf", folder / "l1.elf")
        shutil.copy(features.folder / "scenarios.bin", folder)

    return Guests(cache.artifact("features", key, make), key)


def _read(taken: Path, folder: Guests, scenario: Cases, memory: Memory, kvm: bool) -> FeatureRun:
    said = json.loads((taken / "facts.json").read_text())
    start = next(one for one in said if "l1" in one)
    log = next(one["log"] for one in said if "log" in one)
    places = next(one["features"] for one in said if "features" in one)
    assert (log["dropped"], log["record"]) == (0, SIZE), log
    raw = memory.read(L1Phys(int(log["address"], 16)), log["count"] * SIZE)
    records = [_record(raw[at : at + SIZE]) for at in range(0, len(raw), SIZE)]
    lines = case_lines((folder.folder / "scenarios.bin").read_bytes())
    switches = [one.number for one in records if lines[one.number].features & SWITCH]
    sppt, pml5, other_root = (int(places[name], 16) for name in ("sppt", "pml5", "other_root"))
    usual = machine_of(start, fields_of(said), memory, kvm)
    cr4 = Cr4(usual.paging.cr4.value & ~CR4_LA57)
    usual.paging = replace(usual.paging, cr3=int(places["pml4"], 16), cr4=cr4)
    machine = FeatureMachine(
        usual,
        sppt,
        pml5,
        other_root,
        first_switch=min(switches, default=len(lines)),
        still_blocked=frozenset() if kvm else still_blocked(lines[one.number] for one in records),
    )
    groups = [case.group for case in scenario.chosen]
    return FeatureRun(machine, lines, groups, records, len(lines) - len(records))


def _record(raw: bytes) -> FeatureRecord:
    more = _MORE.unpack_from(raw, RECORD_FORM.size)
    usual = record_of(RECORD_FORM.unpack_from(raw))
    return FeatureRecord(usual, more[:4], more[4], more[5], more[6:10], more[10:])


def prepared(scenario: Cases) -> Guests:
    """The image, and the scenario."""
    names = ("Makefile", "features.c", "features.h", "la57.S", "stubs.S")
    return built("features", HERE, [HERE / name for name in names], scenario.pack())
