# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical memory through QEMU's gdb stub, by its physical memory mode.

QEMU docs/system/gdb.rst, "Changing how the debugger accesses memory" (since 4.1, ab4752ec8d9d):
`qqemu.PhyMemMode` asks for the mode, `Qqemu.PhyMemMode:1` makes the addresses of memory packets
physical, for every client and until it is set back.  So the mode that was found is always put back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable, NeptError, TargetGone

QUERY = "qqemu.PhyMemMode"
SWITCH = "Qqemu.PhyMemMode:"
PIECE = 1 << 20  # bytes asked at once, so that Ctrl-C is answered in time
RESTORE_ATTEMPTS = 5

_VIEW = re.compile(r'^\s*AS "memory"', re.MULTILINE)
_RANGE = re.compile(r"^\s*([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (ram|rom)\)", re.MULTILINE)


class Stub(Protocol):
    """What a debugger does for us over its connection.  All raise TargetGone when it is lost."""

    def packet(self, text: str) -> str:
        """The stub's answer to a packet; '' if it does not know it."""
        ...

    def monitor(self, text: str) -> str:
        """What QEMU's monitor answers; '' if there is none behind the stub."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Memory as the stub gives it now; raises MemoryUnreadable."""
        ...

    def forget(self) -> None:
        """Drop what the debugger itself cached of the target's memory."""
        ...


class NoPhysicalMode(NeptError):
    """The target has no way to read physical memory that we know."""


@dataclass(frozen=True)
class Range:
    """`start` up to, not including, `end`."""

    start: HostPhys
    end: HostPhys


class QemuMemory:
    """Physical memory of QEMU's machine, readable only while `held()`.

    `ranges` are the machine's RAM and ROM.  Elsewhere QEMU would answer with zeros, or read a
    device's registers, which may change the device: such an address is refused instead.  Without
    a monitor they are not known, `ranges` is empty and everything is asked for.
    """

    def __init__(self, stub: Stub, owed: str = "") -> None:
        """`owed` is the mode that a lost connection to this machine did not put back, or ''."""
        self._stub = stub
        self._holders = 0
        self.owed = owed
        self.ranges: tuple[Range, ...] = ram_ranges(stub.monitor("info mtree -f"))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Physical memory mode for a `with` block; what was found is put back at its end, also
        after an error, after Ctrl-C, and after a second Ctrl-C while doing so."""
        if self._holders:
            yield
            return
        found = self._mode()
        self._holders += 1
        try:
            self._switch("1", found)
            yield
        finally:
            self._holders -= 1
            self._restore(self.owed or found)

    def read(self, address: HostPhys, size: int) -> bytes:
        if not self._holders:
            raise MemoryUnreadable(address, size, "physical memory mode is not switched on")
        if self.ranges and not self._inside(address, size):
            raise MemoryUnreadable(address, size, "no RAM there (QEMU's `info mtree -f`)")
        pieces = range(address, address + size, PIECE)
        return b"".join(
            self._stub.read(start, min(PIECE, address + size - start)) for start in pieces
        )

    @property
    def size(self) -> int:
        """Bytes from 0 to the end of the last range; 0 if that is not known."""
        return max((found.end for found in self.ranges), default=0)

    def _inside(self, address: int, size: int) -> bool:
        place = address
        for found in self.ranges:
            if found.start <= place < found.end:
                place = found.end
            if place >= address + size:
                return True
        return False

    def _mode(self) -> str:
        mode = self._stub.packet(QUERY)
        if mode not in ("0", "1"):
            raise NoPhysicalMode(
                "the target cannot read physical memory: it does not know the packet " + QUERY,
                "QEMU has it since 4.1. For another kind of target take a dump of its memory, and "
                "use: python3 -m gdb_nept --dump FILE",
            )
        return mode

    def _switch(self, mode: str, found: str) -> None:
        if mode == found:
            return
        answer = self._stub.packet(SWITCH + mode)
        if answer != "OK":
            raise NoPhysicalMode(f"the target refused {SWITCH}{mode}: {answer or 'no answer'}")
        self._stub.forget()

    def _restore(self, found: str) -> None:
        interrupted: KeyboardInterrupt | None = None
        for _ in range(RESTORE_ATTEMPTS):
            try:
                self._switch(found, "1")
                self.owed = ""
                break
            except TargetGone:
                self.owed = found  # for the next connection
                break
            except KeyboardInterrupt as error:
                interrupted = error
        if interrupted:
            raise interrupted


def ram_ranges(mtree: str) -> tuple[Range, ...]:
    """RAM and ROM of the address space "memory" in QEMU's `info mtree -f`, neighbours joined; ()
    where the text holds none."""
    for view in mtree.split("FlatView #"):
        if _VIEW.search(view):
            return _joined(
                Range(HostPhys(int(first, 16)), HostPhys(int(last, 16) + 1))
                for first, last, _ in _RANGE.findall(view)
            )
    return ()


def _joined(ranges: Iterator[Range]) -> tuple[Range, ...]:
    found: list[Range] = []
    for one in sorted(ranges, key=lambda one: one.start):
        if found and found[-1].end == one.start:
            found[-1] = Range(found[-1].start, one.end)
        else:
            found.append(one)
    return tuple(found)
