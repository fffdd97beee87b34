# SPDX-License-Identifier: GPL-2.0-or-later
"""Each declared setting as `set nept NAME` and `show nept NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gdb

from gdb_nept.commands.gdb.screen import refusal
from gdb_nept.commands.settings import Kind, Setting
from gdb_nept.errors import NeptError
from gdb_nept.near import near
from gdb_nept.render import text

KINDS = {
    Kind.FLAG: gdb.PARAM_BOOLEAN,
    Kind.TEXT: gdb.PARAM_STRING,
    Kind.FILE: gdb.PARAM_OPTIONAL_FILENAME,
}


class NeptParameter(gdb.Parameter):
    """A declared setting, as `set nept NAME` and `show nept NAME`."""

    def __init__(self, declared: Setting) -> None:
        self.__doc__ = declared.manual
        self.set_doc, self.show_doc = f"Set {declared.what}.", f"Show {declared.what}."
        name, where = f"nept {declared.name}", gdb.COMMAND_DATA
        if declared.kind is Kind.CHOICE:
            super().__init__(name, where, gdb.PARAM_ENUM, declared.choices)
        else:
            super().__init__(name, where, KINDS[declared.kind])
        self.declared = declared
        self.value: Any = declared.start
        self.accepted = declared.start

    def get_set_string(self) -> str:
        wanted = self.value or ""
        try:
            self.declared.take(wanted)
        except NeptError as error:
            self.value = self.accepted  # gdb has set it already
            raise refusal(error) from None
        self.accepted = wanted
        return ""

    def get_show_string(self, value: str) -> str:
        return self.declared.show(value)


class NeptSettings(gdb.Command):
    """`set nept` and `show nept`, which stand before the name of a setting."""

    def __init__(self, verb: str, declared: Sequence[Setting]) -> None:
        self.__doc__ = f"{verb.capitalize()} how gdb_nept works."
        super().__init__(f"{verb} nept", gdb.COMMAND_SUPPORT, gdb.COMPLETE_COMMAND, prefix=True)
        self.names = [one.name for one in declared]

    def invoke(self, line: str, from_tty: bool) -> None:
        """With no name: what they are set to."""
        if line:
            meant = near(line.split()[0], self.names)
            said = f"there is no setting 'nept {line.split()[0]}'; 'show nept' lists them. {meant}"
            raise gdb.GdbError(text.escaped(said.rstrip()))
        for name in self.names:
            gdb.write(f"nept {name}:  ")
            gdb.execute(f"show nept {name}")
