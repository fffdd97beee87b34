# SPDX-License-Identifier: GPL-2.0-or-later
"""All commands, in the order in which `nept` lists them."""

from __future__ import annotations

from gdb_nept.commands.check import check
from gdb_nept.commands.command import Command
from gdb_nept.commands.decode import decode
from gdb_nept.commands.diff import diff
from gdb_nept.commands.ept import ept
from gdb_nept.commands.predict import predict
from gdb_nept.commands.target import target
from gdb_nept.commands.vmcs12 import vmcs12
from gdb_nept.commands.vms import vms
from gdb_nept.commands.walk import walk
from gdb_nept.commands.watch import watch

PREFIX = "nept-"
COMMANDS: tuple[Command, ...] = (
    target,
    vms,
    vmcs12,
    ept,
    walk,
    predict,
    check,
    watch,
    diff,
    decode,
)


def listing() -> str:
    """The names and what each does, a line each."""
    width = max(len(one.name) for one in COMMANDS)
    return "\n".join(f"{one.name:{width}}  {one.summary}" for one in COMMANDS)
