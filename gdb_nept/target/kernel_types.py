# SPDX-License-Identifier: GPL-2.0-or-later
"""The Types port over BTF: vmlinux', and each module's when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable

from gdb_nept.errors import NeptError, TypeMissing
from gdb_nept.target.btf import Btf
from gdb_nept.target.btf_types import BtfReader
from gdb_nept.target.ports import CType

Source = Callable[[], "tuple[bytes, str]"]  # the blob, and where it came from in words
BODIES = ("kvm", "kvm_intel")  # where to look for a structure that another one only declares
NO_MODULE_BTF = (
    "Name the module's file, or its BTF: --btf /lib/modules/RELEASE/kernel/arch/x86/kvm/{}.ko"
)


class KernelTypes:
    """`vmlinux()` and `module(name)` fetch a blob; what they raise says what is missing."""

    def __init__(self, vmlinux: Source, module: Callable[[str], tuple[bytes, str]]) -> None:
        self._vmlinux_source = vmlinux
        self._module_source = module
        self._vmlinux: BtfReader | None = None
        self._modules: dict[str, BtfReader] = {}
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

    def vmlinux(self) -> BtfReader:
        """Raises TypeMissing or BadInput if there is no BTF of vmlinux."""
        if self._vmlinux is None:
            data, self.origins["vmlinux"] = self._vmlinux_source()
            self._vmlinux = BtfReader(Btf(data, origin="vmlinux' BTF"))
        return self._vmlinux

    def module(self, name: str) -> BtfReader | None:
        """None where the module has no BTF; `missing[name]` then says why."""
        if name in self.missing:
            return None
        if name not in self._modules:
            base = self.vmlinux().btf
            try:
                data, origin = self._module_source(name)
                blob = Btf(data, base, f"{name}'s BTF")
            except NeptError as error:
                self.missing[name] = error
                return None
            self._modules[name] = BtfReader(blob, self._elsewhere)
            self.origins[name] = origin
        return self._modules[name]

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
            return TypeMissing(name, f"the BTF of {module} and vmlinux")
        advice = cause.advice or NO_MODULE_BTF.format(module.replace("_", "-"))
        return TypeMissing(name, f"the BTF of vmlinux ({module}: {cause.message})", advice)

    def _elsewhere(self, name: str) -> CType | None:
        for module in BODIES:
            reader = self._modules.get(module)
            found = reader.named(name) if reader else None
            if found:
                return found
        return None
