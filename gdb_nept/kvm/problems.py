# SPDX-License-Identifier: GPL-2.0-or-later
"""What could not be told of a VM: in words, and of memory that cannot be read, its kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gdb_nept.errors import MemoryUnreadable, NeptError, UnreadKind
from gdb_nept.memory.budget import NotLookedAt


@dataclass(frozen=True)
class Unreadable:
    """`what` is one of the problems of which it is told."""

    what: str
    kind: UnreadKind


def kind_of(error: NeptError) -> UnreadKind | None:
    """What became of the memory; None if that is not why."""
    if isinstance(error, MemoryUnreadable) and not isinstance(error, NotLookedAt):
        return error.kind
    return None


class Problems:
    """Collected while something is read."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.unreadable: list[Unreadable] = []

    def add(self, what: str, kind: UnreadKind | None = None) -> None:
        if not what:
            return
        self.texts.append(what)
        if kind is not None:
            self.unreadable.append(Unreadable(what, kind))

    def take(self, texts: Iterable[str], unreadable: Iterable[Unreadable] = ()) -> None:
        self.texts += texts
        self.unreadable += unreadable
