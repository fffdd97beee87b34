# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU machine that has nothing but its firmware."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOOPBACK = "127.0.0.1"


@contextmanager
def stopped_machine(qemu: str) -> Iterator[int]:
    """4 MiB and a VGA card, stopped before the first instruction; the port of its stub."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    words = [qemu, "-S", "-display", "none", "-nodefaults", "-vga", "std", "-m", "4"]
    words += ["-machine", "pc,accel=tcg", "-gdb", f"tcp:{LOOPBACK}:{port}"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as machine:
        try:
            _await(port)
            yield port
        finally:
            machine.terminate()


def _await(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((LOOPBACK, port)).close()
            return
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
