# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command is: a name, its arguments, and a function whose docstring is its manual.

One declaration serves gdb (`commands/gdb/`) and the command line (`__main__.py`); the two differ
only in the Context that they hand over.
"""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Generic, NoReturn, Protocol, TypeVar, Union

from gdb_nept.commands.numbers import (
    Usage,
    Written,
    address_range,
    logical,
    physical_width,
    positive,
)
from gdb_nept.commands.output import Sink, put_page, put_pages, put_spent
from gdb_nept.errors import Incomplete, NeptError
from gdb_nept.memory.budget import ENTRIES, Budget, within
from gdb_nept.near import near
from gdb_nept.render.page import Page, Pages, Status
from gdb_nept.render.schemas import identified

if TYPE_CHECKING:  # a command imports what it needs of them
    from gdb_nept.live.stops import Stops
    from gdb_nept.memory.ram import Ram
    from gdb_nept.nested.session import Session
    from gdb_nept.target.attachment import Attachment
    from gdb_nept.target.running import Running, Selected


class Context(Protocol):
    """Where a command runs: in gdb, or on a dump."""

    @property
    def stops(self) -> Stops:
        """Those of `session`'s kernel; raises NeptError where it does not run."""
        ...

    def session(self) -> Session:
        """The kernel that is attached; raises NeptError where there is none."""
        ...

    def attachment(self) -> Attachment:
        """The same for nept-target: says what is missing instead of raising."""
        ...

    def physical(self) -> Ram:
        """The target's physical memory, whatever runs on it; raises NeptError where there is
        none."""
        ...

    def number(self, written: str) -> int:
        """The number that a user wrote; raises BadInput."""
        ...

    def selected(self) -> Selected:
        """The processor of whose registers `number` knows; raises NeptError where it knows none."""
        ...

    def running(self) -> AbstractContextManager[Running]:
        """The target, to be let run; raises NeptError where it cannot."""
        ...

    def tell(self, line: str, plain: bool = False) -> None:
        """Show a line at once, before the answer; `plain`: in no colour."""
        ...

    def doubt(self) -> None:
        """What was read is not all there is: it is read anew when it is asked for again."""
        ...


Completer = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Argument:
    """One argument in argparse's words; `complete` offers values for what is typed so far.

    type="address" and type="range" stand for a number and a (low, high) as the Context reads them,
    type="expression" for a Written, type="logical" for one with a segment, type="width" for bits of
    a physical address, type="count" for a number from 1 on.
    Of the arguments with the same `instead`, one alone can be given.
    """

    flags: tuple[str, ...]
    options: dict[str, Any]
    complete: Completer
    instead: str = ""


def argument(
    *flags: str, complete: Completer = lambda word: (), instead: str = "", **options: Any
) -> Argument:
    if "choices" in options:
        complete = lambda word: tuple(map(str, options["choices"]))  # noqa: E731
    return Argument(flags, options, complete, instead)


VM = argument("--vm", type="address", metavar="N")
VCPU = argument("--vcpu", type="address", metavar="N")
COMMON = (
    argument("--limit", type="count", default=ENTRIES, metavar="N"),
    argument("--json", action="store_true"),
    argument("--no-color", action="store_true"),
    argument("-h", "--help", action="store_true"),
)


#: Ends that come of what was not looked at, if there is such.
UNDECIDED = (Status.DONE, Status.NOT_FOUND, Status.UNREAD)

HELP = {"-h", "--help"}


Run = Callable[[Context, argparse.Namespace], Union[Page, Pages]]


Runs = TypeVar("Runs", bound=Callable[..., object])


@dataclass(frozen=True)
class Declared(Generic[Runs]):
    """A function with the name under which a user calls it, and the arguments that it takes."""

    name: str
    arguments: tuple[Argument, ...]
    run: Runs

    @property
    def manual(self) -> str:
        import inspect  # costs a dump's question more than the question

        return inspect.getdoc(self.run) or ""

    @property
    def summary(self) -> str:
        """The manual's first line."""
        return self.manual.split("\n", 1)[0].rstrip(".")


class Command(Declared[Run]):
    """What is asked in gdb and on the shell alike."""

    def parse(self, words: Sequence[str], context: Context) -> argparse.Namespace:
        """Raises Usage, or what the Context raises for a number that is none."""
        return parsed(self.name, (*self.arguments, *COMMON), words, context)

    def complete(self, before: Sequence[str], word: str) -> list[str]:
        """What `word` can become, after the words `before`."""
        options = {flag: one for one in (*self.arguments, *COMMON) for flag in one.flags}
        last = options.get(before[-1]) if before else None
        if last is not None and "action" not in last.options:
            offers = list(last.complete(word))
        elif word.startswith("-"):
            offers = [flag for flag in options if flag.startswith("--") and flag not in before]
        else:
            places = [one for one in self.arguments if not one.flags[0].startswith("-")]
            offers = [value for one in places for value in one.complete(word)]
        return sorted(offer for offer in offers if offer.lower().startswith(word.lower()))

    def answer(self, context: Context, words: Sequence[str], coloured: bool) -> str:
        """The command's output; raises NeptError alone."""
        written: list[str] = []
        self.write_answer(context, words, Sink(written.append, coloured))
        return "".join(written)

    def write_answer(self, context: Context, words: Sequence[str], sink: Sink) -> Status:
        """Write the output as it is made, without an end of line; raises NeptError alone."""
        with door():
            args = self.parse(words, context)
            if args.help:
                sink.put(self.manual)
                return Status.DONE
            budget = Budget(args.limit, progress=sink.meter)
            try:
                with within(budget):
                    return self._write(context, args, sink, budget)
            finally:
                if sink.meter is not None:
                    sink.meter.wipe()
                if budget.ran_out:
                    context.doubt()

    def _write(
        self, context: Context, args: argparse.Namespace, sink: Sink, budget: Budget
    ) -> Status:
        by_lines = getattr(args, "json_lines", False) is True  # nept-watch's names a file
        try:
            found = self.run(context, args)
            if isinstance(found, Page):
                put_page(identified(found, self.name), args, sink, by_lines)
                status = found.status()
            else:
                status = put_pages(found, self.name, args, sink, by_lines)
        except NeptError as error:
            if budget.fields_ran_out:
                raise Incomplete(error, budget.fields_ran_out) from None
            raise
        put_spent(budget, args, sink, by_lines)
        return Status.INCOMPLETE if budget.ran_out and status in UNDECIDED else status


def parsed(
    name: str, arguments: Sequence[Argument], words: Sequence[str], context: Context
) -> argparse.Namespace:
    """Raises Usage, or what the Context raises for a number that is none."""
    parser = _Parser(prog=name, add_help=False, allow_abbrev=False)
    parser.register("type", "address", context.number)
    parser.register("type", "expression", lambda word: Written(context.number(word), word))
    parser.register("type", "logical", lambda word: logical(word, context.number))
    parser.register("type", "count", lambda written: positive(context.number(written)))
    parser.register("type", "width", lambda written: physical_width(context.number(written)))
    parser.register("type", "range", lambda written: address_range(written, context.number))
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


def command(name: str, *arguments: Argument) -> Callable[[Run], Command]:
    """Declare the function below as the command `name`."""
    return lambda run: Command(name, arguments, run)


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


def traceback_wanted() -> bool:
    return os.environ.get("NEPT_TRACEBACK", "") not in ("", "0")


@contextmanager
def door() -> Iterator[None]:
    """The only place that catches everything.

    A user in the middle of a debugging session must get one line and the prompt, whatever we did
    wrong; who repairs it gets the traceback.  Errors that we know (NeptError) pass.
    """
    try:
        yield
    except NeptError:
        raise
    except Exception as error:  # see above
        if traceback_wanted():
            traceback.print_exc()
        raise NeptError(
            f"a mistake in gdb_nept: {type(error).__name__}: {error}",
            "'set nept traceback on' in gdb, or NEPT_TRACEBACK=1, shows where; please report it.",
        ) from error
