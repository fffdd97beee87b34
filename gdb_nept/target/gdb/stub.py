# SPDX-License-Identifier: GPL-2.0-or-later
"""The stub that gdb is connected to, of which memory is read."""

from __future__ import annotations

import re

import gdb

from gdb_nept.errors import MemoryUnreadable
from gdb_nept.target.gdb.connection import connected, gone

_RECEIVED = re.compile(r'^received: "(.*)"$', re.MULTILINE)


class GdbStub:
    """The remote stub that gdb is connected to (memory.qemu.Stub)."""

    def packet(self, text: str) -> str:
        found = _RECEIVED.search(self._execute(f"maint packet {text}"))
        return found[1] if found else ""

    def monitor(self, text: str) -> str:
        try:
            return gdb.execute(f"monitor {text}", to_string=True)
        except (gdb.error, UnicodeError):
            return ""  # so says a stub without a monitor; what is no text is no answer

    def read(self, address: int, size: int) -> bytes:
        try:
            return bytes(gdb.selected_inferior().read_memory(address, size))
        except gdb.MemoryError as error:
            if not connected():
                raise gone(error) from None
            raise MemoryUnreadable(address, size, str(error)) from None
        except gdb.error as error:
            raise gone(error) from None

    def forget(self) -> None:
        try:
            gdb.execute("maint flush dcache", to_string=True)
        except gdb.error:
            pass  # before gdb 11; it caches only what it takes for stack or code

    def _execute(self, line: str) -> str:
        try:
            return gdb.execute(line, to_string=True)
        except UnicodeError:
            return ""
        except gdb.error as error:
            raise gone(error) from None
