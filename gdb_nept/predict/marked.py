# SPDX-License-Identifier: GPL-2.0-or-later
"""The flags of EPT that the accesses of one instruction set, one after the other.

SDM vol. 3, June 2026 (325384-092), 31.3.5 and 31.3.6: each dirty flag that is set has its page
logged, and the index counted down; so an access that finds the log full may be a later one of the
instruction, and one whose flags an earlier access has set needs no log.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.case import Deviation, Hardware
from gdb_nept.walk.result import Walk

INDEX_MASK = 0xFFFF  # the PML index has 16 bits


@dataclass
class Marked:
    """The places of the entries whose accessed, and whose dirty flag was set, and how many pages
    were logged.  With `always` the index is looked at for every access."""

    always: bool
    accessed: set[int] = field(default_factory=set)
    dirty: set[int] = field(default_factory=set)

    @classmethod
    def under(cls, hardware: Hardware) -> Marked:
        return cls(Deviation.PML_CHECKED_ALWAYS in hardware)

    def controls(self, given: Controls) -> Controls:
        """With the index as it is by now."""
        if not self.dirty or not given.pml:
            return given
        return replace(given, pml_index=(given.pml_index - len(self.dirty)) & INDEX_MASK)

    def mark(self, walk: Walk[L2Phys, L1Phys], access: Access) -> None:
        """After an access that went through."""
        self.accessed.update(step.address for step in walk.steps)
        last = walk.steps[-1]
        if _dirties(access) and not last.entry.dirty:
            self.dirty.add(last.address)

    def has_all(self, walk: Walk[L2Phys, L1Phys], access: Access) -> bool:
        """Whether no flag is left for `access` to set."""
        if self.always or not self.dirty:
            return False
        last = walk.steps[-1]
        dirty = not _dirties(access) or last.entry.dirty or last.address in self.dirty
        return bool(dirty) and all(
            step.entry.accessed or step.address in self.accessed for step in walk.steps
        )


def _dirties(access: Access) -> bool:
    """With accessed and dirty flags on, every access of a page walk is a write (31.3.3.2)."""
    return access.stage is Stage.WALK or access.op in (Op.WRITE, Op.RMW)
