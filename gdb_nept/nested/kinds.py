# SPDX-License-Identifier: GPL-2.0-or-later
"""What an entry of an EPT is, told once for all entries that differ in their address alone."""

from __future__ import annotations

from typing import NamedTuple

from gdb_nept.address import L1Phys
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import ADDRESS, LEVEL_NAMES, EptEntry, page_size
from gdb_nept.kvm.spte import SpteKind, decode_spte
from gdb_nept.kvm.spte_format import SpteFormat
from gdb_nept.walk.ept import judge

LARGE = EptEntry.large.mask
MOST = 4096


class Kind(NamedTuple):
    """`leads`: to a page; `table`: to a table.  `mark` is all that a verdict may hang on beside the
    address.  Of an MMIO entry of KVM's also what it remembers."""

    mark: tuple[int, int, str]
    leads: bool
    table: bool
    write: bool = False
    mmio: tuple[L1Phys, int] | None = None  # for which page, and the memslots' generation then


class Kinds:
    """Of the entries that `cpu` reads; with `form` they are KVM's own."""

    def __init__(self, cpu: Capabilities, form: SpteFormat | None = None) -> None:
        self._cpu = cpu
        self._form = form
        self._known: dict[int, dict[int, Kind]] = {level: {} for level in LEVEL_NAMES}
        within = ADDRESS & ((1 << cpu.maxphyaddr) - 1)
        self._free = {level: within & -page_size(level) for level in LEVEL_NAMES}

    def __call__(self, word: int, level: int) -> Kind:
        large = level > 1 and word & LARGE
        known, same = self._known[level], word & ~self._free[level if large else 1]
        found = known.get(same)
        if found is None:
            found = self._told(word, level, same)
            if found.mmio is None and found.leads | found.table | (word == same):
                if len(known) >= MOST:
                    known.clear()
                known[same] = found
        return found

    def _told(self, word: int, level: int, same: int) -> Kind:
        stop = judge(EptEntry(word), level, self._cpu)
        leaf = EptEntry(word).leaf_at(level)
        cause = stop.cause.value if stop else ""
        write = bool(word & EptEntry.write.mask)
        if self._form is None:
            return Kind(
                (same, level, cause), stop is None and leaf, stop is None and not leaf, write
            )
        spte = decode_spte(word, level, self._form)
        mark = (same, level, f"{cause} {spte.kind.value}")
        if spte.mmio is not None:
            told = spte.mmio.address, spte.mmio.generation
            return Kind((0, level, mark[2]), False, False, mmio=told)
        tracked = spte.kind is SpteKind.ACCESS_TRACKED and spte.address is not None
        leads = (stop is None and leaf) or tracked
        return Kind(mark, leads, stop is None and not leaf, write)
