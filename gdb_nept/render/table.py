# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables, by tabulate where it is installed, else by a few lines of our own that look the same."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from gdb_nept.render.page import Table

GAP = "  "
MANY = 1000  # rows
Rows = Sequence["tuple[str, ...]"]


def draw_table(table: Table, width: int) -> str:
    """The table in at most `width` columns: the last column wraps."""
    room = _room(table, width)
    body = [cells for row in table.rows for cells in _wrapped(row, room)]
    if not body:
        return ""
    widths = _widths([table.headers, *body])
    # the header is a row of ours: tabulate would make each column two wider than its header
    rows = [table.headers, tuple("-" * width for width in widths), *body]
    right = [number in table.right for number in range(len(widths))]
    drawn = _aligned(rows, widths, right)
    return "\n".join(line.rstrip() for line in drawn.splitlines())


def _aligned(rows: Rows, widths: list[int], right: list[bool]) -> str:
    """By tabulate; it takes seconds for what our few lines do at once if there are many rows."""
    if len(rows) > MANY:
        return _plain(rows, widths, right)
    try:
        from tabulate import tabulate
    except ImportError:
        return _plain(rows, widths, right)
    how = ["right" if each else "left" for each in right]
    drawn: str = tabulate(rows, tablefmt="plain", colalign=how, disable_numparse=True)
    return drawn


def _plain(rows: Rows, widths: list[int], right: list[bool]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        columns = zip(cells, widths, right)
        return GAP.join(c.rjust(w) if flush else c.ljust(w) for c, w, flush in columns)

    return "\n".join(line(row) for row in rows)


def _widths(rows: Rows) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows)]


def _room(table: Table, width: int) -> int:
    """Columns left for the last cell."""
    others = _widths([table.headers, *table.rows])[:-1]
    return max(20, width - sum(others) - len(GAP) * len(others))


def _wrapped(row: tuple[str, ...], room: int) -> list[tuple[str, ...]]:
    """The row as one or more rows, of which only the first has the other cells."""
    if len(row[-1]) <= room:
        return [row]
    last = textwrap.wrap(row[-1], room, break_on_hyphens=False)
    empty = ("",) * (len(row) - 1)
    return [(*(row[:-1] if n == 0 else empty), part) for n, part in enumerate(last)]
