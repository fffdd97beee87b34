# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that reads a dump through libkdumpfile, and may die of it.

    python3 kdump_child.py FILE LIBRARY...      "": those that the system has

libkdumpfile (https://github.com/ptesarik/libkdumpfile, kdumpfile.h) crashes or hangs on some
damaged headers; so neither gdb nor a run over many files calls it.  This file is run by itself,
under any Python 3, and imports nothing of ours.  On its standard output it writes one message of
JSON about the file, then answers requests from its standard input until that is closed.  Both are
little-endian: a request is REQUEST (what, from, size), an answer is ANSWER (what, size) and bytes.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from typing import Any, BinaryIO

REQUEST = struct.Struct("<cQQ")
ANSWER = struct.Struct("<cQ")
DATA, REFUSED, ERROR = b"d", b"r", b"e"  # answers: bytes; JSON of what is not there; JSON of why
READ, STRETCHES, LEFT_OUT = b"r", b"s", b"l"  # requests
MOST_STRETCHES = 1 << 12  # in one answer
PAGE = 4096
LAST = 1 << 40  # pages that there can be
MACHINE = 1  # KDUMP_MACHPHYSADDR; 0 would need a translation, which a dump may lack
OK, SYSTEM, NOT_IMPLEMENTED, NO_DATA, CORRUPT, END = 0, 1, 2, 3, 4, 7  # kdump_status
DIRECTORY, NUMBER, STRING, BITMAP = 1, 2, 4, 5  # kdump_attr_type_t
MOST_CPUS = 4096
LONGEST = 90  # seconds of one call into the library: longer than anybody waits for it
MOST_MEMORY = 4 << 30  # bytes of address space that a damaged header may make the library take
KINDS = {NO_DATA: "filtered", END: "cut", SYSTEM: "corrupt"}
USUAL = tuple(f"libkdumpfile.so.{number}" for number in (12, 11, 10, 13, 14))


class Attribute(ctypes.Structure):
    """struct kdump_attr: its value as the 64 bits of the union."""

    _fields_ = (("kind", ctypes.c_int), ("value", ctypes.c_uint64))


class Failed(Exception):
    """The library refused; `status` is its kdump_status."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class KdumpFile:
    """One file, opened by one library.  Raises Failed, and OSError and AttributeError for what is
    no such library."""

    def __init__(self, library: str, file: int) -> None:
        self.library = ctypes.CDLL(library)
        for name in ("kdump_open_fdset", "kdump_bmp_get_bits", "kdump_bmp_find_set"):
            getattr(self.library, name)
        self.library.kdump_new.restype = ctypes.c_void_p
        self.library.kdump_get_err.restype = ctypes.c_char_p
        self.context = ctypes.c_void_p(self.library.kdump_new())
        self._set("file.mmap_policy", NUMBER, 0)  # never: a cut file would be SIGBUS
        self._check(self.library.kdump_open_fdset(self.context, 1, ctypes.byref(_int(file))))
        if self._value("arch.name") is None:  # QEMU's kdump files; not before the file is open
            self._name = ctypes.create_string_buffer(b"x86_64")
            self._set("arch.name", STRING, ctypes.addressof(self._name))
        self.present = self._bitmap("file.pagemap")
        self.memory = self._bitmap("memory.pagemap")

    def facts(self) -> dict[str, object]:
        """What the dump tells of itself, in JSON's types."""
        return {
            "format": self._text("file.description") or self._text("file.format"),
            "arch": self._text("arch.name"),
            "page": self._value("arch.page_size"),
            "end": (self._value("max_pfn") or 0) * PAGE,
            "cpus": self._cpus(),
            "vmcoreinfo": self._vmcoreinfo(),
        }

    def read(self, start: int, size: int) -> tuple[bytes, bytes]:
        """An answer and its bytes."""
        first, last = start // PAGE, (start + max(size, 1) - 1) // PAGE
        absent = self._next(self.present, first, clear=True)
        if absent is not None and absent <= last:
            return REFUSED, _json(self._absent(absent))
        buffer = ctypes.create_string_buffer(size)
        length = ctypes.c_size_t(size)
        status = self.library.kdump_read(
            self.context, MACHINE, ctypes.c_uint64(start), buffer, ctypes.byref(length)
        )
        if status != OK:
            place = start + length.value
            kind = KINDS.get(status, "corrupt")
            return REFUSED, _json({"address": place, "kind": kind, "why": self._said()})
        return DATA, buffer.raw

    def stretches(self, first: int) -> tuple[bytes, bytes]:
        """Where pages are in the file, from page `first` on: pairs of the first and of the one
        behind the last."""
        found: list[int] = []
        place: int | None = first
        while place is not None and len(found) < 2 * MOST_STRETCHES:
            start = self._next(self.present, place)
            if start is None:
                break
            place = self._next(self.present, start, clear=True)
            found += [start, start + 1 if place is None else place]
        return DATA, struct.pack(f"<{len(found)}Q", *found)

    def left_out(self, first: int) -> tuple[bytes, bytes]:
        """In the same way, where there is RAM whose pages are not in the file."""
        found: list[int] = []
        place = first
        while place < LAST and len(found) < 2 * MOST_STRETCHES:
            start = self._next(self.memory, place)
            if start is None or start < place:
                break
            end = min(self._next(self.memory, start, clear=True) or LAST, LAST)
            if end <= start:  # some damage makes the library go back
                break
            place = end
            hole = self._next(self.present, start, clear=True)
            if hole is None or hole >= end:
                continue
            back = self._next(self.present, hole)
            place = end if back is None else min(back, end)
            found += [hole, place]
        return DATA, struct.pack(f"<{len(found)}Q", *found)

    def _absent(self, page: int) -> dict[str, object]:
        kind = "filtered" if self._next(self.memory, page) == page else "no RAM"
        return {"address": page * PAGE, "kind": kind, "why": ""}

    def _next(self, bitmap: int | None, page: int, clear: bool = False) -> int | None:
        """The first page from `page` on whose bit is set, or clear; None if there is none."""
        if bitmap is None:
            return page if clear else None
        found = ctypes.c_uint64(page)
        function = "kdump_bmp_find_clear" if clear else "kdump_bmp_find_set"
        status = getattr(self.library, function)(ctypes.c_void_p(bitmap), ctypes.byref(found))
        return found.value if status == OK else None

    def _cpus(self) -> list[dict[str, int]]:
        number = self._value("cpu.number") or 0
        names = ("rip", "rsp", "cr3")
        found = []
        for cpu in range(min(number, MOST_CPUS)):
            values = {name: self._value(f"cpu.{cpu}.reg.{name}") for name in names}
            found.append({name: value for name, value in values.items() if value is not None})
        return found

    def _vmcoreinfo(self) -> str:
        """'' if the dump has none."""
        text = self._text("linux.vmcoreinfo.raw")
        if text is not None:
            return text
        name = ctypes.create_string_buffer(b"linux")
        try:
            self._set("addrxlat.ostype", STRING, ctypes.addressof(name))
        except Failed:
            return ""  # its page tables are not in the dump
        if not hasattr(self.library, "kdump_vmcoreinfo_raw"):
            return ""
        found = ctypes.c_char_p()
        status = self.library.kdump_vmcoreinfo_raw(self.context, ctypes.byref(found))
        self.library.kdump_clear_err(self.context)
        return (found.value or b"").decode("latin-1") if status == OK else ""

    def _bitmap(self, key: str) -> int | None:
        found = self._attribute(key)
        return found.value if found is not None and found.kind == BITMAP else None

    def _value(self, key: str) -> int | None:
        found = self._attribute(key)
        return None if found is None else int(found.value)

    def _text(self, key: str) -> str | None:
        found = self._attribute(key)
        if found is None or found.kind != STRING:
            return None
        return ctypes.string_at(found.value).decode("latin-1")

    def _attribute(self, key: str) -> Any:
        found = Attribute()
        status = self.library.kdump_get_attr(self.context, key.encode(), ctypes.byref(found))
        if status != OK:
            self.library.kdump_clear_err(self.context)
            return None
        return found

    def _set(self, key: str, kind: int, value: int) -> None:
        wanted = Attribute(kind, value)
        self._check(self.library.kdump_set_attr(self.context, key.encode(), ctypes.byref(wanted)))

    def _check(self, status: int) -> None:
        if status != OK:
            raise Failed(status, self._said())

    def _said(self) -> str:
        said = (self.library.kdump_get_err(self.context) or b"").decode("utf-8", "replace")
        self.library.kdump_clear_err(self.context)
        return said


def opened(path: str, libraries: list[str]) -> KdumpFile:
    """By the first library that knows the file's format.  Raises Failed: NOT_IMPLEMENTED where
    none does, SYSTEM where there is no library at all."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    failed: Failed | None = None
    for name in candidates(libraries):
        try:
            found = KdumpFile(name, file)
        except Failed as error:
            if failed is None or failed.status == NOT_IMPLEMENTED:
                failed = error
            continue
        except (OSError, AttributeError) as error:
            if name in libraries:
                failed = failed or Failed(SYSTEM, f"no libkdumpfile that we can use: {error}")
            continue
        return found
    raise failed or Failed(SYSTEM, "no libkdumpfile")


def candidates(libraries: list[str]) -> Iterator[str]:
    """The names in order; for "" those of the system, of which find_library asks last, since it is
    slow."""
    for name in libraries:
        if name:
            yield name
            continue
        yield from USUAL
        found = find_library("kdumpfile")
        if found and found not in USUAL:
            yield found


def _int(number: int) -> ctypes.c_int:
    return ctypes.c_int(number)


def _json(told: object) -> bytes:
    return json.dumps(told).encode()


def serve(dump: KdumpFile, requests: BinaryIO, answers: BinaryIO) -> None:
    signal.alarm(0)
    while len(asked := requests.read(REQUEST.size)) == REQUEST.size:
        signal.alarm(LONGEST)
        what, start, size = REQUEST.unpack(asked)
        if what == READ:
            kind, data = dump.read(start, size)
        elif what == STRETCHES:
            kind, data = dump.stretches(start)
        else:
            kind, data = dump.left_out(start)
        _send(answers, kind, data)
        signal.alarm(0)


def _send(answers: BinaryIO, kind: bytes, data: bytes) -> None:
    answers.write(ANSWER.pack(kind, len(data)))
    answers.write(data)
    answers.flush()


def main(path: str, libraries: list[str]) -> None:
    """Serve reads of the dump at `path` on stdin and stdout, by the first of `libraries` that opens
    it."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(LONGEST)  # who asked may be gone when the library hangs
    try:
        dump = opened(path, libraries)
        facts = dump.facts()
    except Failed as error:
        _send(answers, ERROR, _json({"status": error.status, "why": str(error)}))
        return
    except OSError as error:
        _send(answers, ERROR, _json({"status": SYSTEM, "why": str(error)}))
        return
    _send(answers, DATA, _json(facts))
    serve(dump, sys.stdin.buffer, answers)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
