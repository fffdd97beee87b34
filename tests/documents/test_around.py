# SPDX-License-Identifier: GPL-2.0-or-later
"""What the documents around the project name is there: files, folders, commands, the version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gdb_nept
from gdb_nept.commands.catalogue import NAMES
from gdb_nept.commands.shell_only import NAMES as SHELL_NAMES

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "gdb_nept" / "doc"
AROUND = (ROOT / ".github" / "CONTRIBUTING.md", ROOT / ".github" / "SECURITY.md")
DOCUMENTS = (ROOT / "README.md", *AROUND, *sorted(DOC.glob("*.md")))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FILE = re.compile(r"`((?:[a-z_0-9]+/)+[A-Za-z_0-9.]*)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_each_link_leads_to_a_file(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    assert not [link for link in links if not (document.parent / link).exists()]


def test_what_contributors_are_told_of_is_there() -> None:
    text = AROUND[0].read_text()
    named = set(FILE.findall(text)) | set(re.findall(r"\bscripts/[a-z_.-]*[a-z]", text))
    places = (ROOT, ROOT / "gdb_nept")
    assert len(named) > 20
    assert not [one for one in named if not any((place / one).exists() for place in places)]


def test_each_document_is_on_the_first_page() -> None:
    readme = (ROOT / "README.md").read_text()
    for document in (*AROUND, *DOC.glob("*.md")):
        assert f"({document.relative_to(ROOT)})" in readme or f"{document.name}#" in readme


def test_the_changes_begin_with_this_version_and_name_each_command() -> None:
    text = (DOC / "changes.md").read_text()
    first = re.search(r"^## (\S+)", text, re.MULTILINE)
    assert first is not None
    assert first[1] == gdb_nept.__version__
    missing = [name for name in NAMES if f"nept-{name}" not in text]
    missing += [name for name in SHELL_NAMES if f"`{name}`" not in text]
    assert not missing
