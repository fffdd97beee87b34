# SPDX-License-Identifier: GPL-2.0-or-later
"""What `nept` alone answers, in gdb and in a shell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gdb_nept
from gdb_nept.__main__ import main
from gdb_nept.commands.catalogue import NAMES, command_named
from gdb_nept.commands.command import Command
from gdb_nept.commands.first_steps import in_gdb
from gdb_nept.commands.shell_only import NAMES as SHELL_NAMES

INIT = Path(gdb_nept.__file__).with_name("init.py")


def in_shell(capsys: pytest.CaptureFixture[str]) -> str:
    assert main([]) == 0
    return capsys.readouterr().out


def test_each_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    gdb, shell = in_gdb(), in_shell(capsys)
    for name in NAMES:
        assert f"\n  nept-{name} " in gdb
        assert f"\n  {name} " in shell
    for name in SHELL_NAMES:
        assert f"\n  {name} " in shell
    assert str(INIT) in shell


def test_it_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [*in_gdb().splitlines(), *in_shell(capsys).splitlines()]
    assert not [line for line in lines if len(line) > 80 and str(INIT) not in line]


def test_the_commands_of_the_first_steps_are_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """With words that they take."""
    steps = in_gdb().partition("All commands")[0]
    asked = re.findall(r"^  nept-(\S+)((?: [A-Z]+)*)   ", steps, re.MULTILINE)
    assert {name for name, _ in asked} >= {"target", "vms", "walk", "check", "predict", "watch"}
    for name, words in asked:
        command = command_named(name)
        assert isinstance(command, Command)
        places = [one for one in command.arguments if not one.flags[0].startswith("-")]
        assert bool(words) == bool(places) or name == "watch", name
    shell = in_shell(capsys).partition("All commands")[0]
    named = set(re.findall(r"nept --(?:dump FILE|live) (\S+)", shell))
    assert named == {"vms", "target", "walk", "check", "shell"}
