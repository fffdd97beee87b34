# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command is called where it runs: `nept-walk` in gdb, `nept walk` on the shell.

Manuals and messages are written as gdb's users type them; what leaves on the shell passes here.
"""

from __future__ import annotations

import re

from gdb_nept.commands.catalogue import NAMES, PREFIX

_HELP = re.compile(rf"'help {PREFIX}(\w+)'")
_CALLED = re.compile(rf"\b{PREFIX}({'|'.join(NAMES)})\b")
_EXAMPLE = re.compile(rf"^  \(gdb\) (?:{PREFIX}(\w+))?(.*\n?)", re.MULTILINE)
WITHOUT_DUMP = ("decode",)
OF_GDB = ("watch", "diff")  # of what runs: a dump does not


def on_the_shell(message: str) -> str:
    """'help nept-walk' as 'nept walk --help', and nept-walk as nept walk."""
    return _CALLED.sub(r"nept \1", _HELP.sub(r"'nept \1 --help'", message))


def shell_manual(manual: str) -> str:
    """The manual of a command, its examples with a dump instead of gdb's prompt, as far as they
    run on one."""
    return on_the_shell(_EXAMPLE.sub(_example, manual))


def _example(found: re.Match[str]) -> str:
    name, rest = found[1], found[2]
    if name in OF_GDB:
        return found[0]
    if name is None or "$" in rest:
        return ""
    dump = "" if name in WITHOUT_DUMP else "--dump FILE "
    return f"  $ nept {dump}{name}{rest}"
