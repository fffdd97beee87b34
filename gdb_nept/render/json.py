# SPDX-License-Identifier: GPL-2.0-or-later
"""A page's data as JSON.

Addresses, entries and values of the target are strings in hexadecimal ("0x101007": JavaScript's
and jq's numbers lose bits above 2^53).  Counts, sizes in bytes, levels and table indexes are
numbers; what does not apply is null.  Keys are never renamed, only added: each renderer of this
folder names its keys in its docstring.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from gdb_nept.render.page import Data, LateData, Page


def draw_json(page: Page) -> str:
    return "".join(pieces(page))


def pieces(page: Page) -> Iterator[str]:
    """The object, key by key; a list that is made item by item has one on each line."""
    yield "{"
    gap = "\n"
    for key, value in page.data.items():
        yield f"{gap}  {json.dumps(key)}: "
        gap = ",\n"
        if isinstance(value, Iterator):
            yield from _items(value)
        else:
            yield json.dumps(_now(value), indent=2).replace("\n", "\n  ")
    yield "\n}"


def line(page: Page) -> str:
    """The object on one line."""
    return json.dumps(whole(page))


def whole(page: Page) -> dict[str, Data]:
    """The object as a value."""
    return {key: _now(value) for key, value in page.data.items()}


def _items(items: Iterator[Data]) -> Iterator[str]:
    gap = "\n    "
    yield "["
    for item in items:
        yield gap + json.dumps(item)
        gap = ",\n    "
    yield "]" if gap[0] == "\n" else "\n  ]"


def lines(page: Page) -> Iterator[str]:
    """Each item of the page's list an object on a line, then all else on one."""
    items = page.data[page.lines]
    assert isinstance(items, Iterator), "the list of a page that has lines is made item by item"
    for item in items:
        yield json.dumps(item) + "\n"
    others = {key: _now(value) for key, value in page.data.items() if key != page.lines}
    yield json.dumps(others)


def _now(value: LateData) -> Data:
    """What can be made only now."""
    found = value() if callable(value) else value
    return list(found) if isinstance(found, Iterator) else found


def hexed(number: int | None) -> Data:
    return None if number is None else f"{number:#x}"
