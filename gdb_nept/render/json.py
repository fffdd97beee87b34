# SPDX-License-Identifier: GPL-2.0-or-later
"""A page's data as JSON.

Addresses, entries and values of the target are strings in hexadecimal ("0x101007": JavaScript's
and jq's numbers lose bits above 2^53).  Counts, sizes in bytes, levels and table indexes are
numbers; what does not apply is null.  Keys are never renamed, only added: each renderer of this
folder names its keys in its docstring.
"""

from __future__ import annotations

import json

from gdb_nept.render.page import Data, Page


def draw_json(page: Page) -> str:
    return json.dumps(page.data, indent=2)


def hexed(number: int | None) -> Data:
    return None if number is None else f"{number:#x}"
