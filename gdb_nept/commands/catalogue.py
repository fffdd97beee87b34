# SPDX-License-Identifier: GPL-2.0-or-later
"""All commands, in the order in which `nept` lists them; a command's file is read when it is asked
for, so that one question does not pay for all of them.
"""

from __future__ import annotations

from importlib import import_module

from gdb_nept.commands.command import Command

PREFIX = "nept-"
#: Each is the function of that name in the file of that name.
NAMES = (
    *("target", "vms", "vmcs12", "ept", "walk"),
    *("predict", "check", "watch", "diff", "regs", "x", "who", "decode", "scan", "compare"),
    *("map", "export"),
)


def command_named(name: str) -> Command | None:
    """With or without the prefix; None if there is none."""
    bare = name[len(PREFIX) :] if name.startswith(PREFIX) else name
    if bare not in NAMES:
        return None
    found: Command = getattr(import_module(f"gdb_nept.commands.{bare}"), bare)
    return found


def all_commands() -> tuple[Command, ...]:
    return tuple(one for name in NAMES if (one := command_named(name)))


def listing(prefix: str = PREFIX) -> str:
    """The names and what each does, a line each."""
    width = max(len(prefix + name) for name in NAMES)
    return "\n".join(
        f"{prefix + name:{width}}  {one.summary}" for name, one in zip(NAMES, all_commands())
    )
