# SPDX-License-Identifier: GPL-2.0-or-later
"""The front end's side of a machine that a daemon holds: start it, ask it, end it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

from . import runtime
from .errors import LabError
from .options import LabOptions
from .progress import Progress, Silent, relay

_START = "import sys; sys.path.insert(0, sys.argv[1]); from bochs_lab import daemon; "
_START += "sys.exit(daemon.main())"
_PATIENCE = 20.0  # seconds for a daemon to end in
_LOOK = 0.1  # seconds between two looks whether it has


class NoMachine(LabError):
    """No daemon listens, or it ended before it answered."""

    def __init__(self, reason: str = "no machine is up; start one with: lab up") -> None:
        super().__init__(reason)


def up(options: LabOptions, progress: Progress) -> dict[str, Any]:
    """Start a daemon and wait until its machine is parked; its status."""
    command = [sys.executable, "-c", _START, str(Path(__file__).resolve().parents[1])]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None  # both are pipes
    assert process.stdout is not None
    try:
        with process.stdin, process.stdout:
            process.stdin.write(json.dumps(options.as_json()) + "\n")
            process.stdin.flush()
            status: dict[str, Any] = _last_answer(process.stdout, progress)
            return status
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[str]) -> None:
    """End a daemon that is still booting, and wait until it has cleaned up."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ask(wish: str, progress: Optional[Progress] = None, **arguments: str) -> Any:
    """Have the daemon do something; its answer.  Raises NoMachine if there is none."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(runtime.socket_path()))
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.write(json.dumps({"do": wish, **arguments}) + "\n")
                stream.flush()
                return _last_answer(stream, progress or Silent())
    except (FileNotFoundError, ConnectionError) as error:  # not there, or about to end
        raise NoMachine() from error


def status() -> Optional[dict[str, Any]]:
    """What the daemon says of its machine; None if there is no machine."""
    try:
        answer: dict[str, Any] = ask("status")
    except NoMachine:
        return None
    return answer


def stub(port: Optional[int]) -> int:
    """Have the machine's gdb stub listen, on a free port unless one is given; its port."""
    return int(ask("stub", port=str(port or 0)))


def debugger(text: str) -> str:
    """Give the debugger of the parked machine's Bochs a command (xp, r, page …); its output."""
    return str(ask("command", text=text))


def down() -> bool:
    """End the machine, parked or on its way there; whether there was one."""
    pid = runtime.holder("machine")
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while runtime.holder("machine") is not None:
        if time.monotonic() > deadline:
            raise LabError(f"the machine's process {pid} does not end")
        time.sleep(_LOOK)
    return True


def _last_answer(lines: Iterable[str], progress: Progress) -> Any:
    for line in lines:
        message = json.loads(line)
        if "ok" in message:
            return message["ok"]
        if "error" in message:
            raise LabError(message["error"])
        relay(message, progress)
    raise NoMachine("the machine's process ended without an answer")
