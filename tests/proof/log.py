# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenario file and the log in L1's memory, as tests/guests/{scenario,cases}.h define them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

EXIT, TRANSLATED = 1, 2  # enum outcome
_HEAD = struct.Struct("<8sQQQQ")
_TABLE = struct.Struct("<II")
_CASE = struct.Struct("<QIIBBBBI")
_PATCH = struct.Struct("<QQBBBBI")
RECORD_FORM = struct.Struct("<IBBH5Q4Q")
_CASES, _PATCHES = 3, 4  # places in the list of tables


@dataclass(frozen=True)
class PatchLine:
    keep: int
    set: int
    space: int
    level: int
    walk: int
    beyond: int


@dataclass(frozen=True)
class CaseLine:
    linear: int
    op: int
    flags: int
    patches: tuple[PatchLine, ...]
    features: int = 0  # tests/features/features.h


@dataclass(frozen=True)
class Record:
    """What L1 saw.  Of an exception, `value` is error code << 32 | interruption information."""

    number: int
    outcome: int
    reason: int
    qualification: int
    gpa: int
    gla: int
    value: int
    entries: tuple[int, ...]


def case_lines(file: bytes) -> list[CaseLine]:
    """All cases of a scenario file."""
    patches = [PatchLine(*line[:6]) for line in _lines(file, _PATCHES, _PATCH)]
    found = []
    for linear, _, first, count, op, flags, _, features in _lines(file, _CASES, _CASE):
        own = tuple(patches[first : first + count])
        found.append(CaseLine(linear, op, flags, own, features))
    return found


def _lines(file: bytes, table: int, form: struct.Struct) -> Iterator[tuple[int, ...]]:
    offset, count = _TABLE.unpack_from(file, _HEAD.size + table * _TABLE.size)
    return form.iter_unpack(file[offset : offset + count * form.size])


def records(log: bytes) -> list[Record]:
    """The records of a log; its size is a multiple of theirs."""
    return [record_of(line) for line in RECORD_FORM.iter_unpack(log)]


def record_of(line: tuple[int, ...]) -> Record:
    """From the numbers of a struct log_record."""
    number, outcome, entries, reason, qualification, gpa, gla, _, value, *path = line
    return Record(number, outcome, reason, qualification, gpa, gla, value, tuple(path[:entries]))


RECORD_SIZE = RECORD_FORM.size
