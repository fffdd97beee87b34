# SPDX-License-Identifier: GPL-2.0-or-later
"""How far many dumps are, on a terminal's standard error."""

from __future__ import annotations

import sys
import threading
import time

from gdb_nept.commands.progress import gauge

OFTEN = 0.1  # seconds


class Bar:
    """Called behind each dump that is done, from any thread; shows nothing where nobody looks."""

    def __init__(self, whole: int) -> None:
        self._whole = whole
        self._done = 0
        self._start = self._drawn = time.monotonic()
        self._lock = threading.Lock()
        self._shown = sys.stderr is not None and sys.stderr.isatty()

    def __call__(self) -> None:
        with self._lock:
            self._done += 1
            now = time.monotonic()
            if self._shown and (now - self._drawn >= OFTEN or self._done == self._whole):
                self._drawn = now
                self._write(self.line(now - self._start))

    def line(self, seconds: float) -> str:
        """[#######.......................] 25/100, 12 s, 36 s to go"""
        left = seconds * (self._whole - self._done) / max(self._done, 1)
        drawn = f"{gauge(self._done, self._whole)} {self._done}/{self._whole}"
        return f"{drawn}, {seconds:.0f} s, {left:.0f} s to go"

    def clear(self) -> None:
        """Before something else is written to the terminal."""
        with self._lock:
            self._write("")

    def _write(self, line: str) -> None:
        if self._shown:
            sys.stderr.write(f"\r{line}\x1b[K")
            sys.stderr.flush()
