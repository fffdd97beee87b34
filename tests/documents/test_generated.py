# SPDX-License-Identifier: GPL-2.0-or-later
"""The documents made of the code are those of today, and no link of a document leads nowhere.

NEPT_WRITE_DOCUMENTS=1 makes them anew.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from gdb_nept.commands.catalogue import NAMES
from gdb_nept.predict.model import NAMES as MODELS
from gdb_nept.render import schemas
from tests import tools
from tests.documents.generated import PAGES

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "gdb_nept" / "doc"
DOCUMENTS = (
    ROOT / "README.md",
    *sorted(DOC.glob("*.md")),
    *sorted((ROOT / ".github").glob("*.md")),
)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_those_of_the_code(name: str) -> None:
    made = PAGES[name]()
    if os.environ.get("NEPT_WRITE_DOCUMENTS"):
        (DOC / name).write_text(made)
    assert (DOC / name).read_text() == made, "NEPT_WRITE_DOCUMENTS=1 makes it anew"


def test_nothing_is_left_out() -> None:
    commands, models, answers = (
        (DOC / name).read_text() for name in ("commands.md", "models.md", "schemas.md")
    )
    assert [name for name in NAMES if f"\n## nept-{name}\n" not in commands] == []
    assert [name for name in MODELS if name.partition("-")[0] not in models] == []
    assert [name for name in schemas.names() if f"[`{name}`]" not in answers] == []


def test_the_man_page_is_one() -> None:
    done = subprocess.run(
        [tools.program("groff"), "-man", "-Tutf8", "-ww", "-b", str(DOC / "nept.1")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GROFF_NO_SGR": "1"},
    )
    shown = re.sub(".\b", "", done.stdout)
    assert "cannot" not in done.stderr
    assert "nept --dump FILE walk" in shown.replace("‐", "-").replace("−", "-")
    assert "EXIT STATUS" in shown
    assert [line for line in shown.splitlines() if len(line) > 80] == []


def anchors(document: Path) -> set[str]:
    """Those that GitHub makes of the headings."""
    heads = re.findall(r"^#+ (.+)$", _CODE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", document.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        leads_to = (document.parent / path).resolve() if path else document
        assert leads_to.exists(), f"{document.name}: {link}"
        if anchor:
            assert anchor in anchors(leads_to), f"{document.name}: {link}"
