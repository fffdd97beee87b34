# SPDX-License-Identifier: GPL-2.0-or-later
"""A tool that is missing is never passed over in silence."""

from __future__ import annotations

import pytest

from tests import tools

LACKING = "no_such_tool"


@pytest.fixture(
    params=[
        lambda: tools.program(LACKING),
        lambda: tools.module(LACKING),
        lambda: tools.need(LACKING),
    ],
    ids=["program", "module", "marker"],
)
def lacks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setitem(tools.TOOLS, LACKING, ("sh", LACKING))
    return request.param


@pytest.mark.parametrize("required", ["", "gdb,qemu,bochs"])
def test_it_skips_with_the_reason(
    lacks: object, required: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEPT_REQUIRE", required)
    assert callable(lacks)
    with pytest.raises(pytest.skip.Exception, match=f"needs {LACKING}: scripts/setup"):
        lacks()


@pytest.mark.parametrize("required", ["all", f"gdb,{LACKING}"])
def test_it_fails_where_it_is_required(
    lacks: object, required: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEPT_REQUIRE", required)
    assert callable(lacks)
    with pytest.raises(pytest.fail.Exception, match=f"needs {LACKING}: scripts/setup"):
        lacks()


def test_what_is_there_is_given() -> None:
    assert tools.program("sh").endswith("/sh")
    assert tools.module("json").dumps([]) == "[]"
    tools.need("no marker of a tool")
