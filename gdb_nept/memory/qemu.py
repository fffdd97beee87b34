# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical memory through QEMU's gdb stub, by its physical memory mode.

QEMU docs/system/gdb.rst, "Changing how the debugger accesses memory" (since 4.1, ab4752ec8d9d):
`qqemu.PhyMemMode` asks for the mode, `Qqemu.PhyMemMode:1` makes the addresses of memory packets
physical, for every client and until it is set back.  So the mode that was found is always put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable, TargetGone
from gdb_nept.memory.blocks import Block, flat_view
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.memory.stub import Stub
from gdb_nept.memory.transport import NotOffered, Range, covers, extent, joined

QUERY = "qqemu.PhyMemMode"
SWITCH = "Qqemu.PhyMemMode:"
PIECE = 1 << 20  # bytes asked at once, so that Ctrl-C is answered in time
RESTORE_ATTEMPTS = 5
TOLD = 40  # characters of an answer that nobody expects


class NoPhysicalMode(NotOffered):
    """The target has no way to read physical memory that we know."""


class QemuMemory:
    """Physical memory of QEMU's machine, readable only while `held()`.

    `ranges` are the machine's RAM and ROM.  Elsewhere QEMU would answer with zeros, or read a
    device's registers, which may change the device: such an address is refused instead.  Without
    a monitor they are not known, `ranges` is empty and everything is asked for.
    """

    kind = "phymem"
    grain = PAGE_SIZE

    def __init__(self, stub: Stub, owed: str = "") -> None:
        """`owed` is the mode that a lost connection to this machine did not put back, or ''."""
        self._stub = stub
        self._holders = 0
        self.owed = owed
        self.blocks: tuple[Block, ...] = flat_view(stub.monitor("info mtree -f"))
        self.ranges: tuple[Range, ...] = joined(block.range for block in self.blocks)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Physical memory mode for a `with` block; what was found is put back at its end, also
        after an error, after Ctrl-C, and after a second Ctrl-C while doing so."""
        if self._holders:
            yield
            return
        found = self.mode()
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
        self.inside(address, size)
        pieces = range(address, address + size, PIECE)
        return b"".join(
            self._stub.read(start, min(PIECE, address + size - start)) for start in pieces
        )

    def inside(self, address: int, size: int) -> None:
        """Raises MemoryUnreadable where the machine is known to have no memory."""
        if self.ranges and not covers(self.ranges, address, size):
            raise MemoryUnreadable(address, size, "no RAM there (QEMU's `info mtree -f`)")

    def describe(self) -> str:
        return "QEMU's physical memory mode" + extent(self.ranges)

    def mode(self) -> str:
        """The stub's mode, '0' or '1'.  Raises NoPhysicalMode where it has none."""
        mode = self._stub.packet(QUERY)
        if mode not in ("0", "1"):
            raise NoPhysicalMode(
                f"the target does not know the packet {QUERY}",
                "QEMU has it since 4.1.",
            )
        return mode

    def _switch(self, mode: str, found: str) -> None:
        if mode == found:
            return
        answer = self._stub.packet(SWITCH + mode)
        if answer != "OK":
            raise NoPhysicalMode(
                f"the target refused {SWITCH}{mode}: {answer[:TOLD] or 'no answer'}"
            )
        self._stub.forget()

    def settle(self) -> None:
        """Puts back the mode that is owed, if the stub takes it by now."""
        if self.owed and not self._holders:
            self._restore(self.owed)

    def found_on(self) -> bool:
        """Whether the stub is in physical memory mode while we ask for none of it."""
        try:
            return not self._holders and not self.owed and self.mode() == "1"
        except NoPhysicalMode:
            return False

    def _restore(self, found: str) -> None:
        """What cannot be put back is owed: to the next command, or the next connection."""
        interrupted: KeyboardInterrupt | None = None
        self.owed = found
        for _ in range(RESTORE_ATTEMPTS):
            try:
                self._switch(found, "1")
                self.owed = ""
                break
            except TargetGone:
                break
            except NoPhysicalMode:
                continue  # refused; a stub may take it when it is asked again
            except KeyboardInterrupt as error:
                interrupted = error
        if interrupted:
            raise interrupted
