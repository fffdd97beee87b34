# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump read through libkdumpfile, in a process of its own (`kdump_child.py`).

That process (`kdump_process.py`) may crash or hang on a damaged file: then the page asked for is
unreadable, and the process is started again for the next.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput, MemoryUnreadable, TargetGone, UnreadKind
from gdb_nept.memory.kdump_child import (
    DATA,
    ERROR,
    LEFT_OUT,
    NOT_IMPLEMENTED,
    PAGE,
    READ,
    REQUEST,
    STRETCHES,
    SYSTEM,
)
from gdb_nept.memory.kdump_process import LARGEST_READ, Child, Dead, Hung
from gdb_nept.memory.ram import END

OPENING, READING = 60.0, 20.0  # seconds that an answer may take
MOST_STARTS = 16
HANG = MOST_STARTS // 2  # starts that one counts for which ends in no answer
CACHED_PAGES = 1 << 13
MOST_STRETCHES = 1 << 16
INSTALL = (
    "Install it (Debian: apt install libkdumpfile10; or drgn, whose wheel holds one), or name the "
    "library: --libkdumpfile FILE, in gdb: set nept libkdumpfile FILE"
)
EMPTY = bytes(PAGE)
WORDS = {
    UnreadKind.FILTERED: "it is left out of the dump (filtered, makedumpfile -d)",
    UnreadKind.NO_RAM: "the dump knows of no RAM there",
    UnreadKind.CUT: "the file is cut before it",
}


class KdumpMemory:
    """Physical memory in a dump.  `cut`: what of it lies behind the end of the file, which the
    library would give as zeros; `zeros_doubted` where it lies cannot be told, so that no page that
    holds nothing is believed.  `held` knows better than the library where the file has anything but
    zeros."""

    def __init__(
        self,
        path: Path,
        library: Path | None = None,
        cut: tuple[range, ...] = (),
        zeros_doubted: bool = False,
        held: Callable[[KdumpMemory], list[range]] | None = None,
    ) -> None:
        self.path = path
        self._held = held
        self._cut, self._zeros_doubted = cut, zeros_doubted
        self._libraries = [str(library)] if library else []
        self._pages: dict[int, bytes] = {}
        self._starts = 0
        self._died = ""
        self._child: Child | None = None
        self.facts: dict[str, Any] = self._started()

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def data_ranges(self) -> list[range]:
        """Where the file has pages, but for such as are known to be zeros."""
        return self.present() if self._held is None else self._held(self)

    def present(self) -> list[range]:
        """Where the file has pages, at most MOST_STRETCHES stretches; the last goes on to the end
        of what there is."""
        found = self._stretches(STRETCHES)
        end = min(int(self.facts.get("end") or END), END)
        if len(found) >= MOST_STRETCHES and found[-1].stop < end:
            found.append(range(found[-1].stop, end))
        return found

    def is_empty(self, address: int) -> bool:
        """Whether the page there can be read, and holds zeros."""
        try:
            return self._page(address // PAGE) == EMPTY
        except MemoryUnreadable:
            return False

    def left_out(self) -> int:
        """Bytes of the RAM that the file tells of and has no pages of; less where that is in more
        than MOST_STRETCHES stretches."""
        return sum(map(len, self._stretches(LEFT_OUT)))

    def _stretches(self, which: bytes) -> list[range]:
        found: list[range] = []
        place = 0
        while len(found) < MOST_STRETCHES:
            try:
                kind, data = self._asked(which, place, 0)
            except Dead as error:
                told = f"libkdumpfile {error} while it told which pages {self.path} has"
                raise BadInput(told, "The file is damaged.  Copy it again.") from None
            words = struct.unpack(f"<{len(data) // 8}Q", data) if kind == DATA else ()
            if not words:
                return found
            pairs = zip(words[::2], words[1::2])
            found += [range(a * PAGE, min(b * PAGE, END)) for a, b in pairs if a * PAGE < END]
            place = words[-1]
        return found

    def read(self, address: HostPhys, size: int) -> bytes:
        start, end = int(address), int(address) + size
        first, last = start // PAGE, (end - 1) // PAGE
        if size <= 0 or start < 0 or end > 1 << 64:
            raise MemoryUnreadable(start, size, "no such address", UnreadKind.NO_RAM)
        if first == last:
            return self._page(first)[start % PAGE :][:size]
        parts = []
        for place in range(first * PAGE, (last + 1) * PAGE, LARGEST_READ):
            parts.append(self._fetched(place, min(LARGEST_READ, (last + 1) * PAGE - place)))
        return b"".join(parts)[start % PAGE :][:size]

    def _page(self, number: int) -> bytes:
        found = self._pages.get(number)
        if found is None:
            found = self._fetched(number * PAGE, PAGE)
            if len(self._pages) >= CACHED_PAGES:
                self._pages.clear()
            self._pages[number] = found
        return found

    def _fetched(self, start: int, size: int) -> bytes:
        for one in self._cut:
            if one.start < start + size and start < one.stop:
                raise self._unreadable(max(start, one.start), size, UnreadKind.CUT)
        try:
            kind, data = self._asked(READ, start, size)
        except Dead as error:
            why = f"libkdumpfile {error} while it read this"
            raise MemoryUnreadable(start, size, why, UnreadKind.CORRUPT) from None
        if kind != DATA or len(data) != size:
            raise self._refused(start, size, data)
        if self._zeros_doubted:
            for place in range(0, size, PAGE):
                if data[place : place + PAGE] == EMPTY:
                    raise self._unreadable(start + place, size, UnreadKind.CUT)
        return data

    def _refused(self, start: int, size: int, data: bytes) -> MemoryUnreadable:
        told = _told(data)
        try:
            kind = UnreadKind(told.get("kind"))
        except ValueError:
            kind = UnreadKind.CORRUPT
        place = told.get("address")
        if kind is UnreadKind.CORRUPT and self._zeros_doubted:
            kind = UnreadKind.CUT
        place = place if isinstance(place, int) else start
        return self._unreadable(place, size, kind, str(told.get("why") or ""))

    def _unreadable(
        self, address: int, size: int, kind: UnreadKind, said: str = ""
    ) -> MemoryUnreadable:
        why = WORDS.get(kind) or f"{self.path.name} is damaged there ({said})"
        return MemoryUnreadable(address, size, why, kind)

    def _asked(self, what: bytes, start: int, size: int) -> tuple[bytes, bytes]:
        """Raises Dead, and TargetGone where it dies again and again."""
        if self._child is None:
            self._started()
        child = cast(Child, self._child)
        try:
            return child.answer(REQUEST.pack(what, start, size), READING)
        except Dead as error:
            self._died = str(error)
            self._starts += HANG - 1 if isinstance(error, Hung) else 0
            self.close()
            raise

    def _started(self) -> dict[str, Any]:
        self._starts += 1
        if self._starts > MOST_STARTS:
            told = f"libkdumpfile {self._died} on {self.path} again and again"
            raise TargetGone(told, "The file is damaged.  Copy it again, or take the dump again.")
        child = Child(self.path, self._libraries)
        try:
            kind, data = child.answer(b"", OPENING)
        except Dead as error:
            child.close()
            told = f"libkdumpfile {error} while it opened {self.path}"
            raise BadInput(told, "The file is damaged.  Copy it again, or take it again.") from None
        if kind == ERROR:
            child.close()
            raise NotOpened(self.path, _told(data))
        self._child = child
        return _told(data)


class NotOpened(BadInput):
    """No library opens the file; `unknown` if none knows its format."""

    def __init__(self, path: Path, told: dict[str, Any]) -> None:
        status, why = told.get("status"), str(told.get("why"))
        self.unknown = status == NOT_IMPLEMENTED
        if status == SYSTEM and why.startswith("no libkdumpfile"):
            super().__init__(f"to read {path.name} takes libkdumpfile: {why}", INSTALL)
        else:
            advice = "Is the file whole?  Copy it again, or take the dump again."
            super().__init__(f"libkdumpfile cannot open {path}: {why}", advice)


def _told(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
