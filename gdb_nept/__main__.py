# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands without gdb: python3 -m gdb_nept --dump FILE COMMAND ...

Exit status: 0 done, 1 something could not be read or found, 2 wrong arguments, 3 what was found
differs from what must be, 4 not everything was looked at.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from gdb_nept.address import HostPhys
from gdb_nept.commands import json_lines
from gdb_nept.commands.catalogue import PREFIX, command_named, listing
from gdb_nept.commands.command import ROWS, Command, NotWritten, Sink, Usage, plain_number
from gdb_nept.errors import NeptError, NoKernel
from gdb_nept.render import text
from gdb_nept.render.page import Status

if TYPE_CHECKING:  # what a question does not need is not read
    from gdb_nept.live.stops import Stops
    from gdb_nept.nested.session import Session
    from gdb_nept.target.attachment import Attachment
    from gdb_nept.target.kernel import LinuxKernel
    from gdb_nept.target.running import Running, Selected

EPILOG = """\
commands (with or without {prefix!r}; COMMAND --help is its manual):
{commands}

Without a dump, decode works, and predictions on request: predict --json-lines < requests.
Exit status: 0 done, 1 not found or not readable, 2 usage, 3 differs (or stale, or broken), 4 not
all was looked at.
"""


class DumpContext:
    """The session on a dump, made when a command first asks for it."""

    def __init__(self, dump: Path | None, btf: Sequence[Path]) -> None:
        self._dump = dump
        self._btf = tuple(btf)

    def kernel(self) -> LinuxKernel:
        if self._dump is None:
            raise Usage("this command needs a dump", "Name a raw image of memory: --dump FILE")
        from gdb_nept.memory.raw import RawMemory
        from gdb_nept.target.linux import attach

        memory: RawMemory[HostPhys] = RawMemory(self._dump)
        return attach(memory, memory.data_ranges(), btf_files=self._btf, near=True)

    def session(self) -> Session:
        from gdb_nept.nested.session import Session

        return Session(self.kernel())

    def attachment(self) -> Attachment:
        from gdb_nept.target.attachment import Attachment, lacking, missing

        target = f"dump {self._dump}"
        try:
            kernel = self.kernel()
        except NoKernel as error:
            return Attachment(target, "raw image", None, (missing(error),))
        return Attachment(target, "raw image", kernel, lacking(kernel), kernel.circumstances)

    @property
    def stops(self) -> Stops:
        raise Usage("a dump does not run", "This command compares stops of a live target.")

    def number(self, written: str) -> int:
        return plain_number(written)

    def selected(self) -> Selected:
        raise Usage("a dump has no registers", "Write the number itself.")

    def running(self) -> AbstractContextManager[Running]:
        raise Usage("a dump does not run", "This command follows a live target: use it in gdb.")

    def tell(self, line: str) -> None:
        print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(arguments)
    words = [*args.arguments, *(["--no-color"] if args.no_color else [])]
    context = DumpContext(args.dump, args.btf)
    try:
        return _answered(args.command, words, context).value
    except NotWritten as error:
        if sys.stdout is not None:  # Python must not flush into what nobody reads, at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Status.DONE.value if error.left else _failed(error)
    except NeptError as error:
        return _failed(error)
    except KeyboardInterrupt:
        print("gdb_nept: interrupted", file=sys.stderr)
        return 130


def _answered(name: str, words: list[str], context: DumpContext) -> Status:
    with _written() as stream:
        if json_lines.wanted(name, words):
            json_lines.serve(words, requests(), stream)
            return Status.DONE
        rows = ROWS if stream.isatty() else None
        sink = Sink(stream.write, coloured(), rows)
        status = _named(name).write_answer(context, words, sink)
        stream.write("\n")
        stream.flush()
        return status


@contextmanager
def _written() -> Iterator[TextIO]:
    """Standard output, whatever it can show.  Raises NotWritten."""
    stream = sys.stdout
    if stream is None:
        raise NotWritten(ValueError("standard output is closed"))
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    try:
        yield stream
    except OSError as error:
        raise NotWritten(error, left=isinstance(error, BrokenPipeError)) from None


def requests() -> BinaryIO:
    """Standard input.  Raises Usage where there is none."""
    if sys.stdin is None:
        raise Usage("there are no requests: standard input is closed")
    return sys.stdin.buffer


def _failed(error: NeptError) -> int:
    print(text.escaped(text.paragraph(f"gdb_nept: {error}")), file=sys.stderr)
    return 2 if isinstance(error, Usage) else Status.NOT_FOUND.value


def coloured() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _named(name: str) -> Command:
    found = command_named(name)
    if found is None:
        raise Usage(f"there is no command '{name}'", f"Commands:\n{listing()}")
    return found


class _Parser(argparse.ArgumentParser):
    def format_help(self) -> str:
        self.epilog = EPILOG.format(prefix=PREFIX, commands=listing())
        return super().format_help()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python3 -m gdb_nept",
        description="Decode and walk nested EPT in a dump of a Linux KVM host's physical memory.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dump", type=Path, metavar="FILE", help="raw image of physical memory")
    parser.add_argument(
        "--btf",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="module, vmlinux or layouts to take types from, where the dump has none (repeatable)",
    )
    parser.add_argument("--no-color", action="store_true", help="no colour, on a terminal either")
    parser.add_argument("command", metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    return parser


if __name__ == "__main__":
    sys.exit(main())
