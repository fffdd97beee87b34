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
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType
from typing import Any, Optional, TextIO

from . import boot, runtime
from .boot import Machine
from .errors import BochsDied, LabError
from .image import image
from .options import LabOptions
from .progress import Piped
from .service import Service

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
                _attend(machine, listener)
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


def _attend(machine: Machine, listener: socket.socket) -> None:
    """Serve the machine, and leave behind why that ended."""
    runtime.last_words().unlink(missing_ok=True)
    with closing(Service(machine)) as service:
        _say(sys.stdout, {"ok": service.status()})
        _detach()
        try:
            _serve(service, listener)
        except LabError as error:
            runtime.last_words().write_text(f"{error}\n")
            if service.stub is not None:
                service.stub.died(str(error))


def _serve(service: Service, listener: socket.socket) -> None:
    """Answer until ended by a signal, by gdb's kill, or by the end of Bochs."""
    while service.machine.bochs.alive():
        stub = service.stub
        descriptors = [listener.fileno(), *(stub.descriptors() if stub else ())]
        patience = min(_LOOK, stub.patience()) if stub else _LOOK
        ready, _, _ = select.select(descriptors, [], [], patience)
        if stub is not None:
            stub.turn(ready)
        if listener.fileno() in ready:
            _converse(service, listener)
    raise BochsDied(service.machine.bochs.last_words())


def _converse(service: Service, listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rw", encoding="utf-8") as stream:
        try:
            _answer(service, stream)
        except (OSError, ValueError):  # the other end went away, or spoke no JSON
            pass


def _answer(service: Service, stream: TextIO) -> None:
    request = json.loads(stream.readline() or "{}")
    try:
        _say(stream, {"ok": service.done(request, Piped(stream))})
    except (LabError, TimeoutError) as error:
        _say(stream, {"error": str(error)})


def _say(stream: TextIO, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()
