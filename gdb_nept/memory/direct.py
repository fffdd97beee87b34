# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical memory through the kernel's direct map: all of RAM stands once more at a virtual
address (Linux Documentation/arch/x86/x86_64/mm.rst, `page_offset_base`).

Any stub that reads kernel addresses will do, kgdb's too.  The CPU must be in the kernel with the
kernel's page tables: with KPTI, the tables that user space runs on have no direct map, and while a
guest runs they are the guest's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.stub import Stub
from gdb_nept.memory.transport import Range, extent

SIZE_LIMIT = 1 << 52  # no processor has more physical addresses


class DirectMapMemory:
    """Physical memory at `base` plus the physical address; no mode of the stub is switched.

    kgdb gives about 500 bytes a packet (Linux include/linux/kgdb.h, BUFMAX), and over a serial line
    each byte counts: so little more is read than is asked for.
    """

    kind = "direct"
    grain = 64  # a cache line, of 8 entries

    def __init__(self, stub: Stub, base: int, ranges: tuple[Range, ...] = ()) -> None:
        """`base` is what the kernel's `page_offset_base` holds."""
        self._stub = stub
        self.base = base
        self.ranges = ranges

    def describe(self) -> str:
        return f"the kernel's direct map at {self.base:#x}{extent(self.ranges)}"

    @contextmanager
    def held(self) -> Iterator[None]:
        yield

    def read(self, address: HostPhys, size: int) -> bytes:
        if not 0 <= address <= SIZE_LIMIT - size:
            raise MemoryUnreadable(address, size, "no processor has such a physical address")
        try:
            return self._stub.read(self.base + address, size)
        except MemoryUnreadable as error:
            why = f"the direct map does not have it at {self.base + address:#x} ({error.why})"
            raise MemoryUnreadable(address, size, why) from None
