# SPDX-License-Identifier: GPL-2.0-or-later
"""The Symbols port over kallsyms: vmlinux at once, a module when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from gdb_nept.address import KernelVirt
from gdb_nept.errors import NeptError, SymbolMissing
from gdb_nept.target.kallsyms import SymbolTable
from gdb_nept.target.modules import LoadedModule
from gdb_nept.target.vmcoreinfo import KERNEL_MAP

FIRST_ASKED = ("kvm", "kvm_intel", "kvm_amd", "irqbypass")
NO_DATA = "Without CONFIG_KALLSYMS_ALL a kernel's tables hold functions only."


class SymbolLookup(Protocol):
    """A table of symbols, decoded or as it is kept by build."""

    def __len__(self) -> int: ...

    def address(self, name: str) -> KernelVirt | None:
        """Of the first symbol called `name`."""
        ...

    def nearest(self, address: int) -> tuple[str, int] | None:
        """The last symbol at or below `address`, and the distance from it."""
        ...


class KernelSymbols:
    """`modules` and `read` are asked late: `read(module)` gives that module's own table."""

    def __init__(
        self,
        vmlinux: SymbolLookup,
        origin: str,
        modules: Callable[[], Iterable[LoadedModule]],
        read: Callable[[LoadedModule], SymbolTable],
    ) -> None:
        self.vmlinux = vmlinux
        self.origin = origin
        self._modules = modules
        self._read = read
        self._tables: dict[str, SymbolTable] = {}
        self.unreadable: dict[str, str] = {}  # modules whose table could not be read, and why

    def forget(self) -> None:
        """The target ran: modules may have come and gone."""
        self._tables.clear()
        self.unreadable.clear()

    def address(self, name: str, module: str | None = None) -> KernelVirt:
        """Raises SymbolMissing.  Without `module`: vmlinux first, then every module."""
        if module is not None:
            return self._in_module(name, module)
        found = self.vmlinux.address(name)
        if found is not None:
            return found
        if name == "modules":
            raise SymbolMissing(name, self.origin, NO_DATA)
        for loaded in sorted(self._modules(), key=_urgency):
            found = self._table(loaded).address(name)
            if found is not None:
                return found
        raise SymbolMissing(name, f"{self.origin}, nor in any module", NO_DATA)

    def _in_module(self, name: str, module: str) -> KernelVirt:
        for loaded in self._modules():
            if loaded.module.name == module:
                found = self._table(loaded).address(name)
                if found is not None:
                    return found
                raise SymbolMissing(name, f"module {module}", self._why(module))
        found = self.vmlinux.address(name)  # built in
        if found is not None:
            return found
        advice = f"Is {module} loaded on the host (lsmod)?"
        raise SymbolMissing(name, f"module {module}, which is not loaded", advice)

    def _why(self, module: str) -> str:
        return self.unreadable.get(module, NO_DATA)

    def _table(self, loaded: LoadedModule) -> SymbolTable:
        name = loaded.module.name
        found = self._tables.get(name)
        if found is None:
            try:
                found = self._read(loaded)
            except NeptError as error:
                self.unreadable[name] = f"Its symbols cannot be read: {error}"
                found = SymbolTable((), ())
            self._tables[name] = found
        return found

    def name_at(self, address: KernelVirt) -> str | None:
        """'symbol+0x12' or 'symbol+0x12 [module]', or None."""
        for loaded in self._modules():
            if loaded.holds(address):
                found = self._table(loaded).nearest(address)
                return _shown(found) + f" [{loaded.module.name}]" if found else None
        end = self.vmlinux.address("_end")
        if address < KERNEL_MAP or (end is not None and address >= end):
            return None
        found = self.vmlinux.nearest(address)
        return _shown(found) if found else None


def _shown(found: tuple[str, int]) -> str:
    name, offset = found
    return f"{name}+{offset:#x}" if offset else name


def _urgency(loaded: LoadedModule) -> int:
    name = loaded.module.name
    return FIRST_ASKED.index(name) if name in FIRST_ASKED else len(FIRST_ASKED)
