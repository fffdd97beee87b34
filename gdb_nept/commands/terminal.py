# SPDX-License-Identifier: GPL-2.0-or-later
"""One question on the shell, and its answer on standard output: of the command line and of the
prompt of `nept shell`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Callable, TextIO

from gdb_nept.commands.arguments import HELP
from gdb_nept.commands.catalogue import NAMES, command_named, listing
from gdb_nept.commands.command import Command
from gdb_nept.commands.context import Context
from gdb_nept.commands.numbers import Usage
from gdb_nept.commands.output import ROWS, Sink, ended_by, usable
from gdb_nept.commands.progress import Meter
from gdb_nept.commands.spoken import on_the_shell, shell_manual
from gdb_nept.errors import NeptError
from gdb_nept.near import near
from gdb_nept.render import text
from gdb_nept.render.manual import fitted
from gdb_nept.render.page import WIDTH, Status

#: What a place has beside the commands: names, and what each does.
Beside = Callable[[], Mapping[str, str]]
LONGEST = max(map(len, NAMES))


def answer(
    name: str,
    words: Sequence[str],
    context: Context,
    stream: TextIO,
    beside: Beside = dict,
) -> Status:
    """One command's whole answer; raises NeptError alone.  "x/8xg" is "x /8xg", as in gdb.  Who
    writes a name that is none hears of those `beside` as well."""
    name, slash, form = name.partition("/")
    words = [slash + form, *words] if slash else words
    asked = _named(name, beside)
    rows = ROWS if stream.isatty() else None
    sink = Sink(stream.write, coloured(stream), rows, meter(), width(stream))
    if HELP & set(words):
        sink.put(fitted(shell_manual(asked.manual), sink.width))
        status = Status.DONE
    else:
        status = asked.write_answer(context, words, sink)
    sink.put("\n")
    stream.flush()
    return status


def _named(name: str, beside: Beside) -> Command:
    found = command_named(name)
    if found is None:
        others = beside()
        told = [near(name, (*NAMES, *others)), "Commands:", listing(""), listed(others)]
        raise Usage(f"there is no command '{name}'", "\n".join(filter(None, told)))
    return found


def listed(others: Mapping[str, str]) -> str:
    """A line for each, in the columns of the commands' own."""
    return "\n".join(f"{name:{LONGEST}}  {what}" for name, what in others.items())


def failed(error: NeptError) -> Status:
    """Tells of the error."""
    said = on_the_shell(f"gdb_nept: {error}")
    print(text.escaped(text.paragraph(said)), file=sys.stderr, flush=True)
    return ended_by(error)


def meter() -> Meter | None:
    """On a terminal alone."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    return Meter(_tell)


def _tell(piece: str) -> None:
    sys.stderr.write(piece)
    sys.stderr.flush()


def interrupted() -> Status:
    print("gdb_nept: interrupted", file=sys.stderr, flush=True)
    return Status.INTERRUPTED


def coloured(stream: TextIO) -> bool:
    """On a terminal that knows colours, and where the user did not switch them off."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb"
    return stream.isatty() and not plain


def width(stream: TextIO) -> int:
    """The terminal's, or what $COLUMNS says; the usual one for a file and a pipe."""
    if not stream.isatty() and not os.environ.get("COLUMNS"):
        return WIDTH
    return usable(shutil.get_terminal_size((WIDTH, 24)).columns)
