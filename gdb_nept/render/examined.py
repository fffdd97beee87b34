# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of a guest: what nept-x answers.

JSON: vm, vcpu, space, address, values [address, text], bytes (hexadecimal, as they lie in memory),
ends (null, or address, why, kind: from there on nothing could be read).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.examine import Bytes
from gdb_nept.render.instructions import instructions
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Status
from gdb_nept.render.units import Units, lines, values


def examined_page(chosen: Chosen, found: Bytes, made: Units, bits: int) -> Page:
    """`bits`: how wide the code is, if instructions are asked for."""
    shown = list(_lines(found, made, bits, drawn=True))
    told = [f"{found.start + offset:#x}:  {text}" for offset, text in shown]
    ends = found.ends if found.ends and _wanted(found, made, len(shown)) else None
    if ends is not None:
        told.append(f"{ends.address:#x}:  not read: {ends.why}")
    data: dict[str, Data] = {
        "vm": chosen.vm,
        "vcpu": chosen.place,
        "space": found.space.value,
        "address": hexed(found.start),
        "values": [
            {"address": hexed(found.start + offset), "text": text}
            for offset, text in _lines(found, made, bits, drawn=False)
        ],
        "bytes": found.data.hex(),
        "ends": None
        if ends is None
        else {
            "address": hexed(ends.address),
            "why": ends.why,
            "kind": ends.kind.value if ends.kind else None,
        },
    }
    status = Status.DONE if ends is None else Status.UNREAD if shown else Status.NOT_FOUND
    return Page(("\n".join(told),), data, lambda: status)


def _lines(found: Bytes, made: Units, bits: int, drawn: bool) -> Iterator[tuple[int, str]]:
    if made.letter == "i":
        return islice(instructions(found.data, found.start, bits), made.count)
    return lines(made, found.data) if drawn else values(made, found.data)


def _wanted(found: Bytes, made: Units, shown: int) -> bool:
    """Whether what could not be read was asked for: of strings and instructions more is read than
    is shown."""
    if made.letter in "si":
        return shown < made.count
    return len(found.data) < made.bytes
