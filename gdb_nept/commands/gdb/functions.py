# SPDX-License-Identifier: GPL-2.0-or-later
"""The declared functions, in gdb's expressions: `print $nept_l2_reg("rip")`."""

from __future__ import annotations

from collections.abc import Sequence

import gdb

from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.commands.command import door
from gdb_nept.commands.functions import Ask, Asked
from gdb_nept.commands.gdb.context import GdbContext
from gdb_nept.commands.gdb.screen import refusal
from gdb_nept.errors import BadInput, NeptError
from gdb_nept.memory.budget import Budget, within


class NeptFunction(gdb.Function):
    """A number about L2 in gdb's expressions, of the vCPU that a command would choose by itself."""

    def __init__(self, name: str, manual: str, ask: Ask, context: GdbContext) -> None:
        self.__doc__ = manual
        super().__init__(name)
        self.ask, self.context = ask, context

    def invoke(self, *asked: gdb.Value) -> int:
        try:
            with door(), within(Budget()), self.context.target.command():
                session = self.context.session()
                return self.ask(session, session.pick(None, None), _asked(asked))
        except NeptError as error:
            raise refusal(error) from None
        finally:
            self.context.warn()


def _asked(values: Sequence[gdb.Value]) -> Asked:
    """The one argument of a function: an address or a name."""
    if len(values) != 1:
        raise BadInput(f"{len(values)} arguments are given", "The function takes one.")
    value = values[0]
    if value.type.strip_typedefs().code in (gdb.TYPE_CODE_ARRAY, gdb.TYPE_CODE_STRING):
        return value.string()
    return int(value) & ALL_BITS
