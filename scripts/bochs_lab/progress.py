# SPDX-License-Identifier: GPL-2.0-or-later
"""Telling how far a build or a boot is: on a terminal, in a log, or through a pipe."""

from __future__ import annotations

import json
import shutil
from typing import Protocol, TextIO


class Progress(Protocol):
    """Who is told about stages, and about seconds that pass within one."""

    def stage(self, text: str) -> None: ...

    def tick(self, seconds: float, line: str) -> None: ...


class Silent:
    """Tells nobody."""

    def stage(self, text: str) -> None:
        pass

    def tick(self, seconds: float, line: str) -> None:
        pass


class Lines:
    """A line at each stage, nothing in between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def stage(self, text: str) -> None:
        self._stream.write(f"lab: {text}\n")
        self._stream.flush()

    def tick(self, seconds: float, line: str) -> None:
        pass

    def finish(self) -> None:
        """Leave the stream at the start of a line."""


class Terminal(Lines):
    """Stages as lines, and one line that is rewritten with the seconds and the console's end."""

    _CLEAR_LINE = "\r\x1b[K"

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._open = False

    def stage(self, text: str) -> None:
        self.finish()
        super().stage(text)

    def tick(self, seconds: float, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        shown = "".join(c if c.isprintable() else " " for c in line)
        self._stream.write(self._CLEAR_LINE + f"{seconds:4.0f} s  {shown}"[:width])
        self._stream.flush()
        self._open = True

    def finish(self) -> None:
        """Take the rewritten line away."""
        if self._open:
            self._stream.write(self._CLEAR_LINE)
            self._stream.flush()
            self._open = False


class Piped:
    """One JSON object a line, for the process at the other end; see `relay`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def stage(self, text: str) -> None:
        self._send({"stage": text})

    def tick(self, seconds: float, line: str) -> None:
        self._send({"seconds": seconds, "line": line})

    def _send(self, message: dict[str, object]) -> None:
        self._stream.write(json.dumps(message) + "\n")
        self._stream.flush()


def relay(message: dict[str, object], progress: Progress) -> None:
    """Tell `progress` what a `Piped` at the other end was told."""
    if "stage" in message:
        progress.stage(str(message["stage"]))
    elif "seconds" in message:
        progress.tick(float(str(message["seconds"])), str(message["line"]))


def for_stream(stream: TextIO) -> Lines:
    """The progress that suits a stream."""
    return Terminal(stream) if stream.isatty() else Lines(stream)
