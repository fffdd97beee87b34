# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes small BTF by hand, plain and split, for tests to read back."""

from __future__ import annotations

import struct

from gdb_nept.target import btf_index as btf
from gdb_nept.target.btf import HEADER, MAGIC


class BtfWriter:
    def __init__(self, base: BtfWriter | None = None) -> None:
        self.strings = b"" if base else b"\0"
        self.string_start: int = len(base.strings) + base.string_start if base else 0
        self.types = b""
        self.next: int = base.next if base else 1
        self.base = base

    def text(self, name: str) -> int:
        if not name:
            return 0
        owner: BtfWriter | None = self
        while owner:  # as pahole does: a string of the base is not repeated
            place = (b"\0" + owner.strings).find(b"\0" + name.encode() + b"\0")
            if place >= 0 and owner.strings:
                return owner.string_start + place
            owner = owner.base
        self.strings += name.encode() + b"\0"
        return self.string_start + len(self.strings) - len(name) - 1

    def add(
        self, kind: int, name: str, size: int, *words: int, count: int = 0, flag: bool = False
    ) -> int:
        info = kind << 24 | count | flag << 31
        self.types += struct.pack(f"<{3 + len(words)}I", self.text(name), info, size, *words)
        self.next += 1
        return self.next - 1

    def integer(self, name: str, size: int, signed: bool = False, bits: int = 0) -> int:
        return self.add(btf.INT, name, size, signed << 24 | (bits or size * 8))

    def struct(
        self, name: str, size: int, *members: tuple[str, int, int], kind: int = btf.STRUCT
    ) -> int:
        """Members: (name, type, offset in bits)."""
        words = [word for m in members for word in (self.text(m[0]), m[1], m[2])]
        return self.add(kind, name, size, *words, count=len(members))

    def flagged(self, name: str, size: int, *members: tuple[str, int, int, int]) -> int:
        """Members with a bit size behind."""
        words = [word for m in members for word in (self.text(m[0]), m[1], m[2] | m[3] << 24)]
        return self.add(btf.STRUCT, name, size, *words, count=len(members), flag=True)

    def blob(self) -> bytes:
        sizes = (24, 0, len(self.types), len(self.types), len(self.strings))
        return HEADER.pack(MAGIC, 1, 0, *sizes) + self.types + self.strings
