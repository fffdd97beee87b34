# SPDX-License-Identifier: GPL-2.0-or-later
"""Which target gdb is attached to, and whether it can be asked."""

from __future__ import annotations

import re
from typing import Any

import gdb

from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.errors import NeptError, TargetGone
from gdb_nept.target.running import Selected

_CORE = re.compile(r"^Local core dump file:\n\t`(.*)', file type", re.MULTILINE)
_SIXTY_FOUR = "i386:x86-64"


def connected() -> str:
    """'remote 127.0.0.1:1234', or '' where gdb is attached to nothing that runs."""
    inferior = gdb.selected_inferior()
    if not inferior.pid:
        return ""
    connection = getattr(inferior, "connection", None)  # gdb 12
    if connection is None:
        return "remote target"
    return f"{connection.type} {connection.details or ''}".strip()


def core_file() -> str:
    """The path of the core that gdb has open in place of a machine; '' if there is none."""
    if not connected().startswith("core"):
        return ""
    found = _CORE.search(gdb.execute("info target", to_string=True))
    return found[1] if found else ""


def check_target(where: str) -> None:
    """Raises NeptError if memory cannot be read of what gdb is attached to: connected()."""
    if not where:
        raise NeptError(
            "not attached",
            "Attach to QEMU's gdb stub: target remote HOST:PORT, or name a dump: nept-dump FILE",
        )
    if not where.startswith(("remote", "extended-remote")):
        raise NeptError(
            f"gdb is attached to '{where}', which is not a remote stub",
            "Attach to QEMU's gdb stub: target remote HOST:PORT",
        )
    thread = gdb.selected_thread()
    if thread is not None and thread.is_running():
        raise NeptError("the target is running", "Stop it first: interrupt, or Ctrl-C")
    width = gdb.selected_inferior().architecture().name()
    if width != _SIXTY_FOUR:
        raise NeptError(
            f"gdb takes the target for '{width}'", f"Tell it: set architecture {_SIXTY_FOUR}"
        )


def selected_processor(tasks: bool) -> Selected:
    """Threads of QEMU's and Bochs' stubs are processors, numbered from 1; with `tasks` they are
    none."""
    thread = gdb.selected_thread()
    if thread is None or tasks:
        return Selected(None)
    try:
        value: Any = gdb.selected_frame().read_register("cr3")
        cr3 = int(value) & ALL_BITS
    except (gdb.error, ValueError):
        return Selected(thread.ptid[1] - 1)
    return Selected(thread.ptid[1] - 1, cr3)


def gone(error: gdb.error) -> TargetGone:
    """What to raise where gdb finds, with `error`, that the target does not answer."""
    text = str(error).rstrip(".")
    return TargetGone(
        f"the target does not answer: {text}", "Attach again: target remote HOST:PORT"
    )
