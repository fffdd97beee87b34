# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb's screen: its colour and width, how far a command is, and how an error is shown there."""

from __future__ import annotations

import os
from typing import Any

import gdb

from gdb_nept.commands.progress import Meter
from gdb_nept.errors import NeptError
from gdb_nept.render import text


def refusal(error: NeptError) -> gdb.GdbError:
    """What to raise in gdb's own calls: of that gdb shows the message alone."""
    return gdb.GdbError(text.escaped(text.paragraph(str(error))))


def coloured() -> bool:
    """Colour on a terminal only, and where the user did not switch it off.  (What a script takes
    with gdb.execute() is no terminal's: gdb says so by `from_tty`.)"""
    if "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return bool(gdb.parameter("style enabled")) and os.isatty(1)


def width() -> int | None:
    """`set width`; None: unlimited."""
    found: Any = gdb.parameter("width")
    return int(found) if found else None


def meter() -> Meter | None:
    """On a terminal alone."""
    return Meter(_tell) if os.isatty(2) else None


def _tell(piece: str) -> None:
    gdb.write(piece, gdb.STDERR)
    gdb.flush(gdb.STDERR)
