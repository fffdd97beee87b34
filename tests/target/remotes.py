# SPDX-License-Identifier: GPL-2.0-or-later
"""A debugger made by hand."""

from __future__ import annotations

from gdb_nept.errors import NeptError
from gdb_nept.memory.transport import NotOffered
from gdb_nept.target.debugger import Debugger
from tests.memory.stubs import Machine


class Remote:
    """A debugger that is connected to `stub`, or to nothing."""

    def __init__(self, stub: Machine, base: int | None = None) -> None:
        self.stub = stub
        self.base = base
        self.where = "remote 127.0.0.1:1234"
        self.number = 1

    def connected(self) -> str:
        return self.where

    def address(self) -> str:
        return "/dev/ttyS0"

    def connection(self) -> str:
        return f"{self.where} ({self.number})"

    def check(self) -> None:
        if not self.where:
            raise NeptError("not attached")

    def cr3s(self) -> tuple[int, ...]:
        return ()

    def direct_map(self) -> int:
        if self.base is None:
            raise NotOffered("page_offset_base is not known")
        return self.base

    def vmlinux(self) -> Debugger | None:
        return None
