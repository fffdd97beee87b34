# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command answers with --json, held against its schema."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator

from gdb_nept.commands.catalogue import PREFIX
from gdb_nept.memory.budget import Budget
from gdb_nept.render import schemas
from gdb_nept.render.json import draw_json
from gdb_nept.render.page import Page


@lru_cache
def validator(name: str, part: str = "") -> Draft202012Validator:
    """Of a command's answers; or of `part`, one of its definitions."""
    whole = json.loads(schemas.schema(name))
    if part:
        kept = {key: whole[key] for key in ("$schema", "$id", "$defs")}
        whole = {**kept, "$ref": f"#/$defs/{part}"}
    Draft202012Validator.check_schema(whole)
    return Draft202012Validator(whole)


def hold(name: str, answer: Any, part: str = "") -> None:
    """Fails with every place where the answer is not as its schema says."""
    found = [
        f"{error.json_path}: {error.message[:200]}"
        for error in validator(name, part).iter_errors(answer)
        for error in (error, *(error.context or ()))
    ]
    assert not found, f"nept-{name}: " + "\n".join(found[:10])


def hold_page(command: str, page: Page) -> None:
    """What --json would print of it."""
    hold(command[len(PREFIX) :], json.loads(draw_json(schemas.identified(page, command, Budget()))))
