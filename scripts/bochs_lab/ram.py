# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical memory of a machine in Bochs, read from the Bochs process.

Bochs keeps guest RAM in one mapping of its own and gives out blocks of it in the order of
first touch.  `locate` touches them all, in order, before the machine runs: it writes a mark
into each and looks for the marks in the mapping.  The VGA and ROM range has no blocks.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

from .bochs import Bochs
from .errors import LabError

BLOCK = 128 << 10
PAGE = 4096
MIB = 1 << 20
HOLE = range(0xA0000, 0x100000)  # VGA memory and ROMs
_MARK_OFFSET = 0x800  # of the mark in its block
_MARK = 0x4E450000  # plus the number of the block
_MARK_LENGTH = 4
_WORD = 8  # bytes of a word that the debugger prints
_ZEROS = bytes(PAGE)


class GuestRam:
    """Where each block lies in the process, and the process' memory."""

    def __init__(self, pid: int, size: int, blocks: Mapping[int, int]) -> None:
        self.size = size
        self._blocks = blocks  # physical address of a block -> address in the process
        self._descriptor = _open_memory(pid)

    def close(self) -> None:
        os.close(self._descriptor)

    def runs(self) -> Iterator[tuple[range, int]]:
        """The stretches of RAM that are contiguous in the process too, and where each lies."""
        run, place = range(0), 0
        for start in sorted(self._blocks):
            if start == run.stop and self._blocks[start] == place + len(run):
                run = range(run.start, start + BLOCK)
                continue
            if run:
                yield run, place
            run, place = range(start, start + BLOCK), self._blocks[start]
        yield run, place

    def place(self, address: int) -> Optional[int]:
        """Where RAM lies in the process; None where there is no RAM."""
        offset = address % BLOCK
        block = self._blocks.get(address - offset)
        return None if block is None else block + offset

    def read_block(self, address: int) -> bytes:
        """One whole block; zeros where there is no RAM."""
        place = self._blocks.get(address)
        return bytes(BLOCK) if place is None else os.pread(self._descriptor, BLOCK, place)

    def read(self, address: int, length: int) -> bytes:
        """Bytes at a physical address; zeros where there is no RAM."""
        parts, end = [], address + length
        while address < end:
            start = address - address % BLOCK
            count = min(end, start + BLOCK) - address
            place = self._blocks.get(start)
            if place is None:
                parts.append(bytes(count))
            else:
                parts.append(os.pread(self._descriptor, count, place + address - start))
            address += count
        return b"".join(parts)

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """Every page that is not all zeros, in physical order."""
        for start in range(0, self.size, BLOCK):
            block = self.read_block(start)
            for offset in range(0, BLOCK, PAGE):
                page = block[offset : offset + PAGE]
                if page != _ZEROS:
                    yield start + offset, page

    def write_sparse(self, path: Path) -> int:
        """Write all of it to a file with holes for empty pages; the number of pages written."""
        count = 0
        with path.open("wb") as stream:
            stream.truncate(self.size)
            for address, page in self.pages():
                stream.seek(address)
                stream.write(page)
                count += 1
        return count


def locate(bochs: Bochs) -> GuestRam:
    """Find the blocks of a machine that has not run yet; its memory is as it was afterwards."""
    size = bochs.memory * MIB
    addresses = [start for start in range(0, size, BLOCK) if start not in HOLE]
    for address in addresses:
        mark = _MARK | address // BLOCK
        bochs.command(f"setpmem {address + _MARK_OFFSET:#x} {_MARK_LENGTH} {mark:#x}")
    places = _find_marks(bochs.pid, size, [_MARK | address // BLOCK for address in addresses])
    _erase_marks(bochs.pid, places)
    return GuestRam(bochs.pid, size, dict(zip(addresses, places)))


def verify(ram: GuestRam, bochs: Bochs, samples: int = 24) -> None:
    """Hold random places against what the debugger reads there."""
    used = [address for address, _ in ram.pages()]
    if not used:
        raise LabError("the machine's memory, as found in the Bochs process, is all zeros")
    for address in random.sample(used, min(samples, len(used))):
        place = address + random.randrange(0, PAGE - 16, 16)
        shown = examine(bochs, place, 16)
        if ram.read(place, 16) != shown:
            raise LabError(
                f"memory found in the Bochs process differs from the debugger's at {place:#x}:"
                f" {ram.read(place, 16).hex()} is not {shown.hex()}"
            )


def examine(bochs: Bochs, address: int, length: int) -> bytes:
    """Bytes at a physical address as the debugger reads them, which is slow: 2 ms a KiB."""
    start = address - address % _WORD
    count = (address + length - start + _WORD - 1) // _WORD
    words = re.findall(r"\t0x([0-9a-f]+)", bochs.command(f"xp /{count}gx {start:#x}"))
    data = b"".join(int(word, 16).to_bytes(_WORD, "little") for word in words)
    return data[address - start :][:length]


def _open_memory(pid: int, flags: int = os.O_RDONLY) -> int:
    try:
        return os.open(f"/proc/{pid}/mem", flags)
    except PermissionError as error:
        raise LabError(
            f"the memory of the Bochs process {pid} may not be read ({error.strerror});"
            " see /proc/sys/kernel/yama/ptrace_scope, which must be 0 or 1"
        ) from error


def _mappings(pid: int, least: int) -> Iterator[range]:
    """Address ranges of the anonymous mappings of at least that size."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        words = line.split()
        start, end = (int(word, 16) for word in words[0].split("-"))
        if words[4] == "0" and end - start >= least:
            yield range(start, end)


def _find_marks(pid: int, size: int, marks: list[int]) -> list[int]:
    """The addresses of the blocks that hold the marks."""
    descriptor = _open_memory(pid)
    try:
        for mapping in _mappings(pid, size - len(HOLE)):
            found = _marks_in(descriptor, mapping)
            if all(mark in found for mark in marks):
                return [found[mark] for mark in marks]
    finally:
        os.close(descriptor)
    raise LabError("guest RAM was not found in the Bochs process (no mapping holds every block)")


def _marks_in(descriptor: int, mapping: range) -> dict[int, int]:
    """Mark -> address of its block, for every page of the mapping that holds one."""
    found = {}
    for start in range(mapping.start, mapping.stop, PAGE):
        data = os.pread(descriptor, _MARK_LENGTH, start + _MARK_OFFSET)
        value = int.from_bytes(data, "little")
        if value & ~0xFFFF == _MARK:
            found[value] = start
    return found


def _erase_marks(pid: int, places: list[int]) -> None:
    descriptor = _open_memory(pid, os.O_RDWR)
    try:
        for place in places:
            os.pwrite(descriptor, bytes(_MARK_LENGTH), place + _MARK_OFFSET)
    finally:
        os.close(descriptor)
