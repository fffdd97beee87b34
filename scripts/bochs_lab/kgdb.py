# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb's way to kgdb: the machine's second serial port, held open, behind a port of the loopback.

Bytes pass as they are; the packets are followed only to know whether the kernel runs.  kgdb answers
nothing then, so a debugger that comes stops the kernel first: L0's init takes a Ctrl-C on that port
for a SysRq g.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Optional

from .listener import PATIENCE, Listener
from .replay import LOOPBACK
from .rsp import Decoder, frame
from .serial_line import SerialLine

LINKED_AT = 0xFFFFFFFF81000000  # _text of a vmlinux: CONFIG_PHYSICAL_START above the kernel's map
_INTERRUPT = b"\x03"
_ACK = b"+"
_WHY = frame(b"?")
_RESUMES = (b"c", b"C", b"s", b"S", b"D", b"k", b"vCont;", b"vKill")
_STOPS = (b"T", b"S")
_KNOCK = 0.5  # seconds between two questions to a kernel that is to stop, and of silence after it
_PIECE = 1 << 12


class KgdbPort:
    """Listens on the loopback alone, for one debugger at a time (as server.StubServer does)."""

    def __init__(self, line: SerialLine, port: int = 0) -> None:
        """Port 0: a free one.  The kernel stands in kgdb."""
        self._listener = Listener(port)
        self._line = line.descriptor
        self._client: Optional[socket.socket] = None
        self._running = False
        self._knocking = 0.0  # when the kernel was last asked to stop, for a debugger that waits
        self._stopped_at = 0.0  # when it then did
        self._from_gdb = Decoder()
        self._from_kernel = Decoder()

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def attached(self) -> bool:
        """Whether a debugger is."""
        return self._client is not None

    def close(self) -> None:
        """Hang up; the kernel stays as it is."""
        self._hang_up()
        self._listener.close()

    def descriptors(self) -> list[int]:
        """What to wait for; a debugger has to wait while the kernel is being stopped for it."""
        one = self._client or self._listener
        return [self._line] if self._knocking else [self._line, one.fileno()]

    def patience(self) -> float:
        """How many seconds to wait for them at most."""
        return _KNOCK / 2 if self._knocking else PATIENCE

    def turn(self, ready: Collection[int]) -> None:
        """Do what can be done now."""
        if self._line in ready:
            self._take(os.read(self._line, _PIECE))
        if self._knocking:
            self._knock()
        elif self._client is not None and self._client.fileno() in ready:
            self._listen_to(self._client)
        elif self._client is None and self._listener.fileno() in ready:
            self._accept()

    def died(self, reason: str) -> None:
        """The machine is gone: hang up."""
        self._hang_up()

    def _accept(self) -> None:
        self._client = self._listener.accept()
        self._from_gdb = Decoder()
        if self._running:
            self._stopped_at = 0.0
            self._knocking = time.monotonic()
            os.write(self._line, _INTERRUPT)

    def _knock(self) -> None:
        """Ask why it stands until it says so; then wait until it has nothing more to say."""
        now = time.monotonic()
        if self._stopped_at:
            if now - self._stopped_at > _KNOCK:
                self._knocking = 0.0
        elif now - self._knocking > _KNOCK:
            self._knocking = now
            os.write(self._line, _WHY)

    def _listen_to(self, client: socket.socket) -> None:
        try:
            data = client.recv(_PIECE)
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        for event in self._from_gdb.feed(data):
            if isinstance(event, bytes) and event.startswith(_RESUMES):
                self._running = True
        os.write(self._line, data)

    def _take(self, data: bytes) -> None:
        """Bytes from the kernel: the debugger's, or answers to our own knocking."""
        for event in self._from_kernel.feed(data):
            if isinstance(event, bytes) and event.startswith(_STOPS) and self._running:
                self._running = False
                self._stopped_at = time.monotonic()
            if isinstance(event, bytes) and self._knocking:
                os.write(self._line, _ACK)
        if self._client is not None and not self._knocking:
            try:
                self._client.sendall(data)
            except OSError:
                self._hang_up()

    def _hang_up(self) -> None:
        self._knocking = 0.0
        if self._client is not None:
            with self._client, suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)
            self._client = None


def gdb_lines(vmlinux: str, port: int, text: int = LINKED_AT) -> list[str]:
    """What to type into gdb, about a kernel that lies at `text`."""
    moved = f"symbol-file -o {text - LINKED_AT:#x} {vmlinux}"
    return [
        f"file {vmlinux}" if text == LINKED_AT else moved,
        "set architecture i386:x86-64",
        "set remotetimeout 10",  # seconds: a slow line
        f"target remote {LOOPBACK}:{port}",
    ]
