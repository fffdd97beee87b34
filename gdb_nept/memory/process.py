# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine's memory in the process that emulates it, on this computer: /proc/PID/mem (proc(5)).

Nothing but a read is done to the process; it is neither stopped nor traced.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path

from gdb_nept.errors import MemoryUnreadable, TargetGone
from gdb_nept.memory.blocks import Block, host_address
from gdb_nept.memory.mapped import MappedBlock, MappedMemory
from gdb_nept.memory.owner import Process
from gdb_nept.memory.qemu import QemuMemory
from gdb_nept.memory.stub import Stub
from gdb_nept.memory.transport import NotOffered

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")


class ProcessMemory:
    """The address space that a process has now; it stays that one, whoever gets the number of the
    process later."""

    def __init__(self, process: Process) -> None:
        """Raises NotOffered where it may not be read."""
        self.process = process
        try:
            self._descriptor = os.open(f"/proc/{process.pid}/mem", os.O_RDONLY)
        except OSError as error:
            why = f"the memory of {process} may not be read: {error.strerror}"
            raise NotOffered(why, _permission(process)) from None
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, address: int, size: int) -> bytes:
        """Raises MemoryUnreadable, and TargetGone where the process has ended."""
        try:
            data = os.pread(self._descriptor, size, address)
        except (OSError, OverflowError):
            data = b""
        if len(data) == size:
            return data
        if not self.process.alive():
            raise TargetGone(f"{self.process} has ended", "Attach again: target remote HOST:PORT")
        raise MemoryUnreadable(address, size, f"{self.process} has nothing at {address:#x}")

    def block(self, block: Block, place: int) -> MappedBlock:
        return MappedBlock(block.range, lambda offset, size: self.read(place + offset, size))


def process_memory(stub: Stub, mode: QemuMemory, candidates: Sequence[Process]) -> MappedMemory:
    """The machine's memory in the first of the candidates that has it.  Raises NotOffered, with
    the reason."""
    blocks = [(block, host_address(stub, block)) for block in mode.blocks]
    placed = [(block, place) for block, place in blocks if place is not None]
    if not placed:
        raise NotOffered("the stub's monitor does not tell where memory lies (gpa2hva)")
    refusals = []
    for process in candidates:
        try:
            return _proven(process, placed, mode)
        except NotOffered as error:
            refusals.append((error.message, error.advice))
    raise NotOffered(*refusals[0])


def _proven(
    process: Process, placed: Sequence[tuple[Block, int]], mode: QemuMemory
) -> MappedMemory:
    source = ProcessMemory(process)
    blocks = [source.block(block, place) for block, place in placed]
    memory = MappedMemory("process", f"process memory of {process}", blocks, mode)
    memory.prove()
    return memory


def _permission(process: Process) -> str:
    """What to do about it (ptrace(2), "Ptrace access mode checking")."""
    if process.uid not in (os.geteuid(), None):
        return "It belongs to another user: run gdb as that user, or as root."
    try:
        scope = YAMA.read_text().strip()
    except OSError:
        return "Run gdb as root."
    return f"{YAMA} is {scope}: run gdb as root, or write 0 there."
