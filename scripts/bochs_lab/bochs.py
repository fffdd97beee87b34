# SPDX-License-Identifier: GPL-2.0-or-later
"""A Bochs process with its internal debugger, driven through a terminal.

Bochs' only display that needs no screen is a VNC server, which listens on every address.  So
Bochs runs in a network namespace of its own, where the machine allows that.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pexpect

from .errors import BochsDied

SERIAL = "serial.txt"
_PROMPT = r"<bochs:\d+> "
_PROMPT_LENGTH = 40  # characters at most; how far back to look for one
_READ_SIZE = 1 << 16
_WORDS = 300  # characters of its last output to quote
_POLL = 0.5  # seconds between two looks at a machine that runs


def _isolation() -> list[str]:
    """The command before Bochs' own that takes the network away; empty where that is refused."""
    command = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    try:
        done = subprocess.run([*command, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return []
    return command if done.returncode == 0 else []


class Bochs:
    """The process.  It starts at the debugger's prompt, before the first instruction."""

    def __init__(
        self, command: list[str], configuration: str, folder: Path, memory: int, timeout: float
    ) -> None:
        """`command` is the program, with what comes before the arguments of this run."""
        self.folder = folder
        self.memory = memory
        self._timeout = timeout
        (folder / "bochsrc").write_text(configuration)
        words = [*_isolation(), *command, "-q", "-f", "bochsrc"]
        environment = {**os.environ, "TERM": "dumb"}
        self._child = pexpect.spawn(
            words[0],
            words[1:],
            cwd=str(folder),
            env=environment,
            encoding="latin-1",
            searchwindowsize=_PROMPT_LENGTH,
        )
        self._child.delaybeforesend = None  # its default costs 50 ms a command
        self._child.maxread = _READ_SIZE
        try:
            self._prompt(timeout)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return int(self._child.pid or 0)  # pexpect gives none before it has spawned

    @property
    def serial(self) -> Path:
        return self.folder / SERIAL

    def alive(self) -> bool:
        """Whether the process is there."""
        return bool(self._child.isalive())

    def command(self, text: str) -> str:
        """Give the debugger a command; its output."""
        self._send(text)
        output = self._prompt(self._timeout)
        return output.split("\n", 1)[1] if "\n" in output else ""  # the first line is the echo

    def run(self, watch: Callable[[], None]) -> str:
        """Let the machine run until it stops; `watch` is called now and then and may raise."""
        self.resume("c")
        while True:
            output = self.stopped(_POLL)
            if output is not None:
                return output
            watch()

    def resume(self, text: str) -> None:
        """Give a command that lets the machine run, and do not wait for its end."""
        self._send(text)

    def stopped(self, timeout: float = 0) -> Optional[str]:
        """What Bochs said when it stopped; None if it did not within so many seconds."""
        try:
            return self._prompt(timeout)
        except TimeoutError:
            return None

    def interrupt(self) -> None:
        """Ctrl-C: a machine that runs comes back to the prompt."""
        self._child.kill(signal.SIGINT)

    @property
    def descriptor(self) -> int:
        """What there is to read when Bochs says something, or ends."""
        return int(self._child.child_fd)

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._child.isalive():
            self._child.kill(signal.SIGKILL)
        self._child.close(force=True)

    def _send(self, text: str) -> None:
        try:
            self._child.sendline(text)
        except OSError as error:
            raise BochsDied(self.last_words()) from error

    def _prompt(self, timeout: float) -> str:
        found = self._child.expect([_PROMPT, pexpect.EOF, pexpect.TIMEOUT], timeout=timeout)
        if found == 1:
            raise BochsDied(self.last_words())
        if found == 2:
            raise TimeoutError(f"Bochs gave no prompt within {timeout:g} s")
        return str(self._child.before).replace("\r", "")

    def last_words(self) -> str:
        """How Bochs ended, and what it said after the command, which it echoes."""
        self._child.close(force=True)
        said = str(self._child.before or "").partition("\n")[2]
        how = f"signal {self._child.signalstatus}" if self._child.signalstatus else "by itself"
        return f"Bochs ended ({how}){': ' + ' '.join(said.split())[-_WORDS:] if said else ''}"
