# SPDX-License-Identifier: GPL-2.0-or-later
"""A map of L2's guest-physical space as one HTML file: inline SVG, its own script, no network.

What the script draws anew at each zoom is drawn once here, too, for where no script runs; and a
table has it in words.  The page's text and script are in data/map.html.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterator
from pathlib import Path
from string import Template

from gdb_nept.errors import BadInput
from gdb_nept.nested.space_map import PAGE, SpaceMap, Stretch
from gdb_nept.render import text
from gdb_nept.render.map_text import R, W, X, letters, summary

PAGE_FILE = Path(__file__).resolve().parent.parent / "data" / "map.html"
MOST = 40_000  # stretches: some 2 MBytes of HTML
MOST_ROWS = 2_000  # of the table
WIDTH = 1000  # of the picture without a script

#: The style's colours (Okabe and Ito's, which all kinds of sight tell apart), and what they mean.
PAINTS = {
    R | W | X: ("--rwx", "RWX"),
    R | W: ("--rw", "RW-"),
    R | X: ("--rx", "R-X"),
    R: ("--r", "R--"),
    X: ("--x", "--X"),
    0: ("--none", "no rights"),
}
WRONG, UNREAD = ("--wrong", "misconfigured"), ("--unread", "not read")
DERIVED = ("--derived", "derived from KVM's shadow")
MISSING = ("--line", "mapped, and not yet shadowed; in no memslot")
RANKS = {WRONG: 4, DERIVED: 3, UNREAD: 2}  # of several in one place the highest is drawn


def write_picture(found: SpaceMap, path: Path, force: bool, release: str) -> None:
    """Raises BadInput where `path` cannot be written, or is there and not to be replaced."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
        with open(os.open(path, flags, 0o644), "w", encoding="utf-8") as file:
            file.write(picture(found, release))
    except FileExistsError:
        raise BadInput(f"{path} is there already", "Give --force to replace it.") from None
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from None


def picture(found: SpaceMap, release: str) -> str:
    """The whole page."""
    kinds: dict[str, int] = {}
    rows = [_row(one, kinds) for one in found.stretches]
    data = {
        "regions": [[low // PAGE, high // PAGE] for low, high in found.regions],
        "kinds": [json.loads(kind) for kind in kinds],
        "stretches": rows,
    }
    count = len(found.stretches)
    shown = f"{count} rows" if count <= MOST_ROWS else f"the first {MOST_ROWS} of {count} rows"
    notes = "\n".join(f"<p>note: {html.escape(note)}</p>" for note in found.notes)
    return Template(PAGE_FILE.read_text(encoding="utf-8")).substitute(
        title=f"L2 on VM {found.vm}, vCPU {found.vcpu}: guest-physical space",
        summary=html.escape(summary(found)),
        about=html.escape(f"host: Linux {release}" + _so_far(found)),
        static="\n".join(_static(found)),
        legend="".join(_legend()),
        notes=notes,
        rows=shown,
        table="\n".join(_table(found)),
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _so_far(found: SpaceMap) -> str:
    return "" if found.complete else "; not all of the space was looked at"


def _row(one: Stretch, kinds: dict[str, int]) -> list[int | None]:
    """As the script takes it: start and size in pages, kind, where it leads, and of how many."""
    kind = json.dumps(
        {
            "own": _own(one),
            "shadow": _shadow(one),
            "slot": _slot(one),
            "paint": [_css(_own_paint(one)), _css(_shadow_paint(one)), _css(_slot_paint(one))],
            "rank": [_rank(_own_paint(one)), _rank(_shadow_paint(one)), _rank(_slot_paint(one))],
        }
    )
    number = kinds.setdefault(kind, len(kinds))
    size = (one.end - one.start) // PAGE
    return [
        one.start // PAGE,
        size,
        number,
        None if one.l1 is None else one.l1 // PAGE,
        one.several,
    ]


def _own(one: Stretch) -> str:
    kind = one.ept12
    if kind.derived:
        return f"{letters(kind.rights)} at least (derived), {text.size(kind.page_size)} pages"
    if kind.unread:
        return f"not read: {kind.unread}"
    if kind.wrong:
        return kind.wrong.partition(" is ")[2] or kind.wrong
    if not kind.mapped:
        return "not mapped"
    return f"{letters(kind.rights)} {kind.memory_type}, {text.size(kind.page_size)} pages"


def _shadow(one: Stretch) -> str:
    if one.ept02_unread:
        return UNREAD[1]
    if one.ept02 is not None:
        return letters(one.ept02)
    return "not yet" if one.l1 is not None else "-"


def _slot(one: Stretch) -> str:
    if one.l1 is None:
        return ""
    return "no memslot" if one.ept12.slot is None else f"memslot {one.ept12.slot}"


Paint = tuple[str, str]


def _own_paint(one: Stretch) -> Paint | None:
    if one.ept12.derived:
        return DERIVED
    if one.ept12.unread:
        return UNREAD
    if one.ept12.wrong:
        return WRONG
    return PAINTS.get(one.ept12.rights) if one.ept12.mapped else None


def _shadow_paint(one: Stretch) -> Paint | None:
    if one.ept02_unread:
        return UNREAD
    if one.ept02 is not None:
        return PAINTS.get(one.ept02)
    return MISSING if one.l1 is not None else None


def _slot_paint(one: Stretch) -> Paint | None:
    if one.l1 is None:
        return None
    return MISSING if one.ept12.slot is None else PAINTS[R | W]


def _css(paint: Paint | None) -> str:
    return "" if paint is None else f"var({paint[0]})"


def _rank(paint: Paint | None) -> int:
    return 0 if paint is None else RANKS.get(paint, 1)


def _legend() -> Iterator[str]:
    for paint in (*PAINTS.values(), WRONG, DERIVED, UNREAD, MISSING):
        square = (
            f'<svg aria-hidden="true"><rect width="100%" height="100%" fill="{_css(paint)}"/></svg>'
        )
        yield f"<li>{square}{paint[1]}</li>"


def _static(found: SpaceMap) -> Iterator[str]:
    """EPT12 and EPT02 by region, each region as wide as any, for where no script runs."""
    regions = found.regions
    for number, (low, high) in enumerate(regions):
        left, wide = WIDTH * number / len(regions), WIDTH / len(regions) - 4
        inside = (one for one in found.stretches if low <= one.start < high)
        for one in inside:
            x = left + wide * (one.start - low) / (high - low)
            width = max(0.5, wide * (one.end - one.start) / (high - low))
            if wide * (one.end - one.start) / (high - low) < 0.05 and len(found.stretches) > 2000:
                continue  # too narrow to be seen, and there are thousands
            for paint, top in ((_own_paint(one), 34), (_shadow_paint(one), 112)):
                if paint is not None:
                    yield (
                        f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="64" '
                        f'fill="{_css(paint)}"/>'
                    )


def _table(found: SpaceMap) -> Iterator[str]:
    for one in found.stretches[:MOST_ROWS]:
        leads = f"L1 {one.l1:#x}, {_slot(one)}" if one.l1 is not None else ""
        cells = (
            f"{one.start:#x}..{one.end:#x}",
            text.size(one.end - one.start),
            _own(one) + (f" (the most of {one.several})" if one.several > 1 else ""),
            _shadow(one),
            leads,
        )
        yield "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
