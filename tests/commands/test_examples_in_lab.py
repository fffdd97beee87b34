# SPDX-License-Identifier: GPL-2.0-or-later
"""Every example in a manual can be typed as it stands: on the shell, and in gdb."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from gdb_nept.__main__ import main
from gdb_nept.commands.catalogue import PREFIX, all_commands, command_named
from gdb_nept.commands.command import Command
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.spoken import OF_GDB, shell_manual
from gdb_nept.render.page import Status

NAMED = {one.name.partition("-")[2]: one for one in all_commands()}


def examples(manual: str, prompt: str) -> list[str]:
    return re.findall(rf"^  {re.escape(prompt)} (.*)$", manual, re.MULTILINE)


@pytest.mark.bochs
@pytest.mark.parametrize("name", sorted(set(NAMED) - set(OF_GDB)))
def test_on_the_shell(
    name: str,
    plain_snapshot: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An address of the example need not be mapped here."""
    monkeypatch.chdir(tmp_path)
    found = examples(shell_manual(NAMED[name].manual), "$")
    assert found
    for line in found:
        program, *words = shlex.split(line)
        words = [str(plain_snapshot / "memory.raw") if word == "FILE" else word for word in words]
        assert program == "nept"
        assert main(words) in {one.value for one in Status if one is not Status.USAGE}, line
        assert "a mistake in gdb_nept" not in capsys.readouterr().err


@pytest.mark.parametrize("one", all_commands(), ids=lambda one: one.name)
def test_in_gdb_their_arguments_are_the_commands(one: Command) -> None:
    """But for expressions, which gdb alone can read."""
    assert examples(one.manual, "(gdb)")
    for line in examples(one.manual, "(gdb)"):
        name, *words = line.split()
        name, _, form = name.partition("/")
        asked = command_named(name.replace(" ", "-"))
        if name.startswith(PREFIX) and "$" not in line:
            assert asked is not None, line
            asked.parse([f"/{form}", *words] if form else words, DumpContext(None, ()))


@pytest.mark.parametrize("name", OF_GDB)
def test_what_a_dump_cannot_do_is_shown_in_gdb(name: str) -> None:
    shown = shell_manual(NAMED[name].manual)
    assert f"(gdb) nept {name}" in shown
    assert "--dump" not in shown
