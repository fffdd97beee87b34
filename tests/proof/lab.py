# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of a generated scenario: on bare Bochs, and under the KVM of a Debian kernel in Bochs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bochs_lab import bare, cache, kernels, snapshot
from bochs_lab.emulator import Emulator
from bochs_lab.errors import LabError
from bochs_lab.guests import Guests, compiler, guests
from bochs_lab.options import LabOptions, Timeouts
from bochs_lab.progress import Progress, Silent

from gdb_nept.address import HostPhys, L1Phys
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.guest import GuestMemory
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session
from gdb_nept.target.linux import attach
from gdb_nept.walk.guest_paging import Cr0, Cr4, Efer, GuestPaging
from tests.guests import generate
from tests.guests.scenarios import PAGE
from tests.proof.log import RECORD_SIZE, CaseLine, Record, case_lines, records
from tests.proof.machine import Machine, Memory

# VMCS fields, by their encodings
EPTP, CR0, CR3, CR4, EFER = 0x201A, 0x6800, 0x6802, 0x6804, 0x2806
TESTS = Path(__file__).resolve().parents[1]
PATIENCE = Timeouts(park=3600)
USUAL = Emulator()


@dataclass(frozen=True)
class Run:
    """All cases of a run with what L1 saw of them.  `groups` has the group of each case."""

    machine: Machine
    cases: list[CaseLine]
    groups: list[str]
    records: list[Record]


def run_bare(
    scenario: generate.Generated, progress: Progress | None = None, emulator: Emulator = USUAL
) -> Run:
    teller = progress or Silent()
    folder, groups = _prepared(scenario, teller)
    taken = bare.ensure(bare.BareOptions(folder, emulator=emulator, timeouts=PATIENCE), teller)
    memory = Memory(((0, (taken / snapshot.MEMORY).read_bytes()),), open_bus=True)
    return _run(taken, folder, groups, memory, kvm=False)


@dataclass(frozen=True)
class KvmRun:
    run: Run
    session: Session
    chosen: Chosen


def run_kvm(
    count: int | None,
    progress: Progress | None = None,
    line: str = kernels.DEFAULT,
    emulator: Emulator = USUAL,
) -> KvmRun:
    """Under the KVM of the lab's kernel `line`."""
    teller = progress or Silent()
    folder, groups = _prepared(generate.build(count), teller)
    options = LabOptions(
        kernel=line,
        guests=folder.folder,
        append="lab.quiet=1",
        bochs=emulator.version,
        cpu=emulator.cpu,
        timeouts=PATIENCE,
    )
    taken = snapshot.ensure(options, teller)
    session, chosen, memory = under_kvm(taken)
    return KvmRun(_run(taken, folder, groups, memory, kvm=True), session, chosen)


def under_kvm(taken: Path) -> tuple[Session, Chosen, Memory]:
    """A snapshot with L2 active, and L1's memory in it."""
    host: RawMemory[HostPhys] = RawMemory(taken / snapshot.MEMORY)
    session = Session(attach(host, ram=host.size))
    chosen = session.pick(None, None)
    return session, chosen, copy_of(session.l1_memory(chosen))


def built(name: str, here: Path, sources: Sequence[Path], packed: bytes) -> Guests:
    """An L1 of the tests, made in `here` of `sources` and of what the usual one is made of, with
    the cases that it is to run; raises LabError."""
    usual = (TESTS / "guests").iterdir()
    used = [*sources, *(path for path in usual if path.suffix in (".c", ".h", ".S", ".lds"))]
    key = cache.key_of([cache.files_key(used, TESTS), compiler(), packed])

    def make(folder: Path) -> None:
        command = ["make", "-s", "-C", str(here), f"O={folder}"]
        quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"the L1 of the {name} does not build:\n{done.stderr.strip()}")
        (folder / "scenarios.bin").write_bytes(packed)

    return Guests(cache.artifact(name, key, make), key)


def _prepared(scenario: generate.Generated, progress: Progress) -> tuple[Guests, list[str]]:
    """The built guests with a generated scenario in place of their own."""
    packed, built = scenario.pack(), guests(None, progress)
    key = cache.key_of([built.key, packed])

    def build(folder: Path) -> None:
        for path in built.files():
            shutil.copy(path, folder)
        (folder / "scenarios.bin").write_bytes(packed)

    folder = cache.artifact("generated", key, build)
    return Guests(folder, key), [case.group for case in scenario.chosen]


def copy_of(memory: GuestMemory) -> Memory:
    """All of L1's memory; a page that the host has not given out yet is zeros."""
    pieces = []
    for span in memory.spans:
        pages = range(span.start, span.start + span.size, PAGE)
        pieces.append((int(span.start), b"".join(_page(memory, page) for page in pages)))
    return Memory(tuple(pieces), open_bus=False)


def _page(memory: GuestMemory, address: int) -> bytes:
    try:
        return memory.read(L1Phys(address), PAGE)
    except MemoryUnreadable:
        return bytes(PAGE)


def _run(taken: Path, folder: Guests, groups: list[str], memory: Memory, kvm: bool) -> Run:
    said = json.loads((taken / "facts.json").read_text())
    start = next(one for one in said if "l1" in one)
    log: dict[str, Any] = next(one["log"] for one in said if "log" in one)
    assert (log["dropped"], log["record"]) == (0, RECORD_SIZE), log
    place, size = int(log["address"], 16), log["count"] * RECORD_SIZE
    machine = machine_of(start, fields_of(said), memory, kvm)
    cases = case_lines((folder.folder / "scenarios.bin").read_bytes())
    return Run(machine, cases, groups, records(memory.read(L1Phys(place), size)))


def fields_of(said: list[dict[str, Any]]) -> dict[int, int]:
    """L1's last VMREADs."""
    vmcs = [one["vmcs"] for one in said if "vmcs" in one][-1]
    return {int(encoding, 16): int(text, 16) for encoding, text in vmcs.items()}


def machine_of(start: dict[str, Any], fields: dict[int, int], memory: Memory, kvm: bool) -> Machine:
    """From L1's first line and its last VMREADs."""
    width = start["maxphyaddr"]
    paging = GuestPaging(Cr0(fields[CR0]), fields[CR3], Cr4(fields[CR4]), Efer(fields[EFER]), width)
    cpu = Capabilities(width, EptVpidCap(int(start["ept_vpid_cap"], 16)))
    return Machine(memory, fields[EPTP], paging, cpu, kvm)
