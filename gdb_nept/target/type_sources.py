# SPDX-License-Identifier: GPL-2.0-or-later
"""Where BTF comes from: a file that the user named, the cache of this build, or the kernel's own
memory, in this order.  A file of another build is refused: its offsets would all be lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gdb_nept.address import KernelVirt
from gdb_nept.errors import BadInput, NeptError, SymbolMissing, TypeMissing
from gdb_nept.target import modules
from gdb_nept.target.cache import BuildCache
from gdb_nept.target.elf import BtfFile, read_btf_file
from gdb_nept.target.modules import LARGEST_BTF, LoadedKernel, LoadedModule
from gdb_nept.target.ports import Symbols

#: The section's bounds: since 5.7 (include/asm-generic/vmlinux.lds.h, BTF), and in 5.6.
BOUNDS = (
    ("__start_BTF", "__stop_BTF"),
    ("_binary__btf_vmlinux_bin_start", "_binary__btf_vmlinux_bin_end"),
)
NO_VMLINUX = "Name the kernel's BTF: --btf FILE (a vmlinux, or a copy of /sys/kernel/btf/vmlinux)."
NO_MODULE = (
    "Name the module's file or its BTF: --btf FILE "
    "(/lib/modules/{release}/kernel/.../{name}.ko, or a copy of /sys/kernel/btf/{module})."
)


class TypeSources:
    """`files` were read and checked by `checked_files`."""

    def __init__(self, files: Sequence[BtfFile], cache: BuildCache) -> None:
        self._files = {file.module: file for file in files}
        self._cache = cache

    def vmlinux(self, kernel: LoadedKernel) -> tuple[bytes, str]:
        """The BTF of vmlinux and its origin in words.  Raises TypeMissing, BadInput."""
        file = self._files.get("")
        bounds = _bounds(kernel.symbols)
        if file:
            _same_size(file, bounds)
            return file.btf, f"BTF of {file.path}"
        cached = self._cache.load("vmlinux.btf")
        if cached is not None:
            return cached, "BTF (from the cache of this build)"
        if not bounds:
            raise TypeMissing("module", "memory: this kernel carries no BTF", NO_VMLINUX)
        data = kernel.read(KernelVirt(bounds.start), len(bounds))
        self._cache.store("vmlinux.btf", data)
        return data, "BTF in memory"

    def module(self, kernel: LoadedKernel, name: str) -> tuple[bytes, str]:
        """A module's BTF and its origin.  Raises NeptError with the advice to name a file."""
        loaded = next((each for each in kernel.loaded_modules() if each.module.name == name), None)
        build_id = modules.module_build_id(loaded) if loaded else ""
        file = self._files.get(name)
        if file:
            _same_build(file, build_id, f"the loaded module {name}")
            return file.btf, f"module BTF of {file.path}"
        if loaded is None:
            raise NeptError(f"module {name} is not loaded", "Look with lsmod on the host.")
        if build_id:
            data = self._cache.blob(f"{name}-{build_id}.btf", lambda: _in_memory(kernel, loaded))
        else:
            data = _in_memory(kernel, loaded)
        return data, "module BTF"


def _in_memory(kernel: LoadedKernel, loaded: LoadedModule) -> bytes:
    name = loaded.module.name
    advice = NO_MODULE.format(release=kernel.release, name=name.replace("_", "-"), module=name)
    try:
        data = modules.module_btf(kernel, loaded)
    except NeptError as error:
        raise NeptError(
            f"the BTF of module {name} cannot be read: {error.message}", advice
        ) from None
    if not data:
        raise NeptError(f"module {name} has no BTF in memory", advice)
    return data


def _bounds(symbols: Symbols) -> range | None:
    for start, end in BOUNDS:
        try:
            found = range(symbols.address(start), symbols.address(end))
        except SymbolMissing:
            continue
        if 0 < len(found) <= LARGEST_BTF:
            return found
    return None


def checked_files(paths: Sequence[Path], release: str, build_id: str) -> list[BtfFile]:
    """Read the files that the user named.  Raises BadInput for one that is not of this kernel."""
    files = [read_btf_file(path) for path in paths]
    for file in files:
        if file.release and file.release != release:
            raise BadInput(f"{file.path} is for Linux {file.release}, the target is {release}")
        if not file.module:
            _same_build(file, build_id, f"the target's Linux {release}")
    return files


def _same_build(file: BtfFile, build_id: str, what: str) -> None:
    if file.build_id and build_id and file.build_id != build_id:
        raise BadInput(
            f"{file.path} is of another build than {what}",
            f"Its build ID is {file.build_id}, wanted is {build_id}.",
        )


def _same_size(file: BtfFile, bounds: range | None) -> None:
    """Raw BTF has no build ID; its length must do."""
    if not file.build_id and bounds and abs(len(file.btf) - len(bounds)) > 8:
        raise BadInput(
            f"{file.path} is of another build than the target",
            f"It has {len(file.btf)} bytes, the BTF in the target's memory {len(bounds)}.",
        )
