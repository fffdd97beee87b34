# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine's memory in files that QEMU shares (memory-backend-file with share=on), mapped here.

No right to look into QEMU's process is needed, only to read the files.  The properties are in
QEMU's backends/hostmem-file.c; `offset` is where in the file the backend begins (since 8.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput
from gdb_nept.memory.blocks import Block, backend_property
from gdb_nept.memory.mapped import MappedBlock, MappedMemory
from gdb_nept.memory.qemu import QemuMemory
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.stub import Stub
from gdb_nept.memory.transport import NotOffered

NAME_IT = "Give QEMU a memory-backend-file with share=on (qemu-configs/l0-shared-memory.cfg)."


@dataclass(frozen=True)
class Backend:
    """The file behind a memory region, and where in it the region begins."""

    path: Path
    offset: int


def file_memory(stub: Stub, mode: QemuMemory, named: Path | None = None) -> MappedMemory:
    """`named` is the file as we see it, if the user said so (QEMU in a container sees it
    elsewhere).  Raises NotOffered, with the reason."""
    regions = dict.fromkeys(block.region for block in mode.blocks)
    backends = {region: found for region in regions if (found := _backend(stub, region))}
    if not backends:
        raise NotOffered("the machine has none", NAME_IT)
    if named and len(backends) > 1:
        paths = ", ".join(str(one.path) for one in backends.values())
        raise NotOffered(f"{named} alone was named, but memory lies in {paths}")
    blocks, files = [], []
    for region, backend in backends.items():
        file = _opened(named or backend.path)
        files.append(str(file.path))
        blocks += [_block(each, file, backend) for each in mode.blocks if each.region == region]
    blocks.sort(key=lambda block: block.range.start)
    memory = MappedMemory("file", f"shared file {', '.join(files)}", blocks, mode)
    memory.prove()
    return memory


def _backend(stub: Stub, region: str) -> Backend | None:
    """The file that holds `region`; None if none does.  Raises NotOffered for a private one."""
    path = backend_property(stub, region, "mem-path")
    if not isinstance(path, str) or not path:
        return None
    if backend_property(stub, region, "share") is not True:
        why = f"QEMU maps {path} privately (share=off): what the machine writes is not in the file"
        raise NotOffered(why, NAME_IT)
    offset = backend_property(stub, region, "offset")
    return Backend(Path(path), offset if isinstance(offset, int) else 0)


def _opened(path: Path) -> RawMemory[HostPhys]:
    try:
        return RawMemory(path)
    except BadInput as error:
        raise NotOffered(
            error.message, "If gdb sees it elsewhere: set nept memory-file PATH"
        ) from None


def _block(block: Block, file: RawMemory[HostPhys], backend: Backend) -> MappedBlock:
    start = backend.offset + block.offset
    if start + block.range.end - block.range.start > file.size:
        raise NotOffered(f"{file.path} ends at {file.size:#x}: it is shorter than the memory")
    return MappedBlock(block.range, lambda offset, size: file.read(HostPhys(start + offset), size))
