# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes kallsyms' tables as scripts/kallsyms.c of each time did, for tests to read back."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gdb_nept.target.kallsyms import Rule

Symbols = list[tuple[str, str, int]]  # type letter, name, address
PAIRS = {1: b"sys", 2: b"kvm_", 3: b"vmx", 4: b"Tk", 200: b"nested_"}


@dataclass(frozen=True)
class Style:
    late: bool  # offsets behind the names (6.4)
    rule: Rule
    marker: str = "I"  # "Q" up to 4.19
    seqs: bool = True
    unit: int = 8  # alignment of the tables


STYLES = {
    "4.9 addresses, u64 markers": Style(False, Rule.ABSOLUTE, "Q", False),
    "4.14 percpu, u64 markers": Style(False, Rule.PERCPU, "Q", False),
    "5.10 percpu": Style(False, Rule.PERCPU, "I", False),
    "6.1 percpu, seqs": Style(False, Rule.PERCPU),
    "6.3 one CPU": Style(False, Rule.RELATIVE),
    "6.12 percpu": Style(True, Rule.PERCPU),
    "6.17 relative": Style(True, Rule.RELATIVE),
    "7.1 own place": Style(True, Rule.OWN_PLACE),
    "7.2 own place, aligned to 4": Style(True, Rule.OWN_PLACE, unit=4),
}


def tokens() -> list[bytes]:
    return [PAIRS.get(code, bytes([code]) if 32 < code < 127 else b"\xff") for code in range(256)]


def align(data: bytes, unit: int) -> bytes:
    return data + bytes(-len(data) % unit)


def encode_names(symbols: Symbols) -> tuple[bytes, list[int]]:
    names, marks = b"", []
    for number, (letter, name, _) in enumerate(symbols):
        if number % 256 == 0:
            marks.append(len(names))
        text = (letter + name).encode()
        for code, pair in PAIRS.items():
            text = text.replace(pair, bytes([code]))
        length = len(text)
        big = length > 127
        names += bytes([length & 0x7F | 0x80, length >> 7] if big else [length]) + text
    return names, marks


def write(symbols: Symbols, style: Style, start: int, base: int) -> tuple[bytes, dict[str, int]]:
    """The tables as they lie from virtual address `start` on, and the address of each."""
    names, marks = encode_names(symbols)
    table = b"".join(token + b"\0" for token in tokens())
    places, running = [], 0
    for token in tokens():
        places.append(running)
        running += len(token) + 1
    parts: list[tuple[str, bytes]] = [
        ("num_syms", struct.pack("<Q" if style.unit == 8 else "<I", len(symbols))),
        ("names", names),
        ("markers", struct.pack(f"<{len(marks)}{style.marker}", *marks)),
    ]
    seqs = ("seqs_of_names", bytes(range(3)) * len(symbols))
    tail = [("token_table", table), ("token_index", struct.pack("<256H", *places))]
    head: list[tuple[str, bytes]] = []
    width = 8 if style.rule is Rule.ABSOLUTE else 4
    entries = ("offsets", bytes(width * len(symbols)))
    relative = [("relative_base", struct.pack("<Q", base))]
    if style.rule in (Rule.ABSOLUTE, Rule.OWN_PLACE):
        relative = []
    if style.late:
        parts += [*tail, entries, *relative, seqs]
    else:
        head = [entries, *relative]
        parts = head + parts + ([seqs] if style.seqs else []) + tail
    return _laid_out(parts, symbols, style, start, base)


def _laid_out(
    parts: list[tuple[str, bytes]], symbols: Symbols, style: Style, start: int, base: int
) -> tuple[bytes, dict[str, int]]:
    where, place = {}, start
    for name, data in parts:
        where[name] = place
        place += len(align(data, style.unit))
    values = [
        _entry(style.rule, where["offsets"] + 4 * n, base, s[2]) for n, s in enumerate(symbols)
    ]
    code = "Q" if style.rule is Rule.ABSOLUTE else "i" if style.rule is not Rule.RELATIVE else "I"
    filled = dict(parts)
    filled["offsets"] = struct.pack(f"<{len(values)}{code}", *values)
    return b"".join(align(filled[name], style.unit) for name, _ in parts), where


def _entry(rule: Rule, place: int, base: int, address: int) -> int:
    if rule is Rule.ABSOLUTE:
        return address
    if rule is Rule.RELATIVE:
        return address - base
    if rule is Rule.OWN_PLACE:
        return address - place
    return address if address < 1 << 31 else base - 1 - address
