# SPDX-License-Identifier: GPL-2.0-or-later
"""Colour by pygments, where it is installed; else the text as it is."""

from __future__ import annotations

import functools
from typing import Callable

#: What the words say, and the colour that says the same: green what agrees, red what is broken or
#: differs, yellow what makes an access exit.  A field of vmcs12 that is "stale: ..." is neither.
GOOD = r"nothing is stale or broken|\b(agree|agrees|goes through)\b"
BAD = (
    r"(?<!maybe )\bstale\b(?!:)|^missing\b|\bAt fault\b(?!: not known)|"
    r"\b(broken|differ|differs|DIFFER|refused by VM entry|VM entry refuses|"
    r"a mistake in gdb_nept)\b"
)
EXIT = (
    r"\bnot mapped\b(?! in the host)|"
    r"\b(EPT violation|EPT misconfiguration|violation|misconfiguration|misconfigured|misconfig|"
    r"page-modification log full|no memslot|hidden memslot|not present|"
    r"APIC access|triple fault)\b"
)
#: What is not in question.
QUIET = r"\b(hole|holes|none: L0 alone|kept)\b"
#: The names of a table's columns say nothing of what stands in it.
COLUMNS = r"^[^\n]+(?=\n[- ]*--[- ]*$)"
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
                (COLUMNS, token.Text),
                (HEADING, token.Generic.Heading),
                (GOOD, token.Generic.Inserted),
                (BAD, token.Generic.Deleted),
                (EXIT, token.Generic.Emph),
                (QUIET, token.Comment),
                (r"\w+", token.Text),
                (r"[^\w\n]", token.Text),
                (r"\n", token.Text),
            ]
        }

    scheme = {
        token.Token: ("", ""),
        token.Comment: ("gray", "brightblack"),
        token.Generic.Heading: ("**", "**"),
        token.Generic.Inserted: ("green", "green"),
        token.Generic.Deleted: ("red", "red"),
        token.Generic.Emph: ("yellow", "yellow"),
    }
    lexer = Lexer(stripnl=False, ensurenl=False)
    formatter = TerminalFormatter(bg="dark", colorscheme=scheme)
    return lambda text: highlight(text, lexer, formatter)
