# SPDX-License-Identifier: GPL-2.0-or-later
"""nept predict --json-lines: a stream of requests, a stream of answers.

No command of gdb's: it is for scripts, and for tests of other programs.
doc/predictions.md has the format.
"""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import BinaryIO, NoReturn, TextIO

from gdb_nept.commands.numbers import Usage

OPTION = "--json-lines"
DEFAULT_MODEL = "sdm"
MANUAL = """\
Usage: nept predict --json-lines [--model M] < requests > answers

Reads one JSON object a line and writes one for each; doc/predictions.md has the
format.  --model is who answers; by default the processor of the SDM ("sdm").
It can be:
"""
OTHERS = """\
a release of KVM between two of these (kvm-6.8), or one of the hypervisors on
another processor than the SDM's (kvm-6.1@bochs-2.7).
"""
WIDTH = 80
LONGEST = 1 << 24  # bytes of a request; one of 4,096 words has 100,000


def wanted(command: str, words: Sequence[str]) -> bool:
    """Whether these arguments of the command line ask for the stream."""
    return command in ("predict", "nept-predict") and OPTION in words


def serve(words: Sequence[str], requests: BinaryIO, answers: TextIO) -> None:
    """Answer until `requests` ends.  Raises Usage, and BadArgument for a model that there is not.

    Answers leave at once unless the requests come from a file: the program at the other end of a
    pipe may wait for one before it asks again.
    """
    from gdb_nept.predict.model import NAMES, model
    from gdb_nept.predict.request import answer_lines

    parser = _Parser(prog="predict", add_help=False, allow_abbrev=False)
    parser.add_argument(OPTION, action="store_true")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--no-color", action="store_true")  # there is none
    parser.add_argument("-h", "--help", action="store_true")
    args = parser.parse_args(list(words))
    if args.help:
        answers.write(MANUAL + fill(", ".join(NAMES), WIDTH) + "\n" + OTHERS)
        return
    at_once = not _is_file(requests)
    for answer in answer_lines(bounded(requests), model(args.model)):
        answers.write(answer + "\n")
        if at_once:
            answers.flush()
    answers.flush()


def bounded(stream: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a stream; None for one that is too long to be a request."""
    while line := stream.readline(LONGEST):
        if len(line) < LONGEST or line.endswith(b"\n"):
            yield line
            continue
        yield None  # at once: it may have no end
        while (rest := stream.readline(LONGEST)) and not rest.endswith(b"\n"):
            pass


def _is_file(stream: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:
        return False  # a stream of a test's own


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Usage(f"predict: {message}", MANUAL)
