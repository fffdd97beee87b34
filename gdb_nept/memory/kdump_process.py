# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that runs `kdump_child.py`, as who asks it sees it.

It is started by `subprocess`, which forks nothing that runs our code, and in a session of its own,
so that Ctrl-C in gdb does not reach it.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import BinaryIO, cast

from gdb_nept.errors import BadInput
from gdb_nept.memory.kdump_child import ANSWER

CHILD = Path(__file__).with_name("kdump_child.py")
LARGEST_READ = 1 << 22  # bytes in one request
LARGEST_ANSWER = LARGEST_READ + (1 << 24)


class Dead(Exception):
    """The process ended, or did not answer in time; in words."""


class Hung(Dead):
    """It did not answer in time."""


class Child:
    """The process and its pipes."""

    def __init__(self, path: Path, libraries: list[str]) -> None:
        words = [python(), "-I", "-S", str(CHILD), str(path.absolute())]
        words += libraries or ["", *drgn_libraries()]
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise BadInput(f"cannot start {words[0]}: {error}", "Install python3.") from None
        self._in = cast(BinaryIO, self._process.stdin)
        self._out = cast(BinaryIO, self._process.stdout).fileno()
        self.close = weakref.finalize(self, _end, self._process)

    def answer(self, request: bytes, seconds: float) -> tuple[bytes, bytes]:
        deadline = time.monotonic() + seconds
        try:
            self._in.write(request)
            self._in.flush()
        except OSError:
            raise Dead(self._how()) from None
        kind, size = ANSWER.unpack(self._bytes(ANSWER.size, deadline))
        if size > LARGEST_ANSWER:
            raise Dead("gave nonsense")
        return kind, self._bytes(size, deadline)

    def _bytes(self, size: int, deadline: float) -> bytes:
        parts = []
        while size > 0:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._out], [], [], left)[0]:
                raise Hung("did not answer in time")
            part = os.read(self._out, min(size, 1 << 20))
            if not part:
                raise Dead(self._how())
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _how(self) -> str:
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return f"died (signal {-code})" if code < 0 else f"ended (status {code})"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                pass  # what it was never told
    process.wait()


def python() -> str:
    """A Python 3 by itself: in gdb, `sys.executable` may be gdb."""
    named = sys.executable or ""
    if Path(named).name.startswith("python") and os.access(named, os.X_OK):
        return named
    return shutil.which("python3") or "/usr/bin/python3"


def drgn_libraries() -> list[str]:
    """The copies that lie beside an installed drgn (its wheel brings one)."""
    folders = [Path(name) / "drgn.libs" for name in sys.path if name]
    return [str(path) for folder in folders for path in sorted(folder.glob("libkdumpfile*.so*"))]
