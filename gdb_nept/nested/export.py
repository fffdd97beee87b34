# SPDX-License-Identifier: GPL-2.0-or-later
"""L1's or L2's physical memory as a file for other programs: an ELF core by physical addresses of
the guest's.

What cannot be read is left out of the file, and told; a page of zeros in it is one of the guest's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.budget import Budget
from gdb_nept.memory.core_file import CoreFile
from gdb_nept.memory.elf_dump import OUR_NOTE
from gdb_nept.memory.reader import PAGE_SIZE, PhysicalMemory
from gdb_nept.nested.pieces import NOT_LOOKED_AT, Gap, Part, Parts, Piece, unread
from gdb_nept.target import vmcoreinfo
from gdb_nept.target.image import UTS_SIZE, image_physical, uts_fields
from gdb_nept.target.vmcoreinfo import NOTE_HEADER, Vmcoreinfo

AT_ONCE = 1 << 20
COPYING = "copying pages"
MOST_COPIES = 64  # of vmcoreinfo: a guest may fill its memory with them

Read = Callable[[int, int], bytes]  # guest memory, of address and size; raises MemoryUnreadable


@dataclass(frozen=True)
class Left:
    """What was left out, of one kind: `first` is the first of it."""

    kind: str
    bytes: int
    stretches: int
    first: Gap


@dataclass(frozen=True)
class Exported:
    """`path` holds `bytes` of `whose`, a memory, of them `zero_bytes` in pages of zeros, in so many
    `stretches`.  `release` is of the Linux whose vmcoreinfo was taken over, or ''.  `ended`: from
    where on nothing was looked at any more, and why.  `notes` are the names of its ELF notes; of no
    CPU is there one (NT_PRSTATUS), since a core has no place for where a register's number is from
    and whether it may be older: Vcpu.registers() has."""

    path: Path
    whose: str
    bytes: int
    zero_bytes: int
    stretches: int
    left: tuple[Left, ...]
    release: str = ""
    ended: Gap | None = None
    notes: tuple[str, ...] = ()

    @property
    def lost(self) -> bool:
        """Whether memory is missing that the guest has, or may have."""
        return any(each.first.lost for each in self.left)


@dataclass
class _Copy:
    """One memory on its way into a file."""

    file: CoreFile
    physical: PhysicalMemory[HostPhys]
    budget: Budget
    left: dict[tuple[str, bool], Left] = field(default_factory=dict)
    copies: list[int] = field(default_factory=list)  # where vmcoreinfo may begin
    ended: Gap | None = None
    _last: Gap | None = None

    def take(self, part: Part) -> bool:
        """Whether to go on."""
        if isinstance(part, Gap):
            if self.budget.take(1, COPYING):
                self._leave(part)
            else:
                self._end(part.start)
            return self.ended is None
        for start in range(0, part.size, AT_ONCE):
            size = min(AT_ONCE, part.size - start)
            place = part.start + start
            if not self.budget.take(-(-size // PAGE_SIZE), COPYING):
                self._end(place)
                return False
            self._copy(place, HostPhys(part.host + start), size)
        return True

    def _end(self, place: int) -> None:
        why = (
            f"after {self.budget.used} pages and entries (--limit {4 * self.budget.limit} for more)"
        )
        self.ended = Gap(place, 0, NOT_LOOKED_AT, why, lost=True)

    def _copy(self, start: int, host: HostPhys, size: int) -> None:
        try:
            data = self.physical.read(host, size)
        except MemoryUnreadable as error:
            if size <= PAGE_SIZE:
                self._leave(unread(start, size, error.kind, error.message))
                return
            for place in range(0, size, PAGE_SIZE):
                self._copy(start + place, HostPhys(host + place), min(PAGE_SIZE, size - place))
            return
        self.file.add(start, data)
        for place in vmcoreinfo.starts(data, start % PAGE_SIZE):
            if len(self.copies) < MOST_COPIES:
                self.copies.append(start + place)

    def _leave(self, gap: Gap) -> None:
        if gap.kind == NOT_LOOKED_AT:
            self._end(gap.start)
            return
        known = self.left.get((gap.kind, gap.lost))
        apart = self._last is None or self._last.end != gap.start or self._last.kind != gap.kind
        self._last = gap
        if known is None:
            self.left[gap.kind, gap.lost] = Left(gap.kind, gap.size, 1, gap)
        else:
            more = known.stretches + apart
            self.left[gap.kind, gap.lost] = replace(
                known, bytes=known.bytes + gap.size, stretches=more
            )


def export(
    whose: str,
    parts: Parts,
    read: Read,
    physical: PhysicalMemory[HostPhys],
    path: Path,
    force: bool,
    budget: Budget,
) -> Exported:
    """Write the memory that `parts` is, `whose` in words; `read` reads it by its
    own addresses.  Raises BadInput where `path` is there already."""
    with CoreFile(path, force) as file:
        copy = _Copy(file, physical, budget)
        for part in _joined(parts(budget)):
            if not copy.take(part):
                break
        linux = _linux(copy.copies, read)
        notes = [(OUR_NOTE, f"{whose}\n".encode())]
        if linux is not None:
            notes.insert(0, (b"VMCOREINFO", linux[0]))
        file.finish(notes)
        return Exported(
            path=path,
            whose=whose,
            bytes=file.memory_bytes,
            zero_bytes=file.zero_bytes,
            stretches=len(file.segments),
            left=tuple(copy.left.values()),
            release=linux[1].release if linux else "",
            ended=copy.ended,
            notes=tuple(name.decode() for name, _ in notes),
        )


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """The same; pieces that follow each other, here and in the host, are one."""
    last: Piece | None = None
    for part in parts:
        if isinstance(part, Gap):
            yield from () if last is None else (last,)
            yield part
            last = None
        elif last and (last.start + last.size, last.host + last.size) == (part.start, part.host):
            last = Piece(last.start, last.size + part.size, last.host)
        else:
            yield from () if last is None else (last,)
            last = part
    if last is not None:
        yield last


def _linux(copies: list[int], read: Read) -> tuple[bytes, Vmcoreinfo] | None:
    """The text of the vmcoreinfo of the kernel that this memory belongs to: a copy whose own
    symbols lead to a kernel of its release.  That of a guest of the guest's does not."""
    for place in copies:
        behind = NOTE_HEADER if place % PAGE_SIZE else 0
        try:
            text = read(place, vmcoreinfo.LIMIT - behind).split(b"\0", 1)[0]
            info = vmcoreinfo.parse(text)
            if info is None or info.phys_base is None or "init_uts_ns" not in info.symbols:
                continue
            uts = read(image_physical(info.symbols["init_uts_ns"], info.phys_base), UTS_SIZE)
        except MemoryUnreadable:
            continue
        if uts_fields(uts)[:2] == ("Linux", info.release):
            return text, info
    return None
