# SPDX-License-Identifier: GPL-2.0-or-later
"""A Bochs machine as a debugger's stub wants it: read, stop at breakpoints, run, be interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Optional

from . import ram
from .boot import STOPPED_BY_PARKING, Machine
from .console import fact
from .errors import LabError
from .processor import Processor
from .translation import linear_to_physical

ROMS = (range(0xC0000, 0x100000), range(0xFFFE0000, 1 << 32))  # the second is the BIOS again
AGAIN = 0.05  # seconds after which Ctrl-C is repeated
_HALT_PATIENCE = 10.0  # seconds for a machine that runs to take Ctrl-C
_WRITE_SIZES = (4, 2, 1)  # bytes that one command of the debugger writes


class Live:
    """The machine of a daemon.  All but `poll`, `interrupt` and `halt` need it to stand."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.cpu = Processor(machine.bochs)
        self.running = False
        self._breakpoints: set[tuple[str, int]] = set()  # kind and linear address
        self._interrupted = False

    # -- memory

    def read_physical(self, address: int, length: int) -> bytes:
        """Bytes of RAM and ROM; zeros elsewhere, as a read of QEMU's would give."""
        data = bytearray(self.machine.ram.read(address, length))
        for rom in ROMS:
            part = range(max(address, rom.start), min(address + length, rom.stop))
            if part:
                start = part.start - address
                found = ram.examine(self.machine.bochs, part.start, len(part))
                data[start : start + len(part)] = found
        return bytes(data)

    def read_linear(self, address: int, length: int) -> Optional[bytes]:
        """Bytes at a linear address of the processor; None if a part is not mapped."""
        parts = []
        for place, count in self._pages(address, length):
            if place is None:
                return None
            parts.append(self.read_physical(place, count))
        return b"".join(parts)

    def write_physical(self, address: int, data: bytes) -> None:
        """Write to RAM; what is outside is dropped."""
        self.machine.park = None  # a snapshot would not be of the park point any more
        place = address
        while data:
            size = next(size for size in _WRITE_SIZES if size <= len(data))
            value = int.from_bytes(data[:size], "little")
            if place < self.machine.ram.size:
                self.machine.bochs.command(f"setpmem {place:#x} {size} {value:#x}")
            place, data = place + size, data[size:]

    def write_linear(self, address: int, data: bytes) -> bool:
        """Write at a linear address; False, and nothing written, if a part is not mapped."""
        pages = list(self._pages(address, len(data)))
        if any(place is None for place, _ in pages):
            return False
        for place, count in pages:
            self.write_physical(place or 0, data[:count])
            data = data[count:]
        return True

    def _pages(self, address: int, length: int) -> Iterator[tuple[Optional[int], int]]:
        """The page-wise parts of a linear range: physical address, length."""
        end = address + length
        while address < end:
            count = min(end, address - address % ram.PAGE + ram.PAGE) - address
            place = linear_to_physical(self.cpu, self.machine.ram.read, address)
            yield place, count
            address += count

    # -- breakpoints

    def insert(self, kind: str, address: int) -> bool:
        """Stop before the instruction at a linear address; False if Bochs has no room."""
        if not self._at(address):
            self.machine.bochs.command(f"lb {address:#x}")
            if self._number_of(address) is None:
                return False
        self._breakpoints.add((kind, address))
        return True

    def remove(self, kind: str, address: int) -> bool:
        """Take a breakpoint away; False if there is none."""
        if (kind, address) not in self._breakpoints:
            return False
        self._breakpoints.remove((kind, address))
        if not self._at(address):
            self.machine.bochs.command(f"del {self._number_of(address)}")
        return True

    def remove_all(self) -> None:
        """Leave no breakpoint behind, whatever the machine does."""
        if not self._breakpoints:
            return
        was_running = self.running
        self.halt()
        for kind, address in tuple(self._breakpoints):
            self.remove(kind, address)
        if was_running:
            self.resume()

    def _at(self, address: int) -> bool:
        return any(place == address for _, place in self._breakpoints)

    def _number_of(self, address: int) -> Optional[int]:
        """Bochs' number of a breakpoint."""
        for line in self.machine.bochs.command("info break").splitlines():
            words = line.split()
            if words and words[0].isdigit() and int(words[-1], 16) == address:
                return int(words[0])
        return None

    # -- running

    def resume(self, step: bool = False) -> None:
        """Let it run, or do one instruction; `poll` tells when it stands again."""
        self.cpu.forget()
        self.machine.park = None
        self._interrupted = False
        self.running = True
        self.machine.bochs.resume("s" if step else "c")

    def interrupt(self) -> None:
        """Ask a machine that runs to stand.  To be done again until it does: Bochs forgets a
        Ctrl-C that comes before it has read the command to run."""
        if self.running:
            self._interrupted = True
            self.machine.bochs.interrupt()

    def poll(self, timeout: float = 0) -> bool:
        """Whether it stands, at the latest after so many seconds."""
        if self.running:
            output = self.machine.bochs.stopped(timeout)
            if output is not None:
                self._stands(output)
        return not self.running

    def halt(self) -> None:
        """Make it stand."""
        deadline = time.monotonic() + _HALT_PATIENCE
        while self.running:
            self.interrupt()
            if not self.poll(AGAIN) and time.monotonic() > deadline:
                raise LabError(f"Bochs did not take Ctrl-C within {_HALT_PATIENCE:g} s")

    @property
    def interrupted(self) -> bool:
        """Whether it was asked to stand; once it does, whether it stands because of that."""
        return self._interrupted

    def _stands(self, output: str) -> None:
        self.running = False
        parked = STOPPED_BY_PARKING in output
        if parked or "Breakpoint" in output:
            self._interrupted = False
        announced = [found for line in self.machine.console.news() if (found := fact(line))]
        parks = [str(found["park"]) for found in announced if "park" in found]
        self.machine.park = parks[-1] if parked and parks else None
