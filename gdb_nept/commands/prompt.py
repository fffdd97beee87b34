# SPDX-License-Identifier: GPL-2.0-or-later
"""The prompt of `nept shell`: lines in, answers out, until its user has enough."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, TextIO

from gdb_nept.commands import catalogue, terminal
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.numbers import Usage, file_named
from gdb_nept.commands.output import NotWritten
from gdb_nept.commands.shell_only import NAMES as SHELL_ONLY
from gdb_nept.commands.shell_only import shell_command_named
from gdb_nept.errors import NeptError
from gdb_nept.render.page import Status, gravest

PROMPT = "nept> "
KEPT_LINES = 1000
QUIT = ("quit", "exit")
OWN = {
    "dump": "Go on with another dump: dump FILE",
    "help": "List the commands, or show the manual of one: help NAME",
    **dict.fromkeys(QUIT, "End, as Ctrl-D does"),
}

#: What a word can become after others.
Completer = Callable[[Sequence[str], str], "list[str]"]


class Prompt:
    """One conversation, about the dump of `context`; answers go to `stream`."""

    def __init__(self, context: DumpContext, stream: TextIO, coloured: bool = True) -> None:
        self.context = context
        self._stream = stream
        self._options = () if coloured else ("--no-color",)

    def converse(self) -> Status:
        """With a person at a terminal."""
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's "&" ignores it
        self._stream.write(self._greeting() + "\n")
        with history(history_file()), completion(self.offers):
            while True:
                try:
                    line = input(PROMPT)
                    if line.strip() in QUIT:
                        return Status.DONE
                    self.answer(line)
                except KeyboardInterrupt:
                    self._stream.write("\n")
                except EOFError:
                    self._stream.write("\n")
                    return Status.DONE

    def answer_all(self, lines: Iterable[str]) -> Status:
        """What a file or a pipe asks."""
        found: set[Status] = set()
        for line in lines:
            if line.strip() in QUIT:
                break
            found.add(self.answer(line))
        return gravest(found)

    def answer(self, line: str) -> Status:
        """Raises NotWritten alone: nobody reads any more."""
        try:
            words = _words(line)
            return self._answer(words[0], words[1:]) if words else Status.DONE
        except NotWritten:
            raise
        except NeptError as error:
            return terminal.failed(error)
        except KeyboardInterrupt:
            return terminal.interrupted()

    def _answer(self, name: str, words: Sequence[str]) -> Status:
        if name == "help":
            return self._help(words)
        if name == "dump":
            return self._open(words)
        if name in SHELL_ONLY:
            raise Usage(f"{name} is asked on the shell", f"nept {name} --help")
        options = [*words, *self._options]
        return terminal.answer(name, options, self.context, self._stream, lambda: OWN)

    def _help(self, words: Sequence[str]) -> Status:
        if not words:
            commands, own = catalogue.listing(""), terminal.listed(OWN)
            self._stream.write(f"{commands}\n{own}\n\n'help NAME' is the manual of one.\n")
            return Status.DONE
        own_or_shells = shell_command_named("shell" if words[0] in OWN else words[0])
        if own_or_shells is not None:
            return own_or_shells.answer(self.context, ["--help"], self._stream)
        return terminal.answer(words[0], ["--help"], self.context, self._stream, lambda: OWN)

    def _open(self, words: Sequence[str]) -> Status:
        if len(words) != 1:
            raise Usage("dump takes the name of one file")
        other = self.context.another(file_named(words[0]).expanduser())
        other.kernel()
        self.context = other
        self._stream.write(self._greeting() + "\n")
        return Status.DONE

    def _greeting(self) -> str:
        """What is asked, in a line; the first question's attach is done here."""
        if self.context.dump is None:
            return "no dump: 'dump FILE' opens one; 'help' lists the commands, Ctrl-D ends"
        try:
            found = f"Linux {self.context.kernel().release}"
        except NeptError as error:
            found = error.message
        return f"{self.context.dump}: {found}; 'help' lists the commands, Ctrl-D ends"

    def offers(self, before: Sequence[str], word: str) -> list[str]:
        """What `word` can become, after the words `before`."""
        before = before[1:] if before[:1] == ["nept"] else before
        if not before or before == ["help"]:
            names = catalogue.NAMES if before else (*catalogue.NAMES, *OWN)
            return sorted(name for name in names if name.startswith(word))
        found = catalogue.command_named(before[0])
        if found is not None:
            return found.complete(before[1:], word)
        return _files(word) if before == ["dump"] else []


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise Usage(f"this line cannot be read: {error}") from None
    return words[1:] if words[:1] == ["nept"] else words


def _files(word: str) -> list[str]:
    folder, _, start = word.rpartition("/")
    place = Path(folder + "/" if "/" in word else ".").expanduser()
    prefix = f"{folder}/" if "/" in word else ""
    try:
        found = [one for one in place.iterdir() if one.name.startswith(start)]
    except OSError:
        return []
    return sorted(f"{prefix}{one.name}" + ("/" if one.is_dir() else "") for one in found)


def history_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "gdb_nept" / "history"


@contextmanager
def history(path: Path) -> Iterator[None]:
    """Lines of before to go through; this session's are added at its end.  Where there is no
    readline, or no place to keep it, there is no history."""
    try:
        import readline
    except ImportError:
        yield
        return
    try:
        readline.read_history_file(path)
    except OSError:
        pass  # the first session
    before = readline.get_current_history_length()
    try:
        yield
    finally:
        new = readline.get_current_history_length() - before
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(0o600)
            readline.set_history_length(KEPT_LINES)
            readline.append_history_file(new, path)
        except OSError:
            pass  # a home that cannot be written


@contextmanager
def completion(offers: Completer) -> Iterator[None]:
    """Tab offers what `offers` has for the word, within a `with` block; nothing without
    readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    found: list[str] = []

    def complete(word: str, number: int) -> str | None:
        if number == 0:
            found[:] = offers(readline.get_line_buffer()[: readline.get_begidx()].split(), word)
            if len(found) == 1 and not found[0].endswith("/"):
                found[0] += " "
        return found[number] if number < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n")
    editline = "libedit" in (readline.__doc__ or "")  # macOS, and some BSDs
    readline.parse_and_bind("bind ^I rl_complete" if editline else "tab: complete")
    try:
        yield
    finally:
        readline.set_completer(None)
