# SPDX-License-Identifier: GPL-2.0-or-later
"""Global variables of KVM that have no type anywhere: BTF lists none of them."""

from __future__ import annotations

from gdb_nept.address import KernelVirt
from gdb_nept.errors import SymbolMissing
from gdb_nept.target.ports import Kernel


def variable_address(kernel: Kernel, name: str, module: str) -> KernelVirt | None:
    """Where variable `name` of `module` (or of a kernel with KVM built in) lies; None if this
    kernel has none, or was built without CONFIG_KALLSYMS_ALL."""
    for owner in (module, None):
        try:
            return kernel.symbols.address(name, owner)
        except SymbolMissing:
            continue
    return None


def variable(kernel: Kernel, name: str, size: int, module: str) -> int | None:
    """The `size` bytes of variable `name` as a number; None as above.  Raises MemoryUnreadable."""
    address = variable_address(kernel, name, module)
    if address is None:
        return None
    return int.from_bytes(kernel.read(address, size), "little")
