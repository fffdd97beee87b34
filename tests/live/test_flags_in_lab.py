# SPDX-License-Identifier: GPL-2.0-or-later
"""Accessed and dirty flags of EPT12 and of EPT02 around each fault of L2: who sets which, and when.

EPT02 lies in L0's memory, where L1 cannot look; `record_flags.py` writes it down, with EPT12,
before the processor runs L2, when it has taken a fault, and when KVM has dealt with that.  What
must be in them is from the SDM (325384-092, 31.3.5) and KVM's source (arch/x86/kvm/mmu).

All of the scenario takes four minutes: --whole.  Else it is its beginning, and what follows L1's
first INVEPT after a change of its own, where EPT02 has pages whose flags are clear.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

import pytest
from bochs_lab import machine
from bochs_lab.emulator import Emulator

from tests.gdb.batch import INIT, output
from tests.kernels import Facts, facts_of_release
from tests.lab.command import lab

pytestmark = [pytest.mark.gdb, pytest.mark.bochs]

BEGINNING, AFTER_SYNC = 180, 150  # faults
W, RIGHTS, LARGE, A, D, PAGE = 2, 7, 0x80, 0x100, 0x200, 4096
MMIO = 6  # rights of an entry that is misconfigured on purpose: its other bits mean something else
WRITES = ("write", "rmw")
EPT_EXITS = (48, 49)
SHIFTS = {4: 39, 3: 30, 2: 21, 1: 12}


class Entry(NamedTuple):
    level: int
    start: int  # the first L2 physical address that it is for
    place: int  # L1 physical of EPT12, host physical of EPT02
    value: int

    @property
    def leaf(self) -> bool:
        return self.level == 1 or bool(self.value & LARGE)

    @property
    def used(self) -> bool:
        """By the processor, for a translation."""
        return self.value & RIGHTS not in (0, MMIO)

    @property
    def flags(self) -> int:
        return self.value & (A | D)


class Change(NamedTuple):
    old: int
    new: Entry


class Ept:
    """By level and first address."""

    def __init__(self, lines: dict[str, tuple[int, int]]) -> None:
        self.entries: dict[tuple[int, int], Entry] = {}
        for key, (place, value) in lines.items():
            level, start = key.split(":")
            one = Entry(int(level), int(start, 16), place, value)
            self.entries[one.level, one.start] = one

    def way(self, address: int) -> list[Entry]:
        """The entries that a walk uses, as far as there are any; the one that ends it is last."""
        found = []
        for level, shift in SHIFTS.items():
            one = self.entries.get((level, address >> shift << shift))
            if one is None:
                break
            found.append(one)
            if one.leaf or not one.used:
                break
        return found

    def changed_since(self, before: Ept) -> list[Change]:
        """By place, for KVM links one table under several addresses."""
        old = {one.place: one.value for one in before.entries.values()}
        new = {one.place: one for one in self.entries.values()}
        return [
            Change(old.get(place, 0), one)
            for place, one in new.items()
            if one.value != old.get(place, 0)
        ]


@dataclass(frozen=True)
class Stop:
    at: str
    second: int
    seen: Optional[list[str]]  # op and stage
    flags_on: bool  # EPTP12 bit 6, which KVM puts into EPTP02, too (construct_eptp())
    ept12: Ept
    ept02: Ept

    @property
    def writes(self) -> bool:
        return self.seen is not None and self.seen[0] in WRITES


@dataclass(frozen=True)
class Recorded:
    stops: list[Stop]
    kernel: Facts

    def windows(self, *kinds: str) -> Iterator[tuple[Stop, Stop]]:
        """Each stop with the one before it, of such kinds: "entry fault"."""
        for before, after in zip(self.stops, self.stops[1:]):
            if f"{before.at} {after.at}" in kinds:
                yield before, after

    def of_processor(self) -> Iterator[tuple[Stop, Stop]]:
        return self.windows("entry fault", "entry exit")

    def kept(self) -> Iterator[tuple[Stop, Stop]]:
        """L0 alone has dealt with the fault."""
        return self.windows("fault entry")


@pytest.fixture(scope="module")
def recorded(
    pytestconfig: pytest.Config,
    kernel_line: str,
    emulator: Emulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("flags")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        on = ("--bochs", emulator.version, "--cpu", emulator.cpu)
        try:
            done = lab("up", "--stub", "--park", "start", "--kernel", kernel_line, *on)
            assert done.returncode == 0, done.stderr
            port = int(done.stdout.split(":")[-1])
            status = machine.status()
            assert status is not None
            kernel = facts_of_release(str(status["release"]))
            whole = bool(pytestconfig.getoption("--whole"))
            yield Recorded(list(record(port, folder, whole)), kernel)
        finally:
            machine.down()


def record(port: int, folder: Path, whole: bool) -> Iterator[Stop]:
    asked = [f"'{folder}/0', 1 << 32"]
    if not whole:
        asked = [f"'{folder}/0', {BEGINNING}", f"'{folder}/1', {AFTER_SYNC}, after_sync=True"]
    record = [f"python flags.record({each})" for each in asked]
    loaded = (f"source {INIT}", "python import tests.live.record_flags as flags")
    shown = output([*loaded, f"target remote 127.0.0.1:{port}", *record, "disconnect"], timeout=900)
    assert "Error" not in shown, shown
    for number in range(len(asked)):
        for line in (folder / str(number)).open():
            yield stop_of(line)


def stop_of(line: str) -> Stop:
    found = json.loads(line)
    flags_on = bool(found["eptp"] >> 6 & 1)
    ept12, ept02 = Ept(found["ept12"]), Ept(found["ept02"])
    return Stop(found["at"], found["second"], found["seen"], flags_on, ept12, ept02)


def test_faults_of_all_kinds_were_recorded(recorded: Recorded) -> None:
    kept, told = Counter[bool](), Counter[bool]()
    kept.update(before.flags_on for before, _ in recorded.kept())
    told.update(before.flags_on for before, _ in recorded.windows("fault exit"))
    assert min(kept[True], kept[False], told[True], told[False]) >= 30, (kept, told)


def test_the_processor_sets_flags_of_pages_in_ept02_and_nothing_else(recorded: Recorded) -> None:
    """31.3.5: the accessed flag of each entry used (KVM has set those of tables), the dirty flag of
    the page written; sticky; none where EPTP bit 6 is clear.  EPT12 it does not know."""
    found = Counter[int]()
    for before, after in recorded.of_processor():
        assert not after.ept12.changed_since(before.ept12)
        for old, new in after.ept02.changed_since(before.ept02):
            assert after.flags_on
            assert (new.leaf, new.used) == (True, True)
            assert new.value == old | A | (new.value & D)
            assert new.value & W or not (new.value & ~old & D)
            found[new.value & ~old] += 1
    # 6.1's sync writes each entry anew without a dirty flag, 6.12's where rights have changed
    assert found[A]
    assert found[A | D] or recorded.kernel.since >= (6, 12)


def test_an_access_that_ept02_refuses_leaves_no_flag(recorded: Recorded) -> None:
    clear = Counter[int]()
    for before, after in recorded.windows("entry fault"):
        way = after.ept02.way(after.second)
        assert way == before.ept02.way(after.second)
        if after.flags_on and way and way[-1].leaf and way[-1].used:
            clear[way[-1].flags] += 1
    assert clear[A]
    assert clear[0] or recorded.kernel.since >= (7, 2)  # whose sync leaves pages accessed


def test_a_fault_that_l1_is_told_of_leaves_no_flag(recorded: Recorded) -> None:
    """KVM walks EPT12 to where it refuses: FNAME(walk_addr_generic)() sets flags only after the
    rights of all levels let the access through, and FNAME(fetch)() makes no entry without."""
    reasons = Counter[int]()
    for before, after in recorded.windows("fault exit"):
        assert not after.ept12.changed_since(before.ept12)
        assert not after.ept02.changed_since(before.ept02)
        reasons[after.second & 0xFFFF] += 1
    assert set(reasons) == set(EPT_EXITS)


def test_a_fault_that_l0_keeps_sets_the_flags_of_ept12(recorded: Recorded) -> None:
    """As the processor would (FNAME(update_accessed_dirty_bits)()): accessed on each level, dirty
    in the last entry if the access is a write, which those to L2's tables are, too."""
    for before, after in recorded.kept():
        way = before.ept12.way(before.second)
        wanted = {one.place: one.value | A for one in way}
        wanted[way[-1].place] |= D if before.writes else 0
        changed = {new.place: new.value for _, new in after.ept12.changed_since(before.ept12)}
        if not before.flags_on:
            assert not changed
        elif before.seen is None:  # MMIO that KVM knows of: its emulator walks, by the instruction
            assert all(value & ~D == wanted[place] & ~D for place, value in changed.items())
        else:
            old = {one.place: one.value for one in way}
            assert changed == {at: value for at, value in wanted.items() if value != old[at]}


def test_the_entries_that_kvm_makes_have_flags_of_their_own(recorded: Recorded) -> None:
    """make_nonleaf_spte() and make_spte(): accessed in tables and in the page that was asked for,
    dirty in each page that may be written; pages next to it (FNAME(pte_prefetch)()) are not
    accessed.  With EPTP bit 6 clear, these have their rights put aside instead."""
    tracked = 0
    for before, after in recorded.kept():
        asked = after.ept02.way(before.second)[-1].place
        tables = {one.place // PAGE for one in before.ept02.entries.values()}
        for old, new in after.ept02.changed_since(before.ept02):
            direct, known = not new.leaf or new.place == asked, new.place // PAGE in tables
            if new.value & RIGHTS == MMIO or not (direct or known):
                continue  # a table that is linked anew may have had this entry before
            wanted = (A if direct else 0) | (D if new.leaf and new.value & W else 0)
            if not after.flags_on:
                assert new.used is direct
                tracked += not new.used
                wanted = wanted if new.leaf and recorded.kernel.flags_always else 0
            stays = old & W or not known  # writable, as it was
            not_anew = stays and not recorded.kernel.dirty_anew
            put_aside = recorded.kernel.flags_always and not new.used
            assert not (new.flags ^ wanted) & ~(D if not_anew or put_aside else 0)
    assert tracked


def test_the_retry_sets_what_is_missing(recorded: Recorded) -> None:
    """L2 goes on from a fault that L0 kept, and uses the entry that KVM has made for it."""
    used = Counter[bool]()
    for number in range(2, len(recorded.stops)):
        fault, entry, after = recorded.stops[number - 2 : number + 1]
        if (fault.at, entry.at) != ("fault", "entry") or not after.flags_on:
            continue
        made, left = entry.ept02.way(fault.second)[-1], after.ept02.way(fault.second)[-1]
        if made.used:
            writes = bool(fault.writes and made.value & W)
            assert left.flags | (0 if writes else D) == A | D
            used[writes] += 1
    assert min(used[True], used[False]) > 0


def test_ept02_is_never_ahead_of_ept12(recorded: Recorded) -> None:
    """A page that L2 may use without an exit has its accessed flags in EPT12 already, one that it
    may write, its dirty flag (FNAME(protect_clean_gpte)(), FNAME(prefetch_invalid_gpte)())."""
    writable = 0
    for stop in recorded.stops:
        for one in stop.ept02.entries.values():
            if not stop.flags_on:
                by_software = recorded.kernel.flags_always and one.leaf
                assert by_software or one.value & RIGHTS == MMIO or not one.flags
            elif one.leaf and one.used:
                way = stop.ept12.way(one.start)
                assert all(above.value & A for above in way)
                assert way[-1].value & D or not one.value & W
                writable += bool(one.value & W)
    assert writable
