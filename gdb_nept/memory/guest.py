# SPDX-License-Identifier: GPL-2.0-or-later
"""L1's physical memory, as the slots that its virtual machine monitor gave it.

A slot maps a stretch of L1 physical addresses to addresses of a host process; that process's page
tables lead to the host's memory.  Who knows those page tables is given as a function, so that this
file knows no Linux.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable

from gdb_nept.address import HostPhys, HostVirt, L1Phys
from gdb_nept.errors import NoMemory
from gdb_nept.memory.reader import PhysicalMemory, grain_of, page_by_page


@dataclass(frozen=True)
class Span:
    """`size` bytes of L1 physical memory at `start` that lie at `host` in the host process.
    `why_not` says why nothing is found there all the same; '' otherwise."""

    start: L1Phys
    size: int
    host: HostVirt
    why_not: str = ""

    def __contains__(self, address: int) -> bool:
        return self.start <= address < self.start + self.size


class GuestMemory:
    """Physical memory of L1, read page by page through slots and the host's page tables."""

    def __init__(
        self,
        spans: tuple[Span, ...],
        translate: Callable[[HostVirt], HostPhys],
        host: PhysicalMemory[HostPhys],
    ) -> None:
        """`translate` raises MemoryUnreadable where the process has no page."""
        self.spans = spans
        self._translate = translate
        self._host = host
        self.grain = grain_of(host)

    def host_virtual(self, address: L1Phys) -> HostVirt:
        """Where `address` lies in the host process; raises NoMemory outside all slots."""
        for span in self.spans:
            if address in span:
                if span.why_not:
                    raise NoMemory(address, 1, span.why_not)
                return HostVirt(span.host + (address - span.start))
        raise NoMemory(address, 1, "no memslot holds this L1 physical address")

    def host_physical(self, address: L1Phys) -> HostPhys:
        """Raises NoMemory where there is no slot, MemoryUnreadable where there is no page."""
        return self._translate(self.host_virtual(address))

    def read(self, address: L1Phys, size: int) -> bytes:
        return b"".join(
            self._host.read(self.host_physical(L1Phys(place)), count)
            for place, count in page_by_page(address, size)
        )

    def extents(self) -> Iterator[tuple[int, int]]:
        """Where there may be memory, (low, high) in order; slots that overlap count once."""
        end = 0
        for span in sorted(self.spans, key=lambda one: one.start):
            low, high = max(int(span.start), end), span.start + span.size
            if low < high and not span.why_not:
                yield low, high
            end = max(end, high)
