# SPDX-License-Identifier: GPL-2.0-or-later
"""Where QEMU's `dump-guest-memory -p` departs from what the guest's page tables say.

    python -m tests.findings --qemu

boots the CD of the others in QEMU, by TCG.  L1 goes no further than to say that it has no VMX, with
its memory mapped one to one, and is dumped.  Seen with QEMU 7.2.22; the functions are the same at
5ec7136ddd5e (arch_memory_mapping.c) and 046bc4160bc7 (dump.c), which are of 10.0 or later.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from gdb_nept.memory.elf_dump import Segment, read_headers

MEMORY = 32 << 20
SECONDS = 120


@dataclass(frozen=True)
class DumpFinding:
    title: str
    where: str
    expected: str


ADDRESS = DumpFinding(
    "dump-guest-memory -p sets bits 63:48 of every address of a 64-bit guest's lower half",
    "target/i386/arch_memory_mapping.c x86_cpu_get_memory_mapping(): starts walk_pml4e() at "
    "0xffff << 48, whatever PML4E it comes to; with 5 levels walk_pml5e() at 0x7f << 57",
    "a PT_LOAD of virtual and physical address 0",
)
REST = DumpFinding(
    "dump-guest-memory -p: of a mapping that goes on behind 640 KiB the rest reads as zeros",
    "dump/dump.c get_offset_range(): cuts p_filesz at the end of the GuestPhysBlock in which the "
    "mapping starts, as its comment says, and no other PT_LOAD has the rest, which is in the file",
    f"PT_LOADs with all {MEMORY:#x} bytes but for 0xa0000 to 0xbffff",
)


def dumped(iso: Path, folder: Path) -> tuple[Segment, ...]:
    """The PT_LOADs of a dump of L1.  Raises TimeoutError."""
    said, dump = folder / "serial", folder / "dump"
    command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", f"{MEMORY >> 20}"]
    command += [
        "-nodefaults",
        "-vga",
        "std",
        "-display",
        "none",
        "-serial",
        f"file:{said}",
        "-monitor",
        "stdio",
    ]
    with subprocess.Popen(
        [*command, "-cdrom", str(iso)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + SECONDS
            while not said.exists() or '"done"' not in said.read_text(errors="replace"):
                if time.monotonic() > deadline:
                    raise TimeoutError("L1 does not say that it is done")
                time.sleep(0.1)
            process.communicate(f"dump-guest-memory -p {dump}\nquit\n", timeout=SECONDS)
        finally:
            process.kill()
    return read_headers(dump).segments


def in_words(segments: tuple[Segment, ...]) -> str:
    return "; ".join(
        f"virtual {one.virtual:#x}, physical {one.start:#x}, {one.in_file:#x} of {one.size:#x} "
        "bytes in the file"
        for one in segments
    )
