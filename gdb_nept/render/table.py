# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables, by tabulate where it is installed, else by a few lines of our own that look the same."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from gdb_nept.render.page import Cells, Table

GAP = "  "
FIRST = 200  # rows by which the widths of all are set
CHUNK = 100  # rows written at once


def draw_table(table: Table, width: int) -> str:
    """The table in at most `width` columns: the last column wraps."""
    return "\n".join(draw_rows(table, width))


def draw_rows(table: Table, width: int, most: int | None = None) -> Iterator[str]:
    """The same in pieces of some lines, as the rows come; at most about `most` of them."""
    rows = map(_in_one_line, table.rows)
    first = list(islice(rows, FIRST if most is None else min(FIRST, most)))
    if not first:
        return
    room = _room([table.headers, *first], width)
    body = [cells for row in first for cells in _wrapped(row, room)]
    widths = _widths([table.headers, *body])
    right = [number in table.right for number in range(len(widths))]
    # the header is a row of ours: tabulate would make each column two wider than its header
    head = [table.headers, tuple("-" * width for width in widths)]
    form = _form(widths, right)
    more = list(islice(rows, 1))
    drawn = _aligned([*head, *body], right) if not more else _plain([*head, *body], form)
    yield "\n".join(line.rstrip() for line in drawn.splitlines())
    if more and most is not None and most <= len(first):
        yield _left_out(1 + (table.rest() if table.rest else sum(1 for _ in rows)))
        return
    left = chain(more, rows)
    while chunk := list(islice(left, CHUNK)):
        yield "\n".join(_lines(chunk, room, form))


def _in_one_line(row: Cells) -> Cells:
    """A name in the target can hold an end of a line, and so forge rows."""
    if "".join(row).isprintable():  # nearly all
        return row
    return tuple("".join(c if c.isprintable() else ascii(c)[1:-1] for c in cell) for cell in row)


def _lines(rows: Iterable[Cells], room: int, form: str) -> Iterator[str]:
    for row in rows:
        if len(row[-1]) <= room:  # nearly all
            yield (form % row).rstrip()
        else:
            yield from ((form % cells).rstrip() for cells in _wrapped(row, room))


def _form(widths: Sequence[int], right: Sequence[bool]) -> str:
    return GAP.join(f"%{'' if flush else '-'}{width}s" for width, flush in zip(widths, right))


def _left_out(rows: int) -> str:
    return f"... {rows} more rows (all of them: --all, or write into a file or a pipe)"


def _aligned(rows: Sequence[Cells], right: list[bool]) -> str:
    """By tabulate, which takes seconds for what our one line does at once if there are many."""
    try:
        from tabulate import tabulate
    except ImportError:
        return _plain(rows, _form(_widths(rows), right))
    how = ["right" if each else "left" for each in right]
    drawn: str = tabulate(rows, tablefmt="plain", colalign=how, disable_numparse=True)
    return drawn


def _plain(rows: Sequence[Cells], form: str) -> str:
    return "\n".join(form % row for row in rows)


def _widths(rows: Sequence[Cells]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows)]


def _room(rows: Sequence[Cells], width: int) -> int:
    """Columns left for the last cell."""
    others = _widths(rows)[:-1]
    return max(16, width - sum(others) - len(GAP) * len(others))


def _wrapped(row: Cells, room: int) -> list[Cells]:
    """The row as one or more rows, of which only the first has the other cells."""
    if len(row[-1]) <= room:
        return [row]
    last = textwrap.wrap(row[-1], room, break_on_hyphens=False)
    empty = ("",) * (len(row) - 1)
    return [(*(row[:-1] if n == 0 else empty), part) for n, part in enumerate(last)]
