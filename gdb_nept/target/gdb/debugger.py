# SPDX-License-Identifier: GPL-2.0-or-later
"""Types and symbols, as gdb has them of a vmlinux."""

from __future__ import annotations

import re
from typing import Any

import gdb

from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.target.debugger import DebugType

_SYMBOL = re.compile(r"^(\S+)(?: \+ (\d+))? in section ")


KINDS = {
    gdb.TYPE_CODE_INT: "int",
    gdb.TYPE_CODE_CHAR: "int",
    gdb.TYPE_CODE_BOOL: "int",
    gdb.TYPE_CODE_ENUM: "enum",
    gdb.TYPE_CODE_PTR: "pointer",
    gdb.TYPE_CODE_ARRAY: "array",
    gdb.TYPE_CODE_STRUCT: "struct",
    gdb.TYPE_CODE_UNION: "union",
    gdb.TYPE_CODE_FUNC: "function",
    gdb.TYPE_CODE_VOID: "void",
    gdb.TYPE_CODE_FLT: "float",
}


class GdbDebugger:
    """gdb's own view of a vmlinux (target.debugger.Debugger)."""

    def __init__(self, objfile: gdb.Objfile) -> None:
        self.file = str(objfile.filename)

    def struct(self, name: str) -> DebugType | None:
        for keyword in ("struct", "union"):
            try:
                found: Any = gdb.lookup_type(f"{keyword} {name}")
            except gdb.error:
                continue
            if found.fields():  # else it is declared only
                return found  # type: ignore[no-any-return]
        return None

    def kind(self, found: Any) -> str:
        return KINDS.get(found.code, "void")

    def signed(self, found: Any) -> bool:
        return int(gdb.Value(-1).cast(found)) < 0

    def symbol(self, name: str) -> int | None:
        try:
            return int(gdb.parse_and_eval(f"&{name}")) & ALL_BITS
        except gdb.error:
            return None

    def name_at(self, address: int) -> str | None:
        found = _SYMBOL.match(gdb.execute(f"info symbol {address:#x}", to_string=True))
        if not found:
            return None
        return f"{found[1]}+{int(found[2]):#x}" if found[2] else found[1]
