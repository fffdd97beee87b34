# SPDX-License-Identifier: GPL-2.0-or-later
"""The target description of a 64-bit machine, as QEMU 7.2 sends it.

`i386-64bit.xml` is QEMU's gdb-xml/i386-64bit.xml, unchanged (its notice allows copying).  The
registers of `g` and the numbers of `p` follow from the order in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Callable, Optional
from xml.etree import ElementTree

CORE = "i386-64bit.xml"
_CORE_PATH = Path(__file__).with_name(CORE)
TARGET = (
    '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>'
    f'<architecture>i386:x86-64</architecture><xi:include href="{CORE}"/></target>'
)


@dataclass(frozen=True)
class Register:
    """A register as it is sent: little-endian, so many bytes."""

    name: str
    size: int

    def encode(self, value: int) -> bytes:
        """A value, cut to the register's width."""
        return (value & (1 << 8 * self.size) - 1).to_bytes(self.size, "little")


def document(name: str) -> Optional[bytes]:
    """A file of the description; None if it has no such file."""
    if name == "target.xml":
        return TARGET.encode()
    return _CORE_PATH.read_bytes() if name == CORE else None


@cache
def registers() -> tuple[Register, ...]:
    """All registers; a place in the tuple is a number in the protocol."""
    tree = ElementTree.parse(_CORE_PATH)
    found = [(each.attrib["name"], int(each.attrib["bitsize"])) for each in tree.iter("reg")]
    return tuple(Register(name, bits // 8) for name, bits in found)


def encode_all(value: Callable[[str], int]) -> bytes:
    """All registers in their order; `value` tells each."""
    return b"".join(register.encode(value(register.name)) for register in registers())
