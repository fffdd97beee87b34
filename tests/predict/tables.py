# SPDX-License-Identifier: GPL-2.0-or-later
"""Small EPTs for predictions: one path from the root to a page, each entry as a test wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import ENTRY_SIZE, Eptp, index
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.model import Model, model
from gdb_nept.predict.outcome import Prediction

READ, WRITE, FETCH = Op.READ, Op.WRITE, Op.FETCH
R, W, X, XU = 1, 2, 4, 1 << 10
RWX = R | W | X
WB, LARGE, A, D = 6 << 3, 1 << 7, 1 << 8, 1 << 9
VGP, PW, SSS, SPP, SVE = 1 << 57, 1 << 58, 1 << 60, 1 << 61, 1 << 63
TABLES = {5: 0x1000, 4: 0x2000, 3: 0x3000, 2: 0x4000, 1: 0x5000}
PAGE = 0x4000_0000  # aligned for every page size
GPA, GLA = 0x6543_2108, 0x7FD2_3456_7108
LINEAR = 0x180  # bits 8:7 of a final access
CAP = EptVpidCap.build(
    execute_only=1,
    walk_length_4=1,
    walk_length_5=1,
    memory_type_wb=1,
    page_2m=1,
    page_1g=1,
    accessed_dirty=1,
    shadow_stack=1,
)
CPU = Capabilities(39, EptVpidCap(CAP))
MBEC = replace(CPU, mbec=True)


def with_cap(cpu: Capabilities = CPU, **numbers: int) -> Capabilities:
    """`cpu` with some fields of EPT_VPID_CAP set or cleared."""
    value = cpu.ept_vpid_cap.value
    for name, number in numbers.items():
        mask = EptVpidCap.build(**{name: 1})
        value = value | mask if number else value & ~mask
    return replace(cpu, ept_vpid_cap=EptVpidCap(value))


@dataclass(frozen=True)
class Path:
    """The entries on the way of GPA: `rights` by level, of tables RWX if not said; the entry at
    `leaf` maps a page.  `extra` bits are put into the entry of that level as they are."""

    leaf: int = 1
    levels: int = 4
    rights: Mapping[int, int] = field(default_factory=dict)
    extra: Mapping[int, int] = field(default_factory=dict)
    ad: bool = False
    sss: bool = False
    gpa: int = GPA

    @property
    def eptp(self) -> Eptp:
        return Eptp(
            Eptp.build(
                memory_type=6,
                walk_length=self.levels - 1,
                accessed_dirty=int(self.ad),
                shadow_stack=int(self.sss),
                address=TABLES[self.levels],
            )
        )

    def entry(self, level: int) -> int:
        value = self.rights.get(level, RWX) | self.extra.get(level, 0)
        if level > self.leaf:
            return value | TABLES[level - 1]
        return value | PAGE | WB | (LARGE if level > 1 else 0)

    @property
    def words(self) -> dict[int, int]:
        return {
            TABLES[level] + index(self.gpa, level) * ENTRY_SIZE: self.entry(level)
            for level in range(self.levels, self.leaf - 1, -1)
        }

    @property
    def memory(self) -> SparseMemory[L1Phys]:
        return SparseMemory(self.words)

    def place(self, level: int) -> int:
        return TABLES[level] + index(self.gpa, level) * ENTRY_SIZE


def to(op: Op = Op.READ, stage: Stage = Stage.FINAL, **more: bool) -> Access:
    return Access(L2Phys(GPA), op, stage=stage, gla=L2Virt(GLA), **more)


def ask(
    path: Path,
    access: Access,
    cpu: Capabilities = CPU,
    by: str | Model = "sdm",
    controls: Controls = Controls(),  # noqa: B008 (frozen)
) -> Prediction[L1Phys]:
    chosen = model(by) if isinstance(by, str) else by
    return chosen.predict(path.memory, path.eptp, access, cpu, controls)
