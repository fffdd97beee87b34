# SPDX-License-Identifier: GPL-2.0-or-later
"""Each folder of the package, and the lab, begins by saying which of its files is for what."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gdb_nept"
FOLDERS = [
    *sorted(found.parent for found in PACKAGE.rglob("__init__.py") if found.parent != PACKAGE),
    ROOT / "scripts" / "bochs_lab",
]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda each: str(each.relative_to(ROOT)))
def test_every_file_is_named_at_the_head_of_its_folder(folder: Path) -> None:
    head = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    there = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    named = set(re.findall(r"`(\w+)`", head))
    assert there - named == set(), f"say in {folder.name}/__init__.py what each is for"
    assert named - there == set(), f"{folder.name}/__init__.py names what is not there"
