# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person sees of a page."""

from __future__ import annotations

from gdb_nept.render.page import WIDTH, Page
from gdb_nept.render.text import draw


def drawn(page: Page) -> str:
    text = draw(page)
    assert max(map(len, text.splitlines())) <= WIDTH
    return text
