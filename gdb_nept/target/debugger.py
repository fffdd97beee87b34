# SPDX-License-Identifier: GPL-2.0-or-later
"""What a debugger knows of a vmlinux: its types and symbols, as it has read them.

gdb itself is behind the Debugger protocol (`target/gdb/debugger.py`), so that this is tested
without one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gdb_nept.address import KernelVirt
from gdb_nept.errors import MemberMissing, SymbolMissing, TypeMissing
from gdb_nept.target.ports import CType, Member

NO_SYMBOL = "Is it of a module?  Then load the module's symbols too: nept-target tells how."
NO_TYPE = (
    "Load the vmlinux with debug information (CONFIG_DEBUG_INFO), and add-symbol-file for KVM's "
    "modules if they are not built in."
)


class DebugType(Protocol):
    """The part of gdb.Type that we use; `fields()` are gdb.Field."""

    name: Any
    tag: Any
    sizeof: int

    def strip_typedefs(self) -> DebugType: ...
    def unqualified(self) -> DebugType: ...
    def target(self) -> DebugType: ...
    def range(self) -> tuple[int, int]: ...
    def fields(self) -> Sequence[Any]: ...


class Debugger(Protocol):
    """A debugger with a vmlinux loaded."""

    file: str  # of the vmlinux

    def struct(self, name: str) -> DebugType | None:
        """struct or union `name` with its members; None if there is none."""
        ...

    def kind(self, found: DebugType) -> str:
        """One of CType's kinds."""
        ...

    def signed(self, found: DebugType) -> bool: ...

    def symbol(self, name: str) -> int | None:
        """Its address as vmlinux was linked."""
        ...

    def name_at(self, address: int) -> str | None:
        """'symbol+0x12', or None."""
        ...


@dataclass(frozen=True)
class DebuggedTypes:
    """Every type that the debugger knows, of vmlinux and of the modules loaded into it."""

    debugger: Debugger
    _found: dict[str, CType] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"DWARF of {self.debugger.file}"

    def struct(self, name: str, module: str | None = None) -> CType:
        if name not in self._found:
            found = self.debugger.struct(name)
            if found is None:
                raise TypeMissing(name, self.origin, NO_TYPE)
            self._found[name] = ctype(self.debugger, found)
        return self._found[name]


@dataclass(frozen=True)
class DebuggedSymbols:
    """Every symbol that the debugger knows, where it says that it lies."""

    debugger: Debugger

    @property
    def origin(self) -> str:
        return self.debugger.file

    def address(self, name: str, module: str | None = None) -> KernelVirt:
        found = self.debugger.symbol(name)
        if found is None:
            raise SymbolMissing(name, self.origin, NO_SYMBOL)
        return KernelVirt(found)

    def name_at(self, address: KernelVirt) -> str | None:
        return self.debugger.name_at(address)


def ctype(debugger: Debugger, found: DebugType) -> CType:
    """The debugger's type as ours, its members looked up when asked."""
    plain = found.strip_typedefs().unqualified()
    kind = debugger.kind(plain)

    @functools.lru_cache(maxsize=1)
    def members() -> dict[str, Member]:
        return dict(_members(debugger, plain, 0))

    def lookup(name: str) -> Member:
        try:
            return members()[name]
        except KeyError:
            raise MemberMissing(str(plain.tag or plain.name or kind), name) from None

    structured = kind in ("struct", "union")
    return CType(
        kind=kind,
        name=str(plain.tag or plain.name or ""),
        size=plain.sizeof,
        signed=kind in ("int", "enum") and debugger.signed(plain),
        count=_count(debugger, plain),
        target=(lambda: ctype(debugger, plain.target())) if kind in ("pointer", "array") else None,
        lookup=lookup if structured else None,
        names=(lambda: tuple(members())) if structured else None,
        enumerators=tuple((str(one.name), int(one.enumval)) for one in plain.fields())
        if kind == "enum"
        else (),
    )


def _members(debugger: Debugger, found: DebugType, base: int) -> Iterator[tuple[str, Member]]:
    for one in found.fields():
        place = base + int(one.bitpos)
        if one.name:
            inner = ctype(debugger, one.type)
            yield str(one.name), Member(str(one.name), place, int(one.bitsize), inner)
        else:
            yield from _members(debugger, one.type.strip_typedefs().unqualified(), place)


def _count(debugger: Debugger, found: DebugType) -> int:
    """Elements of an array, 0 for a flexible one; parameters of a function."""
    kind = debugger.kind(found)
    if kind == "function":
        return len(found.fields())
    if kind != "array" or not found.sizeof:  # gdb gives a flexible one the range 0 to 0
        return 0
    low, high = found.range()
    return max(0, high - low + 1)
