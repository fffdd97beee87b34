# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands without gdb: nept --dump FILE COMMAND ..., or python3 -m gdb_nept in its place."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from gdb_nept import __version__
from gdb_nept.commands import json_lines, terminal
from gdb_nept.commands.catalogue import listing
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.first_steps import in_shell
from gdb_nept.commands.numbers import Usage, file_named
from gdb_nept.commands.output import NotWritten
from gdb_nept.commands.shell_only import shell_command_named, shell_commands
from gdb_nept.errors import NeptError
from gdb_nept.render.page import MEANINGS, Status

EPILOG = """\
commands (nept COMMAND --help is the manual of one):
{commands}
{shell_commands}

Without a dump, decode works, and predictions on request:
predict --json-lines < requests.

exit status:
{statuses}
"""


#: What stands before the command's name, and its value.
LEADING = {"--dump": " FILE", "--live": "", "--libkdumpfile": " FILE", "--btf": " FILE"}
LIVE = "gdb_nept: from a running machine: what was read at different times may not fit together"


def main(arguments: Sequence[str] | None = None) -> int:
    """The shell command `nept`: its exit status, one of Status.  `arguments` are sys.argv's."""
    try:
        return _ran(arguments).value
    except NotWritten as error:
        if sys.stdout is not None:  # Python must not flush into what nobody reads, at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Status.DONE.value if error.left else terminal.failed(error).value
    except NeptError as error:
        return terminal.failed(error).value
    except KeyboardInterrupt:
        return terminal.interrupted().value


def _ran(arguments: Sequence[str] | None) -> Status:
    args = command_line().parse_args(arguments)
    words = [*args.arguments, *(["--no-color"] if args.no_color else [])]
    _check_order(args.command, args.arguments)
    context = DumpContext(args.dump, args.btf, args.libkdumpfile, args.live)
    if args.live:
        if args.dump is not None:
            raise Usage("either --dump or --live")
        print(LIVE, file=sys.stderr)
    return _answered(args.command, words, context)


def _check_order(name: str | None, words: list[str]) -> None:
    """Raises Usage for what is of nept itself and stands behind the command's name."""
    for option, value in LEADING.items():
        if any(word.partition("=")[0] == option for word in words):
            raise Usage(f"{option} stands before the command", f"nept {option}{value} {name} ...")


def _answered(name: str | None, words: list[str], context: DumpContext) -> Status:
    if name == "help":  # as gdb has it
        name, words = (words[0], ["--help"]) if words else (None, [])
    with _written() as stream:
        if name is None:
            init = Path(__file__).with_name("init.py")
            stream.write(in_shell(str(init), terminal.listed(shell_commands())) + "\n")
            return Status.DONE
        if json_lines.wanted(name, words):
            json_lines.serve(words, requests(), stream)
            return Status.DONE
        own = shell_command_named(name)
        if own is not None:
            return own.answer(context, words, stream)
        return terminal.answer(name, words, context, stream, shell_commands)


class _Answers:
    """Standard output, which says so where it does not take what is written."""

    def __init__(self, below: TextIO) -> None:
        self._below = below

    def write(self, piece: str) -> int:
        """Raises NotWritten."""
        try:
            return self._below.write(piece)
        except OSError as error:
            raise NotWritten(error, left=isinstance(error, BrokenPipeError)) from None

    def flush(self) -> None:
        """Raises NotWritten."""
        try:
            self._below.flush()
        except OSError as error:
            raise NotWritten(error, left=isinstance(error, BrokenPipeError)) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)


@contextmanager
def _written() -> Iterator[TextIO]:
    """Standard output, whatever it can show.  Raises NotWritten."""
    if sys.stdout is None:
        raise NotWritten(ValueError("standard output is closed"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    stream = _Answers(sys.stdout)
    yield cast(TextIO, stream)
    stream.flush()


def requests() -> BinaryIO:
    """Standard input.  Raises Usage where there is none."""
    if sys.stdin is None:
        raise Usage("there are no requests: standard input is closed")
    return sys.stdin.buffer


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        """--help and --version are answers, too."""
        if file is sys.stderr:
            super()._print_message(message, file)
            return
        with _written() as stream:
            stream.write(message)

    def format_help(self) -> str:
        statuses = "\n".join(f"{one.value:3}  {said}" for one, said in MEANINGS.items())
        others = terminal.listed(shell_commands())
        self.epilog = EPILOG.format(commands=listing(""), shell_commands=others, statuses=statuses)
        return super().format_help()


def command_line() -> argparse.ArgumentParser:
    """What stands before the command's name on the line, and all that follows it."""
    parser = _Parser(
        prog="nept",
        description="Decode and walk nested EPT in a dump of a Linux KVM host's physical memory.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"nept {__version__}")
    parser.add_argument("--dump", type=file_named, metavar="FILE", help="dump of physical memory")
    parser.add_argument(
        "--live", action="store_true", help="this computer's own memory (/proc/kcore), as it runs"
    )
    parser.add_argument(
        "--libkdumpfile",
        type=file_named,
        metavar="FILE",
        help="the library that reads ELF and kdump",
    )
    parser.add_argument(
        "--btf",
        type=file_named,
        action="append",
        default=[],
        metavar="FILE",
        help="module, vmlinux or layouts to take types from, where the dump has none (repeatable)",
    )
    parser.add_argument("--no-color", action="store_true", help="no colour, on a terminal either")
    parser.add_argument("command", nargs="?", metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    return parser


if __name__ == "__main__":
    sys.exit(main())
