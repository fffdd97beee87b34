# SPDX-License-Identifier: GPL-2.0-or-later
"""The arguments of a command: declared, and read from the words of a line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, NoReturn

from gdb_nept.commands.numbers import (
    Usage,
    Written,
    address_range,
    file_named,
    logical,
    physical_width,
    positive,
)
from gdb_nept.near import near

Completer = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Argument:
    """One argument in argparse's words; `complete` offers values for what is typed so far.

    type="address" and type="range" stand for a number and a (low, high), type="expression" for a
    Written, type="logical" for one with a segment, type="width" for bits of a physical address,
    type="count" for a number from 1 on, type="file" for a Path.
    Of the arguments with the same `instead`, one alone can be given.
    """

    flags: tuple[str, ...]
    options: dict[str, Any]
    complete: Completer
    instead: str = ""


def argument(
    *flags: str, complete: Completer = lambda word: (), instead: str = "", **options: Any
) -> Argument:
    """One with `flags`, or the place of one without; `options` are argparse's."""
    if "choices" in options:
        complete = lambda word: tuple(map(str, options["choices"]))  # noqa: E731
    return Argument(flags, options, complete, instead)


VM = argument("--vm", type="address", metavar="N")
VCPU = argument("--vcpu", type="address", metavar="N")
HELP = {"-h", "--help"}


def parsed(
    name: str, arguments: Sequence[Argument], words: Sequence[str], number: Callable[[str], int]
) -> argparse.Namespace:
    """The values in `words`, of the command `name`; `number` reads each number.  Raises Usage, or
    what `number` raises."""
    parser = _Parser(prog=name, add_help=False, allow_abbrev=False)
    parser.register("type", "address", number)
    parser.register("type", "expression", lambda word: Written(number(word), word))
    parser.register("type", "logical", lambda word: logical(word, number))
    parser.register("type", "count", lambda written: positive(number(written)))
    parser.register("type", "width", lambda written: physical_width(number(written)))
    parser.register("type", "file", file_named)
    parser.register("type", "range", lambda written: address_range(written, number))
    parser.take(arguments)
    if HELP & set(words):
        return argparse.Namespace(help=True)
    return parser.parse_args(_options_first(arguments, words))


def _options_first(arguments: Sequence[Argument], words: Sequence[str]) -> list[str]:
    """argparse takes no option between two values of one argument; a user writes them anywhere."""
    valued = {flag: "action" not in one.options for one in arguments for flag in one.flags}
    options: list[str] = []
    others: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            return [*options, *others, *left] if others else [*options, word, *left]
        known = word.startswith("--") and word.partition("=")[0] in valued
        (options if known else others).append(word)
        if known and valued[word.partition("=")[0]] and "=" not in word:
            options += [value for value in [next(left, None)] if value is not None]
    return [*options, *others]


class _Parser(argparse.ArgumentParser):
    """argparse that raises, where its own ends the process: gdb's, here."""

    def take(self, arguments: Sequence[Argument]) -> None:
        groups = {one.instead: self.add_mutually_exclusive_group() for one in arguments}
        for one in arguments:
            place = groups[one.instead] if one.instead else self
            place.add_argument(*one.flags, **one.options)

    def error(self, message: str) -> NoReturn:
        # argparse lists the choices in one endless line; the manual has them with their meaning
        message, _, choices = message.partition(" (choose from ")
        written = message.rpartition("invalid choice: ")[2].strip("'")
        meant = near(written, choices.rstrip(")").replace("'", "").split(", "))
        manual = f"{self.prog} --help" if " " in self.prog else f"help {self.prog}"
        raise Usage(f"{self.prog}: {message}", f"{meant} '{manual}' shows what it takes.".strip())
