# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes in the units and letters of gdb's x command: /8xg, /s, /3i."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gdb_nept.errors import BadInput

SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}
LETTERS = {
    "x": "hexadecimal",
    "z": "hexadecimal, padded",
    "d": "signed decimal",
    "u": "unsigned decimal",
    "o": "octal",
    "t": "binary",
    "a": "address",
    "c": "character",
    "f": "floating point",
    "s": "string",
    "i": "instruction",
}
LONGEST_STRING = 200  # gdb's own "print elements"
LONGEST_INSTRUCTION = 15
MOST = 1 << 20
A_LINE = {1: 8, 2: 8, 4: 4, 8: 2}
WRITTEN = re.compile(r"/(\d*)([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Units:
    """How many of which size, and how each is shown."""

    count: int = 1
    letter: str = "x"
    size: int = 8

    @property
    def bytes(self) -> int:
        """How many to read at most."""
        each = {"s": LONGEST_STRING, "i": LONGEST_INSTRUCTION}.get(self.letter, self.size)
        return self.count * each


def units(written: str) -> Units:
    """/FMT; raises BadInput."""
    found = WRITTEN.fullmatch(written)
    if found is None:
        raise BadInput(f"'{written}' is no format", "Write /COUNT LETTER SIZE, as /8xg.")
    made = Units(int(found[1] or 1))
    sized = False
    for letter in found[2].lower():
        if letter in SIZES:
            made, sized = replace(made, size=SIZES[letter]), True
        elif letter in LETTERS:
            made = replace(made, letter=letter)
        else:
            known = ", ".join(LETTERS)
            raise BadInput(f"'{letter}' is no format", f"Letters: {known}; sizes: b, h, w, g.")
    if not 1 <= made.count <= MOST:
        raise BadInput(f"{made.count} units are none, or too many", f"1 to {MOST}.")
    if made.letter == "c" and not sized:
        made = replace(made, size=1)
    if made.letter == "f" and made.size not in (4, 8):
        raise BadInput("a floating-point number has 4 or 8 bytes", "Write /fw or /fg.")
    return made


def values(made: Units, data: bytes) -> Iterator[tuple[int, str]]:
    """(offset, text) of each unit, or string, that is whole in `data`."""
    if made.letter == "s":
        yield from _strings(made.count, data)
        return
    for number in range(min(made.count, len(data) // made.size)):
        place = number * made.size
        yield place, shown(made, data[place : place + made.size])


def shown(made: Units, unit: bytes) -> str:
    number = int.from_bytes(unit, "little")
    bits = 8 * made.size
    if made.letter == "d":
        return str(int.from_bytes(unit, "little", signed=True))
    if made.letter == "f":
        return repr(struct.unpack("<f" if made.size == 4 else "<d", unit)[0])
    if made.letter == "c":
        character = ascii(chr(number)) if number < 0x80 else f"'\\x{number:02x}'"
        return f"{int.from_bytes(unit, 'little', signed=True)} {character}"
    forms = {"u": "d", "o": "#o", "t": f"0{bits}b", "a": "#x"}
    padded = f"#0{2 + 2 * made.size}x"
    return format(number, forms.get(made.letter, padded))


def _strings(count: int, data: bytes) -> Iterator[tuple[int, str]]:
    place = 0
    for _ in range(count):
        if place >= len(data):
            return
        end = data.find(b"\0", place, place + LONGEST_STRING)
        whole = end >= 0
        end = end if whole else min(len(data), place + LONGEST_STRING)
        text = data[place:end].decode("ascii", "backslashreplace")
        escaped = text.encode("unicode_escape").decode().replace("\\\\x", "\\x").replace('"', '\\"')
        yield place, f'"{escaped}"' + ("" if whole else "...")
        place = end + whole


def lines(made: Units, data: bytes) -> Iterator[tuple[int, str]]:
    """(offset, what stands in the line), as many units a line as gdb puts there."""
    found = list(values(made, data))
    several = 1 if made.letter == "s" else A_LINE[made.size]
    for first in range(0, len(found), several):
        line = found[first : first + several]
        yield line[0][0], "  ".join(text for _, text in line)
