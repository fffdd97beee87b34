# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU machine that has nothing but its firmware."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOPBACK = "127.0.0.1"


@contextmanager
def stopped_machine(
    qemu: str, *more: str, plain: bool = True, path: Path | None = None
) -> Iterator[int]:
    """4 MiB and a VGA card unless `more` says otherwise, or it is not `plain`; stopped before the
    first instruction.  The port of its stub, which may have a unix socket at `path` instead."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    stub = f"unix:path={path},server=on,wait=off" if path else f"tcp:{LOOPBACK}:{port}"
    words = [qemu, "-S", "-display", "none", "-nodefaults", "-gdb", stub]
    if plain:
        words += ["-vga", "std", "-m", "4", "-machine", "pc,accel=tcg"]
    with subprocess.Popen(
        [*words, *more], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as machine:
        try:
            _await(port, path)
            yield port
        finally:
            machine.terminate()


def _await(port: int, path: Path | None) -> None:
    deadline = time.monotonic() + 30
    while True:
        with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as probe:
            try:
                probe.connect(str(path) if path else (LOOPBACK, port))
                return
            except (ConnectionError, FileNotFoundError):
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.05)
