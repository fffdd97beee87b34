# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine's memory where other processes find it, block by block; the stub gives the rest.

No mode is switched for what lies in a block.  What lies in none (a ROM, a block that is elsewhere)
is read by the stub's physical memory mode, which is then held to the end of the command.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Callable

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable, TargetGone
from gdb_nept.memory.qemu import PIECE, QemuMemory
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.memory.transport import NotOffered, Range, extent

LOOKS = 64  # pages of a block among which one is sought that is not empty


@dataclass(frozen=True)
class MappedBlock:
    """`read` takes an offset from the block's start, and a size; raises MemoryUnreadable."""

    range: Range
    read: Callable[[int, int], bytes]


class MappedMemory:
    """Physical memory in `blocks`, which are in order; `mode` knows the whole machine."""

    grain = PAGE_SIZE

    def __init__(
        self, kind: str, words: str, blocks: Sequence[MappedBlock], mode: QemuMemory
    ) -> None:
        self.kind = kind
        self.ranges = mode.ranges
        self._words = words
        self._blocks = tuple(blocks)
        self._starts = [block.range.start for block in blocks]
        self._mode = mode
        self._scope: ExitStack | None = None

    def describe(self) -> str:
        return self._words + extent(self.ranges)

    @contextmanager
    def held(self) -> Iterator[None]:
        if self._scope is not None:
            yield
            return
        self._mode.mode()  # the stub still answers: what is read belongs to a machine that is there
        with ExitStack() as scope:
            self._scope = scope
            try:
                yield
            finally:
                self._scope = None

    def read(self, address: HostPhys, size: int) -> bytes:
        parts = []
        place, end = int(address), int(address) + size
        while place < end:
            block, limit = self._at(place)
            count = min(end, limit, place + PIECE) - place
            if block is None:
                parts.append(self._by_mode(HostPhys(place), count))
            else:
                parts.append(block.read(place - block.range.start, count))
            place += count
        return b"".join(parts)

    def prove(self) -> None:
        """Hold a page of each block, not empty if there is one, against what the stub reads.
        Raises NotOffered where they differ, and where all pages looked at are empty."""
        try:
            samples = [_sample(block) for block in self._blocks]
        except (MemoryUnreadable, TargetGone) as error:
            why = getattr(error, "why", error.message)
            raise NotOffered(f"the machine's memory is not where it was told: {why}") from None
        if not any(data.strip(b"\0") for _, data in samples):
            raise NotOffered("the machine's memory is still empty, so nothing proves where it lies")
        with self._mode.held():
            for place, data in samples:
                if self._mode.read(place, len(data)) != data:
                    raise NotOffered(
                        f"{self._words} differs from what the stub reads at {place:#x}"
                    )

    def _at(self, place: int) -> tuple[MappedBlock | None, int]:
        """The block at `place`, or none, and where that ends."""
        number = bisect_right(self._starts, place)
        if number and place < self._blocks[number - 1].range.end:
            return self._blocks[number - 1], self._blocks[number - 1].range.end
        return None, self._starts[number] if number < len(self._starts) else 1 << 64

    def _by_mode(self, place: HostPhys, size: int) -> bytes:
        self._mode.inside(place, size)
        if self._scope is not None:
            self._scope.enter_context(self._mode.held())
        return self._mode.read(place, size)


def _sample(block: MappedBlock) -> tuple[HostPhys, bytes]:
    """The first page that is not empty of those that are looked at, or else the first."""
    start, end = block.range.start, block.range.end
    step = max((end - start) // LOOKS & -PAGE_SIZE, PAGE_SIZE)
    for place in range(start, end, step):
        data = block.read(place - start, min(PAGE_SIZE, end - place))
        if data.strip(b"\0"):
            return HostPhys(place), data
    return start, block.read(0, min(PAGE_SIZE, end - start))
