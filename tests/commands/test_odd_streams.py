# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the answer cannot go, where no question can come from, and who else may source init.py."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INIT = ROOT / "gdb_nept" / "init.py"


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """`nept` in a line of sh's, as $NEPT."""
    return subprocess.run(
        ["sh", "-c", line],
        cwd=ROOT,
        env={"NEPT": f"{sys.executable} -m gdb_nept", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("$NEPT decode exit-reason 48 >/dev/full", 1, "the answer cannot be written"),
        ("$NEPT decode exit-reason 48 >&-", 1, "the answer cannot be written"),
        ("$NEPT >/dev/full", 1, "the answer cannot be written"),
        ("$NEPT --help >/dev/full", 1, "the answer cannot be written"),
        ("$NEPT --version >&-", 1, "the answer cannot be written"),
        ("$NEPT decode --help >/dev/full", 1, "the answer cannot be written"),
        ("$NEPT schema walk >/dev/full", 1, "the answer cannot be written"),
        ("$NEPT triage --help >/dev/full", 1, "the answer cannot be written"),
        ("$NEPT schema walk | head -c 1 >/dev/null", 0, ""),
        ("$NEPT predict --json-lines <&-", 2, "there are no requests"),
        ("$NEPT shell <&-", 2, "there are no questions"),
        ("$NEPT decode exit-reason 48 | head -c 1 >/dev/null", 0, ""),
    ],
)
def test_a_stream_that_is_not_there(line: str, status: int, says: str) -> None:
    done = shell(line)
    assert done.returncode == status, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


OLD_PYTHONS = ("3.6", "3.7", "3.8")


def old_python(version: str) -> str | None:
    """As a distribution names it, or as pyenv keeps it."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(kept.glob(f"{version}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(f"python{version}", path="/usr/bin:/bin")


@pytest.mark.parametrize("version", OLD_PYTHONS)
def test_a_python_that_is_too_old_is_told_in_a_line(version: str) -> None:
    python = old_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    said = f"gdb_nept needs Python 3.9 or later; this is {version}"
    for words in (["-m", "gdb_nept", "decode", "eptp", "1"], ["-c", "import gdb_nept"]):
        done = subprocess.run(
            [python, "-B", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.strip().endswith(said)
        if "-m" in words:
            assert done.stderr.strip() == said


@pytest.mark.parametrize("version", OLD_PYTHONS)
def test_a_gdb_with_an_old_python_is_told_in_a_line(version: str, tmp_path: Path) -> None:
    """A gdb of which init.py sees no more than this."""
    python = old_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    (tmp_path / "gdb.py").write_text(
        "import sys\nSTDERR = 2\ndef write(s, f): sys.stderr.write(s)\n"
    )
    done = subprocess.run(
        [python, "-B", str(INIT)],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"gdb_nept needs Python 3.9; this gdb has {version}: use a gdb built with a newer one\n"
    assert done.stderr == said


def test_what_an_old_python_reads_first_is_old_python() -> None:
    """Where no such Python is at hand: no annotation, no f-string, no newer operator."""
    for file in (ROOT / "gdb_nept" / "__init__.py", INIT):
        tree = ast.parse(file.read_text(), feature_version=(3, 4))
        newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Starred)
        assert not [one.lineno for one in ast.walk(tree) if isinstance(one, newer)]
        arguments = [one for one in ast.walk(tree) if isinstance(one, ast.arg)]
        assert not [one.arg for one in arguments if one.annotation]
        imported = [one.module for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)]
        assert "__future__" not in imported


@pytest.mark.gdb
def test_another_python_file_sources_init(tmp_path: Path) -> None:
    """__file__ is the outer script's there, in gdb 13."""
    outer = tmp_path / "outer.py"
    outer.write_text(f"import gdb\ngdb.execute({f'source {INIT}'!r})\n")
    words = ["gdb", "-nx", "-batch", "-x", str(outer), "-ex", "nept-decode eptp 0x105e"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert "whose top table is at 0x1000" in " ".join(done.stdout.split()), done.stderr
    assert "Error" not in done.stderr


@pytest.mark.gdb
def test_a_second_copy_is_refused_in_a_line(tmp_path: Path) -> None:
    """The commands are there from the first; which one answers must not hang on the order."""
    shutil.copytree(
        INIT.parent, tmp_path / "gdb_nept", ignore=shutil.ignore_patterns("__pycache__")
    )
    words = ["gdb", "-nx", "-batch", "-ex", f"source {INIT}"]
    words += ["-ex", f"source {tmp_path}/gdb_nept/init.py", "-ex", "nept-decode eptp 0x105e"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert f"gdb_nept is loaded already from {INIT.parent}" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "whose top table is at 0x1000" in " ".join(done.stdout.split())
