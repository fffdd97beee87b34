# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine that gdb is connected to."""

from __future__ import annotations

import gdb

from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.memory.transport import NotOffered
from gdb_nept.target.debugged import SAME_VMLINUX
from gdb_nept.target.gdb.connection import check_target, connected
from gdb_nept.target.gdb.debugger import GdbDebugger
from gdb_nept.target.gdb.stub import GdbStub
from gdb_nept.target.kernel import DIRECT_MAPS

LOAD_VMLINUX = "Load the running kernel's vmlinux, with debug information: file vmlinux"
FIXED_DIRECT_MAP = DIRECT_MAPS[4][0]  # of a kernel that cannot move it, and so has no variable


class GdbRemote:
    """The machine that gdb is connected to (target.remote.Remote)."""

    def __init__(self) -> None:
        self.stub = GdbStub()

    def connected(self) -> str:
        return connected()

    def address(self) -> str:
        connection = getattr(gdb.selected_inferior(), "connection", None)  # gdb 12
        return str(connection.details or "") if connection else ""

    def connection(self) -> str:
        number = getattr(gdb.selected_inferior(), "connection_num", None)  # gdb 10
        return f"{connected()} ({number})"

    def check(self) -> None:
        check_target(connected())

    def cr3s(self) -> tuple[int, ...]:
        try:
            return (int(gdb.parse_and_eval("$cr3")) & ALL_BITS,)
        except gdb.error:
            return ()

    def direct_map(self) -> int:
        try:
            return int(gdb.parse_and_eval("*(unsigned long *)&page_offset_base")) & ALL_BITS
        except gdb.error as error:
            vmlinux = self.vmlinux()
            if vmlinux is None:
                raise NotOffered("no vmlinux is loaded in gdb", LOAD_VMLINUX) from None
            if vmlinux.symbol("page_offset_base") is None:
                return FIXED_DIRECT_MAP
            raise NotOffered(
                f"gdb cannot tell the kernel's page_offset_base: {error}", SAME_VMLINUX
            ) from None

    def vmlinux(self) -> GdbDebugger | None:
        """The object file with a kernel's debug info, if the user loaded one."""
        for objfile in gdb.objfiles():
            if objfile.is_valid() and objfile.lookup_global_symbol("init_task") is not None:
                return GdbDebugger(objfile)
        return None
