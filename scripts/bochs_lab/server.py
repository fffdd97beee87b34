# SPDX-License-Identifier: GPL-2.0-or-later
"""The gdb stub's port: one debugger at a time, packets in, answers and stop replies out.

It has no thread of its own: whoever owns the machine waits for `descriptors` and calls `turn`.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from contextlib import suppress
from typing import Optional

from .errors import BochsDied, LabError
from .listener import PATIENCE, Listener
from .live import AGAIN, Live
from .rsp import Decoder, Event, Mark, frame
from .stub import GdbStub, Killed

_FAREWELL = 0.5  # seconds for it to hang up in turn
_PIECE = 1 << 16
_FAILED = b"E05"  # Bochs could not do what was asked


class Client:
    """The debugger that is attached."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.decoder = Decoder()
        self._last = b""

    def send(self, payload: bytes) -> None:
        """A packet."""
        self._last = frame(payload)
        self.connection.sendall(self._last)

    def send_again(self) -> None:
        """The last packet, which came to harm on its way."""
        self.connection.sendall(self._last)

    def hang_up(self) -> None:
        """Close; the other end gets all that was sent, which a reset would take from it."""
        with self.connection, suppress(OSError):
            self.connection.settimeout(_FAREWELL)
            self.connection.shutdown(socket.SHUT_WR)
            while self.connection.recv(_PIECE):
                pass


class StubServer:
    """Listens on the loopback alone."""

    def __init__(self, live: Live, port: int = 0) -> None:
        """Port 0: a free one."""
        self._listener = Listener(port)
        self._live = live
        self._client: Optional[Client] = None
        self._stub = GdbStub(live, self._say)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def attached(self) -> bool:
        """Whether a debugger is."""
        return self._client is not None

    def close(self) -> None:
        """Hang up."""
        self._hang_up()
        self._listener.close()

    def descriptors(self) -> list[int]:
        """What to wait for; a second debugger waits until the first has gone."""
        one = self._listener if self._client is None else self._client.connection
        bochs = [self._live.machine.bochs.descriptor] if self._live.running else []
        return [one.fileno(), *bochs]

    def patience(self) -> float:
        """How many seconds to wait for them at most."""
        return AGAIN if self._live.running and self._live.interrupted else PATIENCE

    def turn(self, ready: Collection[int]) -> None:
        """Do what can be done now.  Raises BochsDied, or Killed when gdb ends the machine."""
        if self._live.running and self._live.poll():
            self._say(self._stub.stop_reply())
        elif self._live.running and self._live.interrupted:
            self._live.interrupt()
        if self._client is not None and self._client.connection.fileno() in ready:
            self._listen_to(self._client)
        elif self._client is None and self._listener.fileno() in ready:
            self._accept()

    def died(self, reason: str) -> None:
        """Tell the debugger that there is no machine any more."""
        for packet in self._stub.died(reason):
            self._say(packet)

    def _accept(self) -> None:
        self._client = Client(self._listener.accept())
        self._stub.connected()

    def _listen_to(self, client: Client) -> None:
        try:
            data = client.connection.recv(_PIECE)
            for event in client.decoder.feed(data):
                self._take(client, event)
                if self._client is None:
                    return
        except OSError:
            data = b""
        if not data:
            self._lose()

    def _take(self, client: Client, event: Event) -> None:
        """One event.  Whatever comes while the machine runs stops it, as in QEMU."""
        if event is Mark.INTERRUPT or (isinstance(event, bytes) and self._live.running):
            self._live.interrupt()
        elif event is Mark.NACK:
            client.send_again()
        elif event is Mark.BROKEN and self._stub.acknowledging:
            client.connection.sendall(b"-")
        elif isinstance(event, bytes):
            self._answer(client, event)

    def _answer(self, client: Client, packet: bytes) -> None:
        if self._stub.acknowledging:
            client.connection.sendall(b"+")
        try:
            answer = self._stub.answer(packet)
        except (BochsDied, Killed):
            raise
        except (LabError, TimeoutError):
            answer = _FAILED
        if answer is not None:
            self._say(answer)

    def _say(self, payload: bytes) -> None:
        if self._client is None:
            return
        try:
            self._client.send(payload)
        except OSError:
            self._lose()

    def _lose(self) -> None:
        """The debugger vanished: the machine goes on as it was, without its breakpoints."""
        self._hang_up()
        self._live.remove_all()

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.hang_up()
            self._client = None
