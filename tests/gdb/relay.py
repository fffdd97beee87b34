# SPDX-License-Identifier: GPL-2.0-or-later
"""A relay between gdb and a stub: it writes down what gdb asks, can be slow, and can hang up.

It answers gdb's detach itself, so that a machine behind it stays stopped for the next test.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable

PACKET = re.compile(rb"\$([^#]*)#[0-9a-f]{2}", re.DOTALL)
DETACH = re.compile(rb"\$D[^#]*#[0-9a-f]{2}")


class Relay:
    """Listens on `port` of the loopback and passes everything to the stub at `target`.

    `delay` seconds before each memory read; `hang_up_after` that many of them, once.  Reads that
    begin at an address of `failing` are answered with an error, so many times; packets that begin
    with `unknown`, as by a stub that does not know them.  `instead` gives the answer to a packet,
    or None to let the stub answer.
    """

    def __init__(
        self,
        target: tuple[str, int],
        delay: float = 0.0,
        hang_up_after: int = 0,
        failing: dict[int, int] | None = None,
        unknown: str = "",
        instead: Callable[[str], str | None] = lambda packet: None,
    ) -> None:
        self.target = target
        self.delay = delay
        self.hang_up_after = hang_up_after
        self.failing = failing or {}
        self.unknown = unknown.encode()
        self.instead = instead
        self.packets: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.close()

    @property
    def reads(self) -> int:
        return sum(packet.startswith("m") for packet in self.packets)

    @property
    def kinds(self) -> set[str]:
        """The first letters of all packets."""
        return {packet[:1] for packet in self.packets}

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            with client, socket.create_connection(self.target) as stub:
                for end in (client, stub):  # gdb's acknowledgements would wait 40 ms each
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answers = threading.Thread(target=_copy, args=(stub, client), daemon=True)
                answers.start()
                self._ask(client, stub)
                stub.shutdown(socket.SHUT_RDWR)
                answers.join()

    def _ask(self, client: socket.socket, stub: socket.socket) -> None:
        while True:
            try:
                data = client.recv(1 << 16)
            except OSError:
                return
            packets = PACKET.findall(data)
            for text in packets:
                self.packets.append(text.decode("latin-1"))
                if text.startswith(b"m"):
                    time.sleep(self.delay)
            if self.hang_up_after and self.reads > self.hang_up_after:
                self.hang_up_after = 0
                return
            if not data:
                return
            if packets and self.unknown and packets[-1].startswith(self.unknown):
                client.sendall(b"+$#00")
                continue
            own = self.instead(packets[-1].decode("latin-1")) if packets else None
            if own is not None:
                client.sendall(b"+" + framed(own))
                continue
            if packets and self._fails(packets[-1]):
                client.sendall(b"+$E14#aa")
                continue
            if DETACH.search(data):
                client.sendall(b"+$OK#9a")
                return
            stub.sendall(data)

    def _fails(self, packet: bytes) -> bool:
        """Whether this read is to be answered with an error."""
        asked = re.fullmatch(rb"m([0-9a-f]+),[0-9a-f]+", packet)
        address = int(asked[1], 16) if asked else -1
        if not self.failing.get(address):
            return False
        self.failing[address] -= 1
        return True


def framed(text: str) -> bytes:
    """A packet with its sum."""
    data = text.encode("latin-1")
    return b"$" + data + b"#" + f"{sum(data) & 0xFF:02x}".encode()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    while True:
        try:
            data = source.recv(1 << 16)
            if not data:
                return
            sink.sendall(data)
        except OSError:
            return
