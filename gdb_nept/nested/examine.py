# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of L2, L1 or the host, in the address space that one is asked about, as far as they go.

A read goes over page after page, each found by itself: neighbours of L2's need not be neighbours of
anybody else's.  Where one cannot be read, what was read before it stays, and the place and the
reason are told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Callable

from gdb_nept.address import HostPhys, L1Phys, L2Phys, L2Virt
from gdb_nept.arch.ept import check_physical
from gdb_nept.errors import MemoryUnreadable, UnreadKind
from gdb_nept.memory.budget import charge
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.at_hand import host_of_l2, host_of_l2_linear, host_of_vcpu
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session
from gdb_nept.walk.runs import Unread


class Space(Enum):
    """The value is the name in output and JSON."""

    L2_LINEAR = "L2 linear"
    L2_PHYSICAL = "L2 physical"
    L1_PHYSICAL = "L1 physical"
    HOST_PHYSICAL = "host physical"


@dataclass(frozen=True)
class Break:
    """From `address` on nothing could be read; `kind` as of a page that a dump lacks."""

    address: int
    why: str
    kind: UnreadKind | None


@dataclass(frozen=True)
class Bytes:
    """What lies from `start` on; `ends` is why there is less than was asked for."""

    space: Space
    start: int
    data: bytes
    ends: Break | None = None


def examine(session: Session, chosen: Chosen, space: Space, start: int, size: int) -> Bytes:
    """`size` bytes, or those before the first that cannot be read.  Raises BadInput for what is no
    physical address."""
    if space is not Space.L2_LINEAR:
        check_physical(start)
    data = b""
    for piece in pieces(session, chosen, space, start, size):
        if isinstance(piece, Break):
            return Bytes(space, start, data, piece)
        data += piece
    return Bytes(space, start, data)


def all_or_none(found: Bytes, size: int) -> bytes | Unread:
    """The bytes, if all `size` could be read."""
    if found.ends is None:
        return found.data
    return Unread(found.start, found.start + size, found.ends.why, kind=found.ends.kind)


def pieces(
    session: Session, chosen: Chosen, space: Space, start: int, size: int
) -> Iterator[bytes | Break]:
    """Page by page; a Break is the last."""
    place, end = start, start + size
    while place < end:
        count = min(end - place, PAGE_SIZE - place % PAGE_SIZE)
        try:
            charge(place, count)
            host = HOST[space](session, chosen, place)
            yield session.kernel.physical.read(host, count)
        except MemoryUnreadable as error:
            yield Break(place, error.why, getattr(error, "kind", None))
            return
        place += count


def _host(session: Session, chosen: Chosen, address: int) -> HostPhys:
    return HostPhys(address)


#: Where an address of each space is in the host; each raises MemoryUnreadable.
HOST: dict[Space, Callable[[Session, Chosen, int], HostPhys]] = {
    Space.L2_LINEAR: lambda session, chosen, at: host_of_l2_linear(session, chosen, L2Virt(at)),
    Space.L2_PHYSICAL: lambda session, chosen, at: host_of_l2(session, chosen, L2Phys(at)),
    Space.L1_PHYSICAL: lambda session, chosen, at: host_of_vcpu(session, chosen, L1Phys(at)),
    Space.HOST_PHYSICAL: _host,
}
