# SPDX-License-Identifier: GPL-2.0-or-later
"""The Types port over BTF or layouts: vmlinux', and each module's when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Union

from gdb_nept.errors import NeptError, TypeMissing
from gdb_nept.target.btf import Btf
from gdb_nept.target.btf_types import BtfReader
from gdb_nept.target.layouts import VMLINUX, LayoutReader, Layouts
from gdb_nept.target.ports import CType

Types = Union[Btf, Layouts]
Found = tuple[Types, str]  # the types, and where they came from in words
BODIES = ("kvm", "kvm_intel")  # where to look for a structure that another one only declares
NO_MODULE_BTF = (
    "Name the module's file, or its BTF: --btf /lib/modules/RELEASE/kernel/arch/x86/kvm/{}.ko"
)


class Reader(Protocol):
    """The types of vmlinux or of one module."""

    def named(self, name: str) -> CType | None:
        """struct or union `name` of this object itself."""
        ...


class KernelTypes:
    """`vmlinux()` and `module(name, vmlinux' BTF)` fetch types; what they raise says what is
    missing."""

    def __init__(
        self, vmlinux: Callable[[], Found], module: Callable[[str, Btf | None], Found]
    ) -> None:
        self._vmlinux_source = vmlinux
        self._module_source = module
        self._vmlinux: Reader | None = None
        self._modules: dict[str, Reader] = {}
        self.origins: dict[str, str] = {}  # "vmlinux" or a module -> where its types are from
        self.missing: dict[str, NeptError] = {}

    @property
    def origin(self) -> str:
        """'BTF in memory; kvm: module BTF in memory'."""
        told = [self.origins.get("vmlinux", "BTF, not read yet")]
        told += [f"{name}: {text}" for name, text in self.origins.items() if name != "vmlinux"]
        return "; ".join(told)

    def forget(self) -> None:
        """The target ran: what a module lacked, it may have now."""
        self.missing.clear()

    def vmlinux(self) -> Reader:
        """Raises TypeMissing or BadInput if there are no types of vmlinux."""
        if self._vmlinux is None:
            data, self.origins["vmlinux"] = self._vmlinux_source()
            if isinstance(data, Layouts):
                self._vmlinux = LayoutReader(data.bodies(VMLINUX), self._elsewhere)
            else:
                self._vmlinux = BtfReader(data)
        return self._vmlinux

    def module(self, name: str) -> Reader | None:
        """None where the module has no types; `missing[name]` then says why."""
        if name in self.missing:
            return None
        if name not in self._modules:
            base = self.vmlinux()
            try:
                blob = base.btf if isinstance(base, BtfReader) else None
                data, origin = self._module_source(name, blob)
                self._modules[name] = self._reader(name, data, base)
            except NeptError as error:
                self.missing[name] = error
                return None
            self.origins[name] = origin
        return self._modules[name]

    def _reader(self, name: str, data: Types, base: Reader) -> Reader:
        if isinstance(data, Layouts):
            return LayoutReader(data.bodies(name), lambda each: self._behind_layouts(each, base))
        return BtfReader(data, self._elsewhere)

    def _behind_layouts(self, name: str, base: Reader) -> CType | None:
        return base.named(name) or self._elsewhere(name)

    def struct(self, name: str, module: str | None = None) -> CType:
        """struct or union `name`; of the module's own types first if `module` is given.  Raises
        TypeMissing."""
        if module is not None:
            reader = self.module(module)
            found = reader.named(name) if reader else None
            if found:
                return found
        found = self.vmlinux().named(name)
        if found:
            return found
        if module is None:
            raise TypeMissing(name, self.origin)
        raise self._missing_in(name, module)

    def _missing_in(self, name: str, module: str) -> TypeMissing:
        cause = self.missing.get(module)
        if cause is None:
            return TypeMissing(name, f"the types of {module} and vmlinux")
        advice = cause.advice or NO_MODULE_BTF.format(module.replace("_", "-"))
        return TypeMissing(name, f"the types of vmlinux ({module}: {cause.message})", advice)

    def _elsewhere(self, name: str) -> CType | None:
        for module in BODIES:
            reader = self._modules.get(module)
            found = reader.named(name) if reader else None
            if found:
                return found
        return None
