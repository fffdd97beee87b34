# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that holds memory of our making, and perhaps the other end of a connection."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Reads its memory from standard input, and tells where it put it.
CHILD = """
import ctypes, mmap, sys
size = int(sys.argv[1])
memory = mmap.mmap(-1, size)
memory[:] = sys.stdin.buffer.read(size)
print(ctypes.addressof(ctypes.c_char.from_buffer(memory)), flush=True)
sys.stdin.buffer.read()
"""
LISTENER = """
import socket, subprocess, sys
kind, name, child = sys.argv[1:]
families = {"unix": socket.AF_UNIX, "tcp4": socket.AF_INET}
listener = socket.socket(families.get(kind, socket.AF_INET6))
listener.bind(name if kind == "unix" else ("127.0.0.1" if kind == "tcp4" else "::", 0))
listener.listen()
print(name if kind == "unix" else listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
started = subprocess.Popen(["sleep", "1000"]) if child else None
print(started.pid if started else 0, flush=True)
sys.stdin.read()
if started:
    started.kill()
    started.wait()
"""


@dataclass
class Emulator:
    """A process with `memory` at `place`."""

    process: subprocess.Popen[bytes]
    place: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def emulator(memory: bytes) -> Iterator[Emulator]:
    words = [sys.executable, "-c", CHILD, str(len(memory))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(memory)
        process.stdin.flush()
        try:
            yield Emulator(process, int(process.stdout.readline()))
        finally:
            process.kill()


@dataclass
class Listener:
    """A process that a socket of ours is connected to, and the number of its child."""

    pid: int
    address: str
    child: int
    ours: socket.socket = field(repr=False)


@contextmanager
def listener(kind: str, path: str = "", child: bool = False) -> Iterator[Listener]:
    """`kind`: "unix" at `path`, "tcp4" on the loopback, or "tcp6" on every address of both."""
    words = [sys.executable, "-c", LISTENER, kind, path, "child" if child else ""]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        with _connected(kind, name) as ours:
            address = path or f"localhost:{name}"
            yield Listener(process.pid, address, int(process.stdout.readline()), ours)
            process.stdin.close()


def _connected(kind: str, name: str) -> socket.socket:
    if kind == "unix":
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(name)
        return ours
    return socket.create_connection(("::1" if kind == "tcp6" else "127.0.0.1", int(name)))
