# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of GDB's remote protocol that says just what a test wants said."""

from __future__ import annotations

import re
import socket
import time
from contextlib import suppress

PACKET = re.compile(rb"\$([^#]*)#[0-9a-f]{2}", re.DOTALL)
MULTIPROCESS = "qSupported:multiprocess+;vContSupported+;xmlRegisters=i386"


class Client:
    """One connection, with acknowledgements."""

    def __init__(self, port: int, timeout: float = 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pending = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, packet: str) -> None:
        raw = packet.encode("latin-1")
        self.socket.sendall(b"$%b#%02x" % (raw, sum(raw) & 0xFF))

    def receive(self) -> str:
        """The next packet; EOFError if the other end hung up."""
        while True:
            found = PACKET.search(self._pending)
            if found:
                self._pending = self._pending[found.end() :]
                with suppress(OSError):  # the packet may be the last
                    self.socket.sendall(b"+")
                return found[1].decode("latin-1")
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._pending += data

    def ask(self, packet: str) -> str:
        self.send(packet)
        return self.receive()

    def monitor(self, text: str) -> str:
        """The text that a monitor command shows."""
        answer = self.ask("qRcmd," + text.encode().hex())
        shown = b""
        while answer.startswith("O") and answer != "OK":
            shown += bytes.fromhex(answer[1:])
            answer = self.receive()
        return shown.decode() + ("" if answer == "OK" else f"[{answer}]")

    def interrupt(self) -> tuple[str, float]:
        """Ctrl-C; the stop reply, and the seconds until it came."""
        started = time.monotonic()
        self.socket.sendall(b"\x03")
        return self.receive(), time.monotonic() - started
