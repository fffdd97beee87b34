# SPDX-License-Identifier: GPL-2.0-or-later
"""A map of L2's guest-physical space: what nept-map answers.

JSON: vm, vcpu, file (null, or the HTML file that was written), regions [start, end], stretches
[start, end, how (EPT12 is known: read, derived or missing), l1 (where it leads, or null), rights
(null where derived: then rights_at_least), memory_type, page_size, misconfigured and unread (null,
or why), slot (null: no memslot), ept02 (rights, or null), ept02_unread, several (of how many unlike
ones it is the largest: 1 but in a space of more than 160,000)], mapped, shadowed, misconfigured,
unread and derived (bytes), complete, notes [text].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from gdb_nept.arch.ept import EptEntry
from gdb_nept.nested.journey import Hop
from gdb_nept.nested.space_map import SpaceMap, Stretch
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import WIDTH, Data, LateData, Page, Status

R, W, X = EptEntry.read.mask, EptEntry.write.mask, EptEntry.execute.mask
SIGNS = {R | W | X: "#", R | W: "w", R | X: "x", R: "r", X: "X", 0: "-"}
WRONG, UNREAD, DERIVED, HOLE = "!", "?", "~", " "
LEGEND = (
    "# RWX   w RW-   x R-X   r R--   X --X   ! misconfigured   ? not read\n"
    "blank: not mapped, and of EPT02 not shadowed.  A sign is the most of its stretch."
)
LEGEND_DERIVED = "~ EPT12 cannot be read there, and is derived from KVM's shadow of it"
PREFIX = 8  # "  EPT12 "


def map_page(found: SpaceMap, file: str = "") -> Page:
    """With the regions of the space as two strips each; `file` is where a picture was written."""
    blocks = [_head(found, file)]
    blocks += [_strips(found, low, high) for low, high in found.regions]
    blocks += [LEGEND] if found.regions else []
    blocks += [LEGEND_DERIVED] if any(map(_derived, found.stretches)) else []
    blocks += [f"note: {note}" for note in found.notes]
    return Page(tuple(blocks), _data(found, file), lambda: _status(found))


def _status(found: SpaceMap) -> Status:
    if not found.complete:
        return Status.INCOMPLETE
    unread = any(one.ept12.unread or one.ept02_unread for one in found.stretches)
    return Status.UNREAD if unread else Status.DONE


def _bytes(found: SpaceMap, holds: Callable[[Stretch], bool]) -> int:
    return sum(one.size for one in found.stretches if holds(one))


def _mapped(one: Stretch) -> bool:
    return one.ept12.mapped


def _shadowed(one: Stretch) -> bool:
    return one.ept12.mapped and one.ept02 is not None


def _wrong(one: Stretch) -> bool:
    return bool(one.ept12.wrong)


def _unread(one: Stretch) -> bool:
    return one.ept12.how is Hop.MISSING


def _derived(one: Stretch) -> bool:
    return one.ept12.derived


def summary(found: SpaceMap) -> str:
    """8G mapped by EPT12, 2M of it in EPT02; 48K misconfigured; 2M derived; 2M not read"""
    wrong, unread = _bytes(found, _wrong), _bytes(found, _unread)
    derived = _bytes(found, _derived)
    mapped, shadowed = text.size(_bytes(found, _mapped)), text.size(_bytes(found, _shadowed))
    told = f"{mapped} mapped by EPT12, {shadowed} of it in EPT02"
    told += f"; {text.size(wrong)} misconfigured" if wrong else ""
    told += f"; {text.size(derived)} derived" if derived else ""
    told += f"; {text.size(unread)} not read" if unread else ""
    lacking = _bytes(found, lambda one: one.ept02_unread)
    return told + (f"; EPT02 not read for {text.size(lacking)}" if lacking else "")


def _head(found: SpaceMap, file: str) -> str:
    where = f"L2 on VM {found.vm}, vCPU {found.vcpu}: {summary(found)}"
    so_far = "" if found.complete else "\nnot all of it was looked at (--limit N for more)"
    return where + so_far + (f"\nthe picture is in {file}: open it in a browser" if file else "")


def _strips(found: SpaceMap, low: int, high: int) -> str:
    columns = WIDTH - PREFIX - 2
    inside = [one for one in found.stretches if one.start < high and one.end > low]
    lines = [f"{low:#x}..{high:#x} ({text.size(high - low)}):"]
    for name, sign in (("EPT12", _own), ("EPT02", _shadow)):
        strip = "".join(_signs(inside, low, high, columns, sign))
        lines.append(f"  {name} |{strip}|")
    return "\n".join(lines)


def _signs(
    inside: list[Stretch], low: int, high: int, columns: int, sign: Callable[[Stretch], str]
) -> Iterator[str]:
    """One a column: what is wrong, derived or unread in it, else what most of it is."""
    number = 0
    for column in range(columns):
        start = low + (high - low) * column // columns
        end = max(start + 1, low + (high - low) * (column + 1) // columns)
        while number < len(inside) and inside[number].end <= start:
            number += 1
        weights: dict[str, int] = {}
        for one in islice(inside, number, None):
            if one.start >= end:
                break
            shown = sign(one)
            weights[shown] = weights.get(shown, 0) + min(one.end, end) - max(one.start, start)
        weights.pop(HOLE, None)
        worst = [each for each in (WRONG, DERIVED, UNREAD) if each in weights]
        yield worst[0] if worst else max(weights, key=weights.__getitem__, default=HOLE)


def _own(one: Stretch) -> str:
    if one.ept12.derived:
        return DERIVED
    if one.ept12.unread:
        return UNREAD
    if one.ept12.wrong:
        return WRONG
    return SIGNS.get(one.ept12.rights, "#") if one.ept12.mapped else HOLE


def _shadow(one: Stretch) -> str:
    if one.ept02_unread:
        return UNREAD
    return HOLE if one.ept02 is None else SIGNS.get(one.ept02, "#")


def _data(found: SpaceMap, file: str) -> dict[str, LateData]:
    return {
        "vm": found.vm,
        "vcpu": found.vcpu,
        "file": file or None,
        "regions": [{"start": hexed(low), "end": hexed(high)} for low, high in found.regions],
        "stretches": (_stretch(one) for one in found.stretches),
        "mapped": _bytes(found, _mapped),
        "shadowed": _bytes(found, _shadowed),
        "misconfigured": _bytes(found, _wrong),
        "unread": _bytes(found, _unread),
        "derived": _bytes(found, _derived),
        "complete": found.complete,
        "notes": list[Data](found.notes),
    }


def letters(rights: int) -> str:
    return text.rights(EptEntry(rights))


def _stretch(one: Stretch) -> Data:
    kind = one.ept12
    return {
        "start": hexed(one.start),
        "end": hexed(one.end),
        "how": kind.how.value,
        "l1": hexed(one.l1),
        "rights": letters(kind.rights) if kind.mapped else None,
        "rights_at_least": letters(kind.rights) if kind.derived else None,
        "memory_type": kind.memory_type if kind.mapped else None,
        "page_size": kind.page_size or None,
        "misconfigured": kind.wrong or None,
        "unread": kind.unread or None,
        "slot": kind.slot,
        "ept02": None if one.ept02 is None else letters(one.ept02),
        "ept02_unread": one.ept02_unread,
        "several": one.several,
    }
