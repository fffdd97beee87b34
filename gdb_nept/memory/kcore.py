# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of the computer that this runs on: /proc/kcore (the kernel's fs/proc/kcore.c).

It is an ELF whose PT_LOADs of the direct map have physical addresses (read_kcore_iter()); it
changes as it is read, so no library may map it.  open_kcore() refuses with EPERM whom the kernel's
lockdown (LOCKDOWN_KCORE: "confidentiality") or the lack of CAP_SYS_RAWIO stops, root or not.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from gdb_nept.errors import BadInput
from gdb_nept.memory.elf_dump import ElfDump, Segment, read_headers
from gdb_nept.memory.segments import SegmentMemory

NOT_PHYSICAL = (1 << 64) - 1  # p_paddr of segments that are no direct map
LOCKDOWN = Path("/sys/kernel/security/lockdown")  # "none [integrity] confidentiality"
FROM_OUTSIDE = (
    "Read the machine from outside: through its hypervisor's gdb stub, or from a dump (kdump's "
    "vmcore, virsh dump --memory-only)."
)
HIDDEN = "Is this a container, which hides it?  Run nept on the host itself."


def kcore(path: Path) -> tuple[SegmentMemory, ElfDump]:
    """Raises BadInput: there is none, it may not be opened, is hidden, or tells too little."""
    _readable(path)
    try:
        headers = read_headers(path)
    except BadInput as error:
        raise BadInput(error.message, FROM_OUTSIDE) from None
    physical = tuple(one for one in headers.segments if one.start != NOT_PHYSICAL and one.virtual)
    direct = _direct_map(physical)
    if not direct:
        told = f"{path} tells no physical addresses, as before Linux 4.14"
        raise BadInput(told, FROM_OUTSIDE)
    return SegmentMemory(path, direct, live=True), headers


def _readable(path: Path) -> None:
    """Raises BadInput."""
    try:
        with path.open("rb") as file:
            if file.read(1):
                return
    except FileNotFoundError:
        told = f"Its kernel is built without CONFIG_PROC_KCORE, or: {HIDDEN[0].lower()}{HIDDEN[1:]}"
        raise BadInput(f"there is no {path}", told) from None
    except OSError as error:
        raise BadInput(f"{path} cannot be opened: {error.strerror}", _advice(error)) from None
    raise BadInput(f"{path} is empty", HIDDEN)


def _advice(error: OSError) -> str:
    if error.errno not in (errno.EPERM, errno.EACCES):
        return FROM_OUTSIDE
    if os.geteuid() != 0:
        return "Only root may: sudo nept --live COMMAND"
    try:
        locked = "[confidentiality]" in LOCKDOWN.read_text()
    except OSError:
        locked = False
    if locked:
        return f"The kernel is locked down (lockdown=confidentiality).  {FROM_OUTSIDE}"
    return f"Root needs CAP_SYS_RAWIO for it, and no lockdown.  {HIDDEN}"


def _direct_map(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """The stretches that all lie at one distance from their physical address; most of memory does.
    The kernel's text has another, and everything else none (kclist_add of vmalloc: 0)."""
    sizes: dict[int, int] = {}
    for one in segments:
        distance = one.virtual - one.start
        sizes[distance] = sizes.get(distance, 0) + one.in_file
    usual = {d: size for d, size in sizes.items() if d and d & ((1 << 30) - 1) == 0}
    best = max(usual, key=lambda d: usual[d], default=0)
    return tuple(one for one in segments if best and one.virtual - one.start == best)
