# SPDX-License-Identifier: GPL-2.0-or-later
"""What is offered to somebody who wrote a name that is none."""

from __future__ import annotations

import pytest

from gdb_nept.__main__ import main
from gdb_nept.commands.numbers import Usage
from gdb_nept.errors import BadInput
from gdb_nept.near import advised, near
from gdb_nept.predict.model import model
from tests.context import NoTarget


def test_near() -> None:
    assert near("wlak", ("walk", "watch", "ept")) == "Did you mean walk?"
    assert near("xyz", ("walk", "watch", "ept")) == ""
    assert advised("xyz", ("walk",), "List them.") == "List them."
    assert advised("walc", ("walk",), "List them.") == "Did you mean walk? List them."


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["walkk", "0x1000"]) == 2
    assert "Did you mean walk?" in capsys.readouterr().err


def test_models() -> None:
    with pytest.raises(BadInput, match=r"Did you mean kvm-7\.2"):
        model("kmv-7.2")


def test_kinds_of_words() -> None:
    from gdb_nept.commands.decode import decode

    with pytest.raises(Usage) as told:
        decode.parse(["etpp", "1"], NoTarget())
    assert "Did you mean eptp" in told.value.advice
