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
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Generic, TypeVar, Union

from gdb_nept.commands.arguments import Argument, argument, parsed
from gdb_nept.commands.context import Context
from gdb_nept.commands.output import Sink, put_page, put_pages, put_spent
from gdb_nept.errors import Incomplete, NeptError
from gdb_nept.memory.budget import ENTRIES, Budget, within
from gdb_nept.render.manual import fitted
from gdb_nept.render.page import Page, Pages, Status
from gdb_nept.render.schemas import identified

COMMON = (
    argument("--limit", type="count", default=ENTRIES, metavar="N"),
    argument("--json", action="store_true"),
    argument("--no-color", action="store_true"),
    argument("-h", "--help", action="store_true"),
)

#: Ends that come of what was not looked at, if there is such.
UNDECIDED = (Status.DONE, Status.NOT_FOUND, Status.UNREAD)

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
        return parsed(self.name, (*self.arguments, *COMMON), words, context.number)

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
                sink.put(fitted(self.manual, sink.width))
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
                live = context.taken.live
                put_page(identified(found, self.name, budget, live), args, sink, by_lines)
                status = found.status()
            else:
                status = put_pages(
                    found,
                    lambda page: identified(page, self.name, budget, context.taken.live),
                    args,
                    sink,
                    by_lines,
                )
        except NeptError as error:
            if budget.fields_ran_out:
                raise Incomplete(error, budget.fields_ran_out) from None
            raise
        put_spent(budget, args, sink, by_lines)
        return Status.INCOMPLETE if budget.ran_out and status in UNDECIDED else status


def command(name: str, *arguments: Argument) -> Callable[[Run], Command]:
    """Declare the function below as the command `name`."""
    return lambda run: Command(name, arguments, run)


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
