# SPDX-License-Identifier: GPL-2.0-or-later
"""The wheel: what is in it, and that nothing else is needed to use it.

Two of these need no Bochs, but building and installing takes as long as what does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from gdb_nept import __version__
from gdb_nept.render import schemas

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "gdb_nept"

pytestmark = pytest.mark.bochs


def run(words: Sequence[str | Path], status: int = 0) -> str:
    """What a program prints, in a folder where the sources are not."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
    done = subprocess.run(
        [str(word) for word in words],
        cwd="/",
        env={key: value for key, value in os.environ.items() if key not in hidden},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of a copy, since setuptools builds in the tree that it is given."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "gdb_nept", "setup.cfg", "pyproject.toml",
         "README.md", "LICENSE"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in files:
        if (ROOT / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name).write_bytes((ROOT / name).read_bytes())
    run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, folder / "tree"])
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a Python that has the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    run([folder / "bin" / "pip", "install", "--no-index", wheel])
    return folder / "bin"


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("gdb_nept/")}
        facts = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        needs = [
            line for line in archive.read(facts).decode().splitlines() if "Requires-Dist" in line
        ]
    there = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there - packed == set()
    assert {
        "gdb_nept/py.typed",
        "gdb_nept/schemas/walk.json",
        "gdb_nept/data/vmcs12.json",
    } <= packed
    assert all("extra ==" in line for line in needs), "nothing is needed but Python"


def test_nept_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    nept = installed / "nept"
    assert run([nept, "--version"]) == f"nept {__version__}\n"
    assert run([installed / "python", "-m", "gdb_nept", "--version"]) == f"nept {__version__}\n"
    assert "EPT violation" in run([nept, "decode", "exit-reason", "48"])
    assert run([nept, "schema"]).split() == schemas.names()
    for name in schemas.names():
        assert run([nept, "schema", name]) == schemas.schema(name)
    dump = tmp_path / "memory.raw"
    dump.write_bytes(bytes(1 << 20))
    run([nept, "--dump", dump, "vms"], status=1)
    line = json.loads(run([nept, "triage", dump], status=1))
    assert line["outcome"] == "unreadable"
    assert "no Linux kernel" in line["missing"][0]["what"]


def test_a_dump_with_nothing_but_the_wheel(installed: Path, plain_snapshot: Path) -> None:
    dump = plain_snapshot / "memory.raw"
    words: tuple[str, ...]
    for words in (("walk", "0x2000000"), ("check",), ("target",), ("vms",), ("vmcs12",)):
        asked = ["--dump", dump, *words, "--json"]
        assert run([installed / "nept", *asked]) == run_here(asked)


def run_here(words: Sequence[str | Path]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gdb_nept", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
