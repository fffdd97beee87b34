# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON Schemas of what commands answer with --json: schemas/*.json, one a command.

An answer names its schema and the version of it.  Within a version keys are only added, and a key
that is not in the schema is a mistake.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gdb_nept.errors import BadArgument
from gdb_nept.memory.budget import Budget
from gdb_nept.render.page import LateData, Page

FOLDER = Path(__file__).resolve().parent.parent / "schemas"
VERSION = 1
KEY = "schema"
LIVE = "live"
INCOMPLETE = "incomplete"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def schema(name: str) -> str:
    """The text of a schema; raises BadArgument where there is none."""
    if name not in names():
        raise BadArgument(f"there is no schema '{name}'", f"There are: {', '.join(names())}.")
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


def identified(page: Page, command: str, budget: Budget, live: bool = False) -> Page:
    """The page with the name of its schema first: nept-walk/1; last, once all else is made, what
    ended it before its end.  `live`: with the mark that it is of a machine which ran meanwhile."""
    data: dict[str, LateData] = {KEY: f"{command}/{VERSION}"}
    if live:
        data[LIVE] = True
    return replace(page, data={**data, **page.data, INCOMPLETE: lambda: budget.ended or None})
