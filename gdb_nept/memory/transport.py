# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways to read a machine's physical memory, and the choice of one.

Each way is tried in the order of `KINDS`, the fastest first, and refuses with a reason that the
user is told.  A way that the user named is the only one that is tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Callable, Protocol

from gdb_nept.address import HostPhys
from gdb_nept.errors import NeptError

AUTO = "auto"
#: What `set nept memory` takes besides `auto`, and the words for it.
KINDS = {
    "process": "the emulator's process",
    "file": "a shared memory-backend-file",
    "phymem": "QEMU's physical memory mode",
    "direct": "the kernel's direct map",
}
NEAR = frozenset(("process", "file"))  # those of this computer's own memory


@dataclass(frozen=True)
class Range:
    """`start` up to, not including, `end`."""

    start: HostPhys
    end: HostPhys


class Transport(Protocol):
    """One way to read physical memory, of a machine that stands."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        ...

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The machine's RAM and ROM; () where that is not known, and everything is asked for."""
        ...

    @property
    def grain(self) -> int:
        """Bytes, a power of two up to a page, that are worth reading and keeping at once."""
        ...

    def describe(self) -> str:
        """How memory is read, in words."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """`read` works only in such a block; the target is left as it was found."""
        ...

    def read(self, address: HostPhys, size: int) -> bytes:
        """Raises MemoryUnreadable, and TargetGone when there is no machine any more."""
        ...


class NotOffered(NeptError):
    """The target does not offer this way to read its memory; the message says why."""


@dataclass(frozen=True)
class Refusal:
    """A way that was tried, and why it is not used."""

    kind: str
    why: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{KINDS[self.kind]}: {self.why}"


@dataclass(frozen=True)
class Choice:
    """The way that is used, and those that were refused before it."""

    transport: Transport
    refusals: tuple[Refusal, ...] = ()


def choose(ways: Mapping[str, Callable[[], Transport]], wanted: str = AUTO) -> Choice:
    """The first of the ways that works, or `wanted`.  Raises NotOffered if none does."""
    refusals: list[Refusal] = []
    for kind in KINDS if wanted == AUTO else (wanted,):
        try:
            return Choice(ways[kind](), tuple(refusals))
        except NotOffered as error:
            refusals.append(Refusal(kind, error.message, error.advice))
    if wanted != AUTO:
        advice = f"{refusals[0].advice}\nset nept memory auto".strip()
        raise NotOffered(f"memory cannot be read through {refusals[0]}", advice)
    told = [f"Not through {refusal}" for refusal in refusals]
    if refusals[-1].advice:  # that of the way which needs least of a target
        told.append(refusals[-1].advice)
    told.append("Or take a dump of its memory, and use: nept --dump FILE")
    raise NotOffered("the target's physical memory cannot be read", "\n".join(told))


def joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same in order, neighbours as one."""
    found: list[Range] = []
    for one in sorted(ranges, key=lambda one: one.start):
        if found and found[-1].end == one.start:
            found[-1] = Range(found[-1].start, one.end)
        else:
            found.append(one)
    return tuple(found)


def covers(ranges: Iterable[Range], address: int, size: int) -> bool:
    """Whether all of [address, address + size) lies in ranges that are in order."""
    place = address
    for found in ranges:
        if found.start <= place < found.end:
            place = found.end
        if place >= address + size:
            return True
    return False


def extent(ranges: tuple[Range, ...]) -> str:
    """How much the machine has, in words that follow others."""
    if not ranges:
        return "; the extent of RAM is not known (no monitor)"
    return f", {sum(one.end - one.start for one in ranges) >> 20} MiB of RAM and ROM"
