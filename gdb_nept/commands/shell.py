# SPDX-License-Identifier: GPL-2.0-or-later
"""nept shell"""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TextIO

from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.numbers import Usage
from gdb_nept.commands.prompt import Prompt
from gdb_nept.commands.shell_only import shell_command
from gdb_nept.render.page import Status


@shell_command("shell")
def shell(context: DumpContext, args: Namespace, stream: TextIO) -> Status:
    """Ask one question after the other of a dump that is opened once.

    Usage: nept [--dump FILE] [--btf FILE] shell [--no-color]

    A line at the prompt is a command with its arguments, as after "nept --dump FILE".  Tab
    completes commands, options and names of fields; the arrows go through the lines of before,
    also of earlier sessions ($XDG_STATE_HOME/gdb_nept/history, or ~/.local/state).

      dump FILE      goes on with another dump
      help [NAME]    lists the commands, or shows the manual of one
      quit, Ctrl-D   ends

    Ctrl-C ends an answer, or leaves a line; the prompt stays, also after an error.  What comes
    from a file or a pipe is answered without a prompt; the exit status is the gravest then.

    Example:
      $ nept --dump memory.raw shell
      nept> walk 0x2000000
    """
    prompt = Prompt(context, stream, coloured=not args.no_color)
    if sys.stdin is None:
        raise Usage("there are no questions: standard input is closed")
    if sys.stdin.isatty():
        return prompt.converse()
    return prompt.answer_all(sys.stdin)
