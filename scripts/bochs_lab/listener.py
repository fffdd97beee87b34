# SPDX-License-Identifier: GPL-2.0-or-later
"""A port of the loopback to which debuggers come."""

from __future__ import annotations

import socket

from .errors import LabError
from .replay import LOOPBACK

PATIENCE = 10.0  # seconds for a debugger to take what is sent to it


class Listener:
    """One debugger is accepted at a time; a second one waits until that is done again."""

    def __init__(self, port: int = 0) -> None:
        """Port 0: a free one."""
        try:
            self._socket = socket.create_server((LOOPBACK, port), backlog=1)
        except (OSError, OverflowError) as error:
            raise LabError(f"nobody can listen on port {port}: {error}") from error

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> socket.socket:
        """The debugger that has come."""
        connection, _ = self._socket.accept()
        connection.settimeout(PATIENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def close(self) -> None:
        self._socket.close()
