# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps with damaged headers: each is opened, read and searched for a kernel, or refused in one
message, in bounded time; and no process is left behind.

libkdumpfile itself crashes or hangs on some of them, which is told apart from what goes well.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable, NeptError, NoKernel, TargetGone
from gdb_nept.memory import kdump
from gdb_nept.memory.dump import Dump, open_dump
from gdb_nept.memory.elf_dump import EHDR, PHDR
from gdb_nept.target.dumped import attach_dump
from tests.dumps.files import (
    PAGE,
    compressed,
    elf,
    flat,
    lime,
    note,
    pages,
    prstatus,
    qemu_note,
)

HEAD = 1 << 14  # bytes from the start on that hold headers, in every format
END = 1 << 12
ANSWER = 2.0  # seconds that the library may take for one answer here
#: Of a case: two answers that never come, and one of the opening; and what is ours.
MOST_SECONDS = 3 * ANSWER + 4.0
WORDS = (0, 1, 4096, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1)
PLACES = (0, 0x1000, 0x1000000, 0x2835000, 1 << 32, 1 << 36, 1 << 51)


class Dumps:
    """`files` are changed in place, and put back."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = [(path, _spots(path)) for path in files]

    def case(self, dice: random.Random) -> tuple[str, str]:
        """What became of it, and what is wrong with that."""
        path, spots = dice.choice(self.files)
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD)
            file.seek(max(0, size - END))
            end = file.read()
        before = _children()
        try:
            told = damage(path, dice, spots)
            start = time.monotonic()
            with patch.object(kdump, "OPENING", ANSWER), patch.object(kdump, "READING", ANSWER):
                found = _looked_at(path)
            took = time.monotonic() - start
        finally:
            with path.open("r+b") as file:
                file.truncate(size)
                file.seek(max(0, size - END))
                file.write(end)
                file.seek(0)
                file.write(head)
        wrong = f"{took:.0f} s" if took > MOST_SECONDS else ""
        wrong = wrong or ("a process is left" if _children() - before else "")
        return f"{path.name} {found}", wrong and f"{path.name}, {told}: {wrong}"


def small_files(folder: Path) -> list[Path]:
    """One of each format that has headers, of some pages."""
    notes = prstatus() + qemu_note() + note(b"VMCOREINFO", 0, b"OSRELEASE=6.1\nPAGESIZE=4096\n")
    held = [(0, pages(1, 2, 3), 3 * PAGE), (1 << 32, pages(4, 5), 3 * PAGE)]
    zlib = compressed(folder / "kdump", {1: pages(1), 40: pages(2)}, 64, notes=notes)
    return [
        elf(folder / "elf", held, notes),
        zlib,
        flat(zlib, folder / "flattened"),
        lime(folder / "lime", [(start, data) for start, data, _ in held]),
    ]


def _children() -> set[str]:
    """The processes that this one has, ended or not (proc(5))."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {number for task in tasks for number in task.read_text().split()}


def _spots(path: Path) -> list[range]:
    """Where there are headers: of an ELF file those of its segments and notes, too."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    spots = [range(min(512, len(head))), range(len(head))]
    if head.startswith(b"\x7fELF"):
        place, count = struct.unpack_from("<Q", head, 32)[0], EHDR.unpack_from(head)[10]
        rows = range(place, min(place + count * PHDR.size, len(head)))
        return [range(EHDR.size), *[rows] * 3, range(rows.stop, len(head))]
    return [*spots, range(4096, min(4096 + 256, len(head)))] if len(head) > 4352 else spots


def damage(path: Path, dice: random.Random, spots: list[range] | None = None) -> str:
    """One to four changes of a file, where its headers are; in words."""
    told = []
    spots = spots or _spots(path)
    whole = path.stat().st_size
    with path.open("r+b") as file:
        for _ in range(dice.choice((1, 1, 1, 2, 4))):
            spot = dice.choice([one for one in spots if one])
            place = dice.choice(spot)
            how = dice.randrange(8)
            if how < 3:
                file.seek(place)
                byte = (file.read(1) or b"\0")[0]
                data = bytes([dice.choice((0, 0xFF, byte ^ 1 << dice.randrange(8)))])
            elif how < 7:
                place &= ~3 if how < 5 else ~7
                word = dice.choice((*WORDS, dice.getrandbits(64)))
                data = struct.pack("<Q", word)[: 4 if how < 5 else 8]
            else:
                file.truncate(whole - dice.randrange(1, min(END, whole)))
                told.append("cut")
                continue
            file.seek(place)
            file.write(data)
            told.append(f"{place:#x}: {data.hex()}")
    return ", ".join(told)


def _looked_at(path: Path) -> str:
    """Raises what should never be raised."""
    try:
        dump = open_dump(path)
    except NeptError as error:
        return _ended(error) or "refused"
    with dump:
        return _asked(dump) or _searched(dump)


def _searched(dump: Dump) -> str:
    try:
        attach_dump(dump, cache=None)
    except NoKernel:
        pass
    except NeptError as error:
        return _ended(error) or "not searched"
    return "read"


def _asked(dump: Dump) -> str:
    """What became of it; '' if it can be read."""
    found = ""
    try:
        ranges = dump.memory.data_ranges()
        assert sum(map(len, ranges)) >= 0 <= dump.memory.left_out()
    except NeptError as error:
        return _ended(error) or "opened, not listed"
    places = [*PLACES, *(one.start for one in ranges[:4]), *(one.stop - 4096 for one in ranges[:4])]
    for place in places:
        try:
            assert len(dump.memory.read(HostPhys(max(0, place)), 4096)) == 4096
        except TargetGone as error:
            return _ended(error) or "given up"
        except MemoryUnreadable as error:
            found = _ended(error) or found
    return found


def _ended(error: NeptError) -> str:
    """How libkdumpfile ended, if it did."""
    if "did not answer in time" in error.message:
        return "libkdumpfile hung"
    if "died (signal" in error.message:
        return "libkdumpfile crashed"
    return ""
