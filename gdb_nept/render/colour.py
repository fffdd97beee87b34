# SPDX-License-Identifier: GPL-2.0-or-later
"""Colour by pygments, where it is installed; else the text as it is."""

from __future__ import annotations

import functools
from typing import Callable

from gdb_nept.arch.ept import LEVEL_NAMES

GOOD = r"\b(agree|authoritative)\b"
BAD = (
    r"\b(stale|misconfigured|misconfiguration|unreadable|not present|not mapped|no memslot|"
    r"not yet shadowed|write-tracked|gave up|missing)\b"
)
LEVELS = r"\b(" + "|".join(LEVEL_NAMES.values()) + r"|EPTP|EPT12|EPT02|EPT01)\b"
RIGHTS = r"(?<!\S)[R-][W-][X-][u-]?(?!\S)"
ADDRESS = r"\b0x[0-9a-f]+\b"
HEADING = r"^[A-Za-z][^\n]*:$"
RULE = r"^[- ]*--[- ]*$"


def paint(text: str) -> str:
    """`text` with terminal colours, unless pygments is missing."""
    try:
        return _painter()(text)
    except ImportError:
        return text


@functools.lru_cache(maxsize=1)
def _painter() -> Callable[[str], str]:
    from pygments import highlight, token
    from pygments.formatters import TerminalFormatter
    from pygments.lexer import RegexLexer

    class Lexer(RegexLexer):
        name = "nept"
        tokens = {  # noqa: RUF012 (the shape that pygments asks for)
            "root": [
                (RULE, token.Comment),
                (HEADING, token.Generic.Heading),
                (ADDRESS, token.Number),
                (RIGHTS, token.Name.Function),
                (LEVELS, token.Keyword),
                (GOOD, token.String),
                (BAD, token.Generic.Error),
                (r"\w+", token.Text),
                (r"[^\w\n]", token.Text),
                (r"\n", token.Text),
            ]
        }

    lexer, formatter = Lexer(stripnl=False, ensurenl=False), TerminalFormatter()
    return lambda text: highlight(text, lexer, formatter)
