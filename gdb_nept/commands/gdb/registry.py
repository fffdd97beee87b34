# SPDX-License-Identifier: GPL-2.0-or-later
"""Register in gdb all that is declared, once."""

from __future__ import annotations

from gdb_nept.commands.catalogue import PREFIX, all_commands
from gdb_nept.commands.functions import FUNCTIONS
from gdb_nept.commands.gdb.commands import NeptCommand, NeptDump, NeptPrefix, NeptReload
from gdb_nept.commands.gdb.context import GdbContext
from gdb_nept.commands.gdb.functions import NeptFunction
from gdb_nept.commands.gdb.settings import NeptParameter, NeptSettings
from gdb_nept.commands.settings import settings

_registered: list[GdbContext] = []  # a second `source` finds here that all is done


def register() -> GdbContext:
    """What all of them ask; the second call registers nothing."""
    if _registered:
        return _registered[0]
    context = GdbContext()
    _registered.append(context)
    NeptPrefix()
    declared = settings(context.target, context.dump)
    for verb in ("set", "show"):
        NeptSettings(verb, declared)
    for setting in declared:
        NeptParameter(setting)
    for one in all_commands():
        NeptCommand(one.name, one, context)
        NeptCommand("nept " + one.name[len(PREFIX) :], one, context)
    for name, manual, ask in FUNCTIONS:
        NeptFunction(name, manual, ask, context)
    NeptReload(context)
    NeptDump(context)
    return context
