# SPDX-License-Identifier: GPL-2.0-or-later
"""What nept does on the shell alone, since gdb has it already or has no use for it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Callable, TextIO

from gdb_nept.commands.arguments import HELP, Argument, argument, parsed
from gdb_nept.commands.command import Declared, door
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.terminal import width
from gdb_nept.render.manual import fitted
from gdb_nept.render.page import Status

#: Each is the function of that name in the file of that name.
NAMES = ("shell", "triage", "schema")

Run = Callable[[DumpContext, argparse.Namespace, TextIO], Status]
COMMON = (argument("--no-color", action="store_true"),)


class ShellCommand(Declared[Run]):
    """What is asked on the shell alone."""

    def answer(self, context: DumpContext, words: Sequence[str], stream: TextIO) -> Status:
        """Raises NeptError."""
        if HELP & set(words):
            stream.write(fitted(self.manual, width(stream)) + "\n")
            return Status.DONE
        with door():
            args = parsed(f"nept {self.name}", (*self.arguments, *COMMON), words, context.number)
            return self.run(context, args, stream)


def shell_command(name: str, *arguments: Argument) -> Callable[[Run], ShellCommand]:
    """Declare the function below as `nept name`."""
    return lambda run: ShellCommand(name, arguments, run)


def shell_command_named(name: str) -> ShellCommand | None:
    """The command `nept name`; None if it is no such one."""
    if name not in NAMES:
        return None
    found: ShellCommand = getattr(import_module(f"gdb_nept.commands.{name}"), name)
    return found


def shell_commands() -> dict[str, str]:
    """Each with its summary."""
    found = (shell_command_named(name) for name in NAMES)
    return {one.name: one.summary for one in found if one}
