# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings in gdb: each declaration becomes `set nept NAME` and `show nept NAME`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Callable, Union

from gdb_nept.commands.dump_in_gdb import DumpInGdb
from gdb_nept.errors import BadInput
from gdb_nept.memory.transport import AUTO, KINDS
from gdb_nept.target.live import LiveTarget
from gdb_nept.target.type_sources import read_type_file

Value = Union[str, bool]


class Kind(Enum):
    """What the value of a setting is."""

    FLAG = auto()
    TEXT = auto()
    FILE = auto()
    CHOICE = auto()


@dataclass(frozen=True)
class Setting:
    """`what` completes "Set ..." and "Show ...".  `take` is called with each new value and raises
    NeptError for one that does not do; `show` says a value in a sentence."""

    name: str
    kind: Kind
    what: str
    manual: str
    start: Value
    take: Callable[[Value], None]
    show: Callable[[str], str]
    choices: tuple[str, ...] = ()


def settings(target: LiveTarget, dump: DumpInGdb) -> tuple[Setting, ...]:
    """All there are, on what gdb is attached to and on the dump that is named."""
    return (_traceback(), _btf(target, dump), _memory(target), _memory_file(target), _library(dump))


def _trace(value: Value) -> None:
    os.environ["NEPT_TRACEBACK"] = "1" if value else ""


def _traceback() -> Setting:
    return Setting(
        "traceback",
        Kind.FLAG,
        "whether a mistake in gdb_nept shows its Python traceback",
        "Whether a mistake in gdb_nept shows its Python traceback.",
        bool(os.environ.get("NEPT_TRACEBACK")),
        _trace,
        lambda value: f"gdb_nept shows the traceback of its mistakes: {value}.",
    )


BTF = """Files to take types from where the target's memory has none.

FILES are .ko, vmlinux or raw BTF files of the running build, or layouts that scripts/layouts
made from its debug info, with a colon between two.  Without FILES: none."""


def _btf(target: LiveTarget, dump: DumpInGdb) -> Setting:
    def take(value: Value) -> None:
        files = _type_files(str(value))
        target.take_types_from(files)
        dump.take_types_from(files)

    return Setting(
        "btf",
        Kind.TEXT,
        "the files to take types from where the target's memory has none",
        BTF,
        "",
        take,
        lambda value: f"gdb_nept also takes types from: {value or 'no file'}.",
    )


MEMORY = """How the target's physical memory is read.

auto     the first of these that the target offers; nept-target tells which
process  the memory of the process that emulates it, on this computer
file     the file that holds its RAM: a memory-backend-file with share=on
phymem   QEMU's physical memory mode, through the stub
direct   the kernel's direct map, through the stub (kgdb)"""


def _memory(target: LiveTarget) -> Setting:
    def used(value: str) -> str:
        choice = target.memory.choice
        now = f"; used now: {choice.transport.describe()}" if choice else ""
        return f"gdb_nept reads physical memory by: {value}{now}."

    return Setting(
        "memory",
        Kind.CHOICE,
        "how the target's physical memory is read",
        MEMORY,
        AUTO,
        lambda value: target.read_memory_by(str(value)),
        used,
        (AUTO, *KINDS),
    )


MEMORY_FILE = """The file that holds the target's RAM, where gdb sees it.

QEMU tells the path of its memory-backend-file.  Where gdb sees the file at another path (QEMU
in a container, say), name that here.  Without FILE: what QEMU tells."""


def _memory_file(target: LiveTarget) -> Setting:
    return Setting(
        "memory-file",
        Kind.FILE,
        "the file that holds the target's RAM",
        MEMORY_FILE,
        "",
        lambda value: target.read_memory_from(_path(value)),
        lambda value: f"gdb_nept takes the target's RAM to be in: {value or 'what QEMU tells'}.",
    )


LIBRARY = """The libkdumpfile that reads ELF and kdump-compressed dumps.

Without FILE: the system's, or the one that drgn brings."""


def _library(dump: DumpInGdb) -> Setting:
    return Setting(
        "libkdumpfile",
        Kind.FILE,
        "the libkdumpfile that reads dumps",
        LIBRARY,
        "",
        lambda value: dump.read_by(_path(value)),
        lambda value: f"gdb_nept reads dumps by: {value or 'the libkdumpfile that it finds'}.",
    )


def _path(value: Value) -> Path | None:
    return Path(str(value)).expanduser() if value else None


def _type_files(written: str) -> tuple[Path, ...]:
    """The files named; raises BadInput for one that holds no types."""
    names = tuple(Path(name).expanduser() for name in written.split(os.pathsep) if name)
    for name in names:
        if not name.is_file():
            raise BadInput(f"no file {name}", f"FILES are separated by '{os.pathsep}'.")
        read_type_file(name)
    return names
