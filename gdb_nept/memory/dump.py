# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump of a host's physical memory, of whatever format.

    with open_dump(Path("vmcore")) as dump:
        dump.memory.read(HostPhys(0x1000), 8)

`target.dumped.attach_dump(dump)` finds the kernel in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput
from gdb_nept.memory.cpu_registers import Registers
from gdb_nept.memory.dump_format import Format, format_of
from gdb_nept.memory.elf_dump import read_headers
from gdb_nept.memory.flattened import Flattened, flattened_is_cut
from gdb_nept.memory.kcore import kcore
from gdb_nept.memory.kdump import KdumpMemory, NotOpened
from gdb_nept.memory.kdump_table import kdump_is_cut, reader, without_zeros
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.segments import SegmentMemory, lime_segments
from gdb_nept.memory.taken import Taken, Vmcss

KCORE = Path("/proc/kcore")
CUT = "the file is cut: what lay behind its end is unreadable.  Was the disk full?  Copy it again"

BY = ", read by libkdumpfile"


class DumpMemory(Protocol):
    """Memory of a file; `data_ranges` are the physical addresses that it holds bytes of, `left_out`
    is how many bytes of RAM more it says that there were."""

    def read(self, address: HostPhys, size: int) -> bytes: ...

    def data_ranges(self) -> list[range]: ...

    def left_out(self) -> int: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Dump:
    """An open dump.  `live`: it is of the machine that we run on, and changes meanwhile."""

    path: Path
    format: str  # in words: "raw image", "ELF dump, read by libkdumpfile"
    memory: DumpMemory
    vmcoreinfo: bytes = b""
    cpus: tuple[Registers, ...] = ()
    notes: tuple[str, ...] = ()  # what the user should know before he trusts an answer
    by_kdump: bool | None = None  # the host's own crash kernel took it; None: not known
    live: bool = False

    @property
    def taken(self) -> Taken:
        return Taken(self.live, self._vmcss())

    def _vmcss(self) -> Vmcss | None:
        if self.by_kdump is not None:
            return Vmcss.CLEARED if self.by_kdump else Vmcss.KEPT
        unsaid = isinstance(self.memory, KdumpMemory)  # its header does not tell
        return Vmcss.UNKNOWN if unsaid else None

    def __enter__(self) -> Dump:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.memory.close()


def open_dump(path: Path | str, library: Path | str | None = None) -> Dump:
    """The dump in `path`, whose format is told by what it holds.  `library` is the libkdumpfile to
    use; else those of the system are tried, and the one that drgn brings.

    Raises BadInput: no dump, cut in its headers, encrypted, of a kind that cannot be used, or no
    library for it; each with what to do.
    """
    file = Path(path)
    found = format_of(file)
    return OPENERS[found](file, Path(library) if library else None)


def open_live() -> Dump:
    """The memory of the computer that this runs on: read only, and never still.
    Raises BadInput."""
    memory, headers = kcore(KCORE)
    note = "the machine ran while it was read: what belongs together may not fit together"
    return Dump(
        KCORE, "memory of this running machine", memory, headers.vmcoreinfo, (), (note,), live=True
    )


def _raw(path: Path, library: Path | None) -> Dump:
    return Dump(path, Format.RAW.value, RawMemory(path))


def _elf(path: Path, library: Path | None) -> Dump:
    headers = read_headers(path)
    if headers.paging:
        raise BadInput(
            f"{path} was taken with paging (dump-guest-memory -p): most of memory is not in it",
            "Dump again without -p: dump-guest-memory FILE, or virsh dump --memory-only",
        )
    cut = headers.cut
    memory = KdumpMemory(path, library, cut, held=lambda _: headers.held(path))
    notes = (f"{CUT} ({headers.file_size} of {headers.end} bytes are there)",) if cut else ()
    return Dump(
        path,
        f"{Format.ELF.value}{BY}",
        memory,
        headers.vmcoreinfo or _vmcoreinfo(memory),
        headers.cpus,
        notes,
        by_kdump=headers.by_kdump,
    )


def _kdump(path: Path, library: Path | None) -> Dump:
    return _compressed(path, library, Format.KDUMP, kdump_is_cut(path))


def _flattened(path: Path, library: Path | None) -> Dump:
    try:
        return _compressed(path, library, Format.FLATTENED, flattened_is_cut(path))
    except NotOpened as error:
        if not error.unknown:
            raise
        raise BadInput(
            f"{path} is flattened, and this libkdumpfile does not read that: {error.message}",
            f"Turn it into a plain one: makedumpfile -R NEWFILE < {path.name}\n"
            "Or install drgn, whose wheel brings a libkdumpfile that does.",
        ) from None


def _compressed(path: Path, library: Path | None, kind: Format, cut: bool) -> Dump:
    held = partial(_not_zero, kind is Format.FLATTENED)
    memory = KdumpMemory(path, library, zeros_doubted=cut, held=held)
    cpus = tuple(
        Registers(one.get("rip"), one.get("rsp"), one.get("cr3")) for one in memory.facts["cpus"]
    )
    notes = (f"{CUT}; pages of zeros cannot be told from those, and are unreadable, too",)
    return Dump(
        path,
        f"{kind.value}{BY}",
        memory,
        _vmcoreinfo(memory),
        cpus,
        notes if cut else (),
        by_kdump=False if any(one.cr3 for one in cpus) else None,  # QEMU's notes have CR3
    )


def _not_zero(flattened: bool, memory: KdumpMemory) -> list[range]:
    """Where a kdump-compressed dump has anything but pages of zeros, as far as it tells."""
    present = memory.present()
    try:
        with memory.path.open("rb") as file:
            read = Flattened(file).read if flattened else reader(file)
            return without_zeros(read, present, memory.is_empty)
    except OSError:
        return present


def _lime(path: Path, library: Path | None) -> Dump:
    segments, cut = lime_segments(path)
    notes = (CUT,) if cut else ()
    return Dump(path, Format.LIME.value, SegmentMemory(path, segments), notes=notes)


def _vmcoreinfo(memory: KdumpMemory) -> bytes:
    return str(memory.facts.get("vmcoreinfo") or "").encode("latin-1")


OPENERS = {
    Format.RAW: _raw,
    Format.ELF: _elf,
    Format.KDUMP: _kdump,
    Format.FLATTENED: _flattened,
    Format.LIME: _lime,
}
