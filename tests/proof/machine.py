# SPDX-License-Identifier: GPL-2.0-or-later
"""L1 as it was during a case: its memory at the end of the run, with the case's patches in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gdb_nept.address import L1Phys, L2Virt
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp, index
from gdb_nept.errors import NoMemory
from gdb_nept.predict.access import Controls, Op
from gdb_nept.predict.linear import LinearAccess, LinearPrediction, predict_linear
from gdb_nept.predict.model import Model
from gdb_nept.walk.guest_paging import GuestPaging
from tests.guests.generate import OFFSETS, SIGNED
from tests.guests.scenarios import (
    AD,
    CROSS_CODE,
    FETCH,
    INS,
    OUTS,
    PAGE,
    PATCH_EPT,
    PATCH_GUEST,
    PATCH_WALK,
    PTE,
    READ,
    RMW,
    USER,
    WRITE,
)
from tests.proof.log import CaseLine, PatchLine

ADDRESS = ((1 << 40) - 1) & ~(PAGE - 1)  # of an entry of the landscape
OPS = {
    READ: Op.READ,
    WRITE: Op.WRITE,
    RMW: Op.RMW,
    FETCH: Op.FETCH,
    OUTS: Op.READ,
    INS: Op.WRITE,
}
SIZES = {READ: 8, WRITE: 8, RMW: 8, FETCH: 1, OUTS: 1, INS: 1}
SIGNATURE = 0x4E45_5054 << 32  # page.c page_signature()
CROSSING_CODE = 10  # bytes of the instruction over the end of a page
EPTP_AD = 1 << 6
NO_CONTROLS = Controls()


@dataclass(frozen=True)
class Memory:
    """Pieces of RAM.  Elsewhere reads are refused, or, on a bare machine, give ones."""

    pieces: tuple[tuple[int, bytes], ...]
    open_bus: bool

    def read(self, address: L1Phys, size: int) -> bytes:
        for start, data in self.pieces:
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        if self.open_bus:
            return b"\xff" * size
        raise NoMemory(address, size, "L1 has no memory there")

    def word(self, address: int) -> int:
        return int.from_bytes(self.read(L1Phys(address), 8), "little")


@dataclass
class Patched:
    """Memory with some 64-bit words replaced."""

    memory: Memory
    words: dict[int, bytes]

    def read(self, address: L1Phys, size: int) -> bytes:
        if address in self.words and size == 8:
            return self.words[address]
        return self.memory.read(address, size)


@dataclass
class Machine:
    """What a prediction is made from, but for the case."""

    memory: Memory
    eptp: int
    paging: GuestPaging
    cpu: Capabilities
    kvm: bool
    places: dict[tuple[int, ...], int] = field(default_factory=dict)

    def eptp_of(self, case: CaseLine) -> Eptp:
        return Eptp(self.eptp & ~EPTP_AD | (EPTP_AD if case.flags & AD else 0))

    def during(self, case: CaseLine) -> Patched:
        """As cases.c apply_patches(): all entries are found before the first is changed."""
        words: dict[int, bytes] = {}
        for place, patch in [(self.place(case, patch), patch) for patch in case.patches]:
            beyond = 1 << self.cpu.maxphyaddr if patch.beyond else 0
            before = int.from_bytes(words.get(place, b""), "little") or self.memory.word(place)
            value = before & patch.keep | patch.set | beyond
            words[place] = value.to_bytes(8, "little")
        return Patched(self.memory, words)

    def predict(self, case: CaseLine, model: Model) -> LinearPrediction:
        """Reads the case and L1's tables, never the log."""
        crosses = case.op == FETCH and case.linear % PAGE == CROSS_CODE
        emulated = self.kvm and case.op in (OUTS, INS)
        access = LinearAccess(
            L2Virt(case.linear),
            CROSSING_CODE if crosses else SIZES[case.op],
            OPS[case.op],
            bool(case.flags & USER),
            emulated,
        )
        eptp, memory = self.eptp_of(case), self.during(case)
        return predict_linear(memory, eptp, access, self.paging, self.cpu, NO_CONTROLS, model)

    def value_read(self, case: CaseLine, found: LinearPrediction) -> int | None:
        """What L2 must find where the access goes: the signature of the page, or its half as code.
        None where it finds none: it writes, goes over the end of a page, or to a page of L1's."""
        prediction = found.prediction
        if prediction is None or prediction.hpa is None or found.linear != case.linear:
            return None
        page = prediction.hpa & ADDRESS
        if page not in SIGNED or prediction.hpa - page != OFFSETS[case.op]:
            return None
        if case.op in (READ, RMW):
            return SIGNATURE | page // PAGE
        return page // PAGE if case.op == FETCH else None

    # -- where a patch goes: cases.c patched_entry() --------------------------------------------

    def place(self, case: CaseLine, patch: PatchLine) -> int:
        key = (case.linear, patch.space, patch.level, patch.walk)
        found = self.places.get(key)
        if found is None:
            found = self.places[key] = self._place(case.linear, patch)
        return found

    def _place(self, linear: int, patch: PatchLine) -> int:
        if patch.space == PATCH_EPT:
            return self.ept_entry(self.guest_address(linear), patch.level)
        if patch.space == PATCH_WALK:
            return self.ept_entry(self.guest_entry(linear, patch.walk), patch.level)
        if patch.space == PATCH_GUEST:
            return self.translate(self.guest_entry(linear, patch.level))
        return self.ept_entry(self.guest_address(linear + PAGE), patch.level)

    def ept_entry(self, gpa: int, level: int) -> int:
        """The L1 address of the EPT12 entry of `level` for `gpa`."""
        table = self.eptp & ADDRESS
        for above in range(4, level, -1):
            table = self.memory.word(table + 8 * index(gpa, above)) & ADDRESS
        return table + 8 * index(gpa, level)

    def translate(self, gpa: int) -> int:
        """Of L2's tables, which the landscape maps by 4-KiB pages."""
        return self.memory.word(self.ept_entry(gpa, PTE)) & ADDRESS | gpa % PAGE

    def guest_entry(self, linear: int, level: int) -> int:
        """The L2 physical address of L2's own entry of `level`."""
        table = self.paging.cr3 & ADDRESS
        for above in range(4, level, -1):
            entry = self.translate(table + 8 * index(linear, above))
            table = self.memory.word(entry) & ADDRESS
        return table + 8 * index(linear, level)

    def guest_address(self, linear: int) -> int:
        """Of a page that a PTE of L2's maps."""
        entry = self.translate(self.guest_entry(linear, PTE))
        return self.memory.word(entry) & ADDRESS | linear % PAGE
