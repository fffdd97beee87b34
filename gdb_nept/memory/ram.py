# SPDX-License-Identifier: GPL-2.0-or-later
"""All of a target's physical memory."""

from __future__ import annotations

from typing import NamedTuple

from gdb_nept.address import HostPhys
from gdb_nept.arch.ept import WIDEST
from gdb_nept.memory.reader import PhysicalMemory

END = 1 << WIDEST  # no processor has a physical address behind it


class Ram(NamedTuple):
    """`ranges` are the physical addresses at which there is something to read; nothing: not known.
    `left_out` bytes of RAM more are known of that a dump does not hold."""

    memory: PhysicalMemory[HostPhys]
    ranges: list[range]
    left_out: int = 0
