# SPDX-License-Identifier: GPL-2.0-or-later
"""Where types come from: a file that the user named, the cache of this build, the kernel's own
memory, or for a module the layouts that come with this program, in this order.  A file of another
build is refused: its offsets would all be lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Union

from gdb_nept.address import KernelVirt
from gdb_nept.errors import BadInput, NeptError, SymbolMissing, TypeMissing
from gdb_nept.target import layouts, modules
from gdb_nept.target.btf import Btf
from gdb_nept.target.cache import BuildCache
from gdb_nept.target.elf import BtfFile, read_btf_file, unpacked
from gdb_nept.target.kept_btf import Blob, KeptBtf
from gdb_nept.target.layouts import VMLINUX, Layouts
from gdb_nept.target.modules import LARGEST_BTF, LoadedKernel, LoadedModule
from gdb_nept.target.ports import Kernel, Symbols

TypeFile = Union[BtfFile, Layouts]
Found = tuple[Union[Btf, Layouts], str]  # and where from in words

#: The section's bounds: since 5.7 (include/asm-generic/vmlinux.lds.h, BTF), and in 5.6.
BOUNDS = (
    ("__start_BTF", "__stop_BTF"),
    ("_binary__btf_vmlinux_bin_start", "_binary__btf_vmlinux_bin_end"),
)
VMLINUX_BTF = "vmlinux' BTF"
NO_VMLINUX = "Name the kernel's BTF: --btf FILE (a vmlinux, or a copy of /sys/kernel/btf/vmlinux)."
NO_MODULE = (
    "Name the module's file or its BTF: --btf FILE "
    "(/lib/modules/{release}/kernel/.../{name}.ko, or a copy of /sys/kernel/btf/{module})."
)
MAKE = (
    "Make its layouts from the debug symbols of just this build: scripts/layouts kvm.ko.debug "
    "kvm-intel.ko.debug, or on Debian scripts/layouts --debian {release}. Then name the file: "
    "set nept btf FILE, or --btf FILE."
)


class TypeSources:
    """`files` were read and checked by `checked_files`."""

    def __init__(self, files: Sequence[TypeFile], cache: BuildCache, near: bool = False) -> None:
        self._files = {module: file for file in files for module in _modules(file)}
        self._kept = KeptBtf(cache, near)

    def vmlinux(self, kernel: LoadedKernel) -> Found:
        """The types of vmlinux and their origin in words.  Raises TypeMissing, BadInput."""
        file = self._files.get("")
        if isinstance(file, Layouts):
            return file, _told(file, VMLINUX)
        bounds = _bounds(kernel.symbols)
        if file:
            _same_size(file, bounds)
            return Btf(file.btf, origin=VMLINUX_BTF), f"BTF of {file.path}"
        if not bounds:
            raise TypeMissing("module", "memory: this kernel carries no BTF", NO_VMLINUX)
        blob = Blob("vmlinux.btf", VMLINUX_BTF, KernelVirt(bounds.start), len(bounds))
        found = self._kept.take(blob, kernel.read)
        return found.btf, found.told("BTF in memory", "BTF (from the cache of this build)")

    def module(self, kernel: LoadedKernel, name: str, base: Btf | None) -> Found:
        """A module's types and their origin; its BTF goes on from `base`, that of vmlinux.  Raises
        NeptError with the advice what to do."""
        loaded = next((each for each in kernel.loaded_modules() if each.module.name == name), None)
        build_id = modules.module_build_id(loaded) if loaded else ""
        file = self._files.get(name)
        if isinstance(file, Layouts):
            _same_build(file.path, file.build_ids.get(name, ""), build_id, _loaded(name))
            return file, _told(file, name)
        if file:
            _same_build(file.path, file.build_id, build_id, _loaded(name))
            return Btf(file.btf, _needed(base, name), f"{name}'s BTF"), f"module BTF of {file.path}"
        if loaded is None:
            raise NeptError(f"module {name} is not loaded", "Look with lsmod on the host.")
        if not modules_have_btf(kernel):
            return _of_build(name, _known_build_id(loaded), kernel.release)
        return self._in_memory(kernel, loaded, build_id, _needed(base, name))

    def _in_memory(
        self, kernel: LoadedKernel, loaded: LoadedModule, build_id: str, base: Btf
    ) -> Found:
        name = loaded.module.name
        advice = NO_MODULE.format(release=kernel.release, name=name.replace("_", "-"), module=name)
        kept_as, origin = f"{name}-{build_id or 'unknown'}.btf", f"{name}'s BTF"
        try:
            place = modules.module_btf(kernel, loaded)
            if place is None:
                raise NeptError(f"module {name} has no BTF in memory", advice)
            found = self._kept.take(Blob(kept_as, origin, *place, base), kernel.read)
        except NeptError as error:
            why = NeptError(
                f"the BTF of module {name} cannot be read: {error.message}", error.advice or advice
            )
            if not build_id:
                raise why from None
            found = self._kept.unproved(Blob(kept_as, origin, KernelVirt(0), 0, base), why)
        return found.btf, found.told("module BTF", "module BTF")


def _modules(file: TypeFile) -> tuple[str, ...]:
    """Of which modules a file tells the types; vmlinux is ""."""
    if isinstance(file, Layouts):
        return tuple("" if name == VMLINUX else name for name in file.types)
    return (file.module,)


def _loaded(name: str) -> str:
    return f"the loaded module {name}"


def _needed(base: Btf | None, name: str) -> Btf:
    """Raises NeptError where vmlinux' types are no BTF."""
    if base is None:
        raise NeptError(
            f"the BTF of {name} goes on from vmlinux' BTF, and vmlinux' types are layouts",
            "Name layouts of all of them, or of none.",
        )
    return base


def _told(file: Layouts, name: str) -> str:
    return f"layouts from DWARF, {file.path}, build {file.build_ids.get(name, '')[:8] or 'unknown'}"


def modules_have_btf(kernel: Kernel) -> bool:
    """Since 5.11 (36e68442d1af, "bpf: Load and verify kernel module BTFs")."""
    try:
        kernel.types.struct("btf_module")
    except TypeMissing:
        return False
    return True


def _known_build_id(loaded: LoadedModule) -> str:
    """Raises NeptError if there is one and it cannot be read."""
    try:
        return modules.read_build_id(loaded)
    except NeptError as error:
        name = loaded.module.name
        raise NeptError(f"the build ID of {name} cannot be read: {error.message}") from None


def _of_build(name: str, build_id: str, release: str) -> Found:
    """The layouts of this very build that come with this program.  Raises NeptError."""
    others = []
    for known in layouts.shipped():
        if build_id and known.build_ids.get(name) == build_id:
            return known, f"layouts of build {build_id[:8]} ({known.release}), from DWARF"
        if known.release == release:
            others.append(known.build_ids.get(name, "")[:8])
    what = f"this kernel has no BTF of modules, and the layouts of this build of {name}"
    what += f" (build ID {build_id or 'unknown'}) are not among those that we have"
    if others:
        what += f"; those of {release} are of another build ({', '.join(others)})"
    raise NeptError(what, MAKE.format(release=release))


def _bounds(symbols: Symbols) -> range | None:
    for start, end in BOUNDS:
        try:
            found = range(symbols.address(start), symbols.address(end))
        except SymbolMissing:
            continue
        if 0 < len(found) <= LARGEST_BTF:
            return found
    return None


def read_type_file(path: Path) -> TypeFile:
    """A file that the user names.  Raises BadInput for one that holds no types."""
    data = unpacked(path)
    return layouts.parse(path, data) if layouts.is_layouts(data) else read_btf_file(path)


def checked_files(paths: Sequence[Path], release: str, build_id: str) -> list[TypeFile]:
    """Read the files that the user named.  Raises BadInput for one that is not of this kernel."""
    files = [read_type_file(path) for path in paths]
    for file in files:
        if file.release and file.release != release:
            raise BadInput(f"{file.path} is for Linux {file.release}, the target is {release}")
        what = f"the target's Linux {release}"
        if isinstance(file, Layouts):
            _same_build(file.path, file.build_ids.get(VMLINUX, ""), build_id, what)
        elif not file.module:
            _same_build(file.path, file.build_id, build_id, what)
    return files


def _same_build(path: Path, found: str, wanted: str, what: str) -> None:
    if found and wanted and found != wanted:
        raise BadInput(
            f"{path} is of another build than {what}",
            f"Its build ID is {found}, wanted is {wanted}.",
        )


def _same_size(file: BtfFile, bounds: range | None) -> None:
    """Raw BTF has no build ID; its length must do."""
    if not file.build_id and bounds and abs(len(file.btf) - len(bounds)) > 8:
        raise BadInput(
            f"{file.path} is of another build than the target",
            f"It has {len(file.btf)} bytes, the BTF in the target's memory {len(bounds)}.",
        )
