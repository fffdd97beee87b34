# SPDX-License-Identifier: GPL-2.0-or-later
"""The background process that owns a parked machine and answers on a unix socket.

A request is one line of JSON, `{"do": NAME, ...}`; the answer is lines of JSON, of which the
last one carries "ok" or "error" and those before it tell of progress.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Optional, TextIO

from . import boot, runtime, snapshot
from .boot import Machine
from .errors import LabError
from .image import image
from .options import LabOptions
from .progress import Piped, Progress

_LOOK = 1.0  # seconds between two looks whether Bochs is still there


def main() -> int:
    """Boot the machine that standard input describes, tell standard output, then serve it."""
    options = LabOptions.from_json(json.loads(sys.stdin.readline()))
    progress = Piped(sys.stdout)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)  # never ignored: Bochs would inherit that
    try:
        with runtime.sole("machine"):
            wanted = image(options, progress)
            with boot.parked(options, wanted, progress) as machine, _listening() as listener:
                _say(sys.stdout, {"ok": _status(machine)})
                _detach()
                _serve(machine, listener)
    except BrokenPipeError:  # the front end is gone: nobody waits for this machine
        return 1
    except KeyboardInterrupt:
        return _failed("the machine was ended")
    except LabError as error:
        return _failed(str(error))
    return 0


def _failed(reason: str) -> int:
    with suppress(BrokenPipeError):  # the front end may be what ended it
        _say(sys.stdout, {"error": reason})
    return 1


def _stop(number: int, frame: Optional[FrameType]) -> None:
    raise KeyboardInterrupt


@contextmanager
def _listening() -> Iterator[socket.socket]:
    """The socket, for the life of the machine."""
    path = runtime.socket_path()
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        path.unlink(missing_ok=True)  # of a daemon that was killed
        listener.bind(str(path))
        listener.listen()
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _detach() -> None:
    """Let go of the front end: it has what it waited for."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def _serve(machine: Machine, listener: socket.socket) -> None:
    """Answer until ended by a signal, or until Bochs has ended."""
    started = time.time()
    while machine.bochs.alive():
        ready, _, _ = select.select([listener], [], [], _LOOK)
        if not ready:
            continue
        connection, _ = listener.accept()
        with connection, connection.makefile("rw", encoding="utf-8") as stream:
            try:
                _answer(machine, stream, started)
            except (OSError, ValueError):  # the other end went away, or spoke no JSON
                continue


def _answer(machine: Machine, stream: TextIO, started: float) -> None:
    request = json.loads(stream.readline() or "{}")
    try:
        _say(stream, {"ok": _done(machine, request, Piped(stream), started)})
    except (LabError, TimeoutError) as error:
        _say(stream, {"error": str(error)})


def _done(machine: Machine, request: dict[str, Any], progress: Progress, started: float) -> Any:
    wish = request.get("do")
    if wish == "status":
        return {**_status(machine), "seconds": round(time.time() - started, 1)}
    if wish == "snapshot":
        snapshot.take(machine, Path(request["target"]), progress)
        return request["target"]
    if wish == "command":
        return machine.bochs.command(str(request["text"]))
    raise LabError(f"no request {wish!r}")


def _status(machine: Machine) -> dict[str, Any]:
    return {
        "release": machine.image.kernel.release,
        "park": machine.park,
        "machine_key": machine.image.machine_key,
        "snapshot_key": machine.image.snapshot_key,
        "bochs_pid": machine.bochs.pid,
        "daemon_pid": os.getpid(),
        "folder": str(machine.bochs.folder),
        "options": machine.options.as_json(),
    }


def _say(stream: TextIO, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()
