# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are none, lines without end, streams that show little: one message, little memory."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.commands.json_lines import LONGEST, bounded
from gdb_nept.errors import BadInput
from gdb_nept.target import elf
from gdb_nept.target.type_sources import read_type_file

ROOT = Path(__file__).resolve().parents[2]
REQUEST = (
    b'{"id": 7, "eptp": "0x101e", "ept_caps": "0xf0106734141", "maxphyaddr": 39, "memory": {}, '
    b'"access": {"gpa": "0x5108", "op": "write", "user": false, "stage": "final", "gla": "0"}}\n'
)


def nept(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command that may take half a GiB of memory; what hangs on a pipe is ended."""
    limited = "import resource as r; r.setrlimit(r.RLIMIT_AS, (1 << 29, 1 << 29))"
    code = f"{limited}; from gdb_nept.__main__ import main; raise SystemExit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "."])
def test_what_is_no_file_is_no_dump(name: str, pipe: Path) -> None:
    done = nept("--dump", str(pipe) if name == "pipe" else name, "vms")
    assert done.returncode == 1
    assert "is no regular file" in " ".join(done.stderr.split())


@pytest.mark.parametrize("name", ["/dev/zero", "pipe", "."])
def test_what_is_no_file_holds_no_types(name: str, pipe: Path) -> None:
    with pytest.raises(BadInput, match="is no regular file"):
        read_type_file(pipe if name == "pipe" else Path(name))


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_file_that_unpacks_without_end(
    pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elf, "LARGEST_FILE", 1 << 16)
    file = tmp_path / "kvm.ko.xz"
    file.write_bytes(pack(bytes(1 << 22)))
    with pytest.raises(BadInput, match="unpacks to over 65536 bytes"):
        read_type_file(file)
    file.write_bytes(pack(b"no module"))
    with pytest.raises(BadInput, match="neither a 64-bit ELF file nor BTF"):
        read_type_file(file)
    file.write_bytes(bytes(1 << 17))
    with pytest.raises(BadInput, match="has 131072 bytes"):
        read_type_file(file)


def test_a_line_of_300_mb_costs_no_other_its_answer(tmp_path: Path) -> None:
    """In half a GiB of address space, of which Python takes a part."""
    file = tmp_path / "requests"
    with file.open("wb") as out:
        out.write(REQUEST)
        for _ in range(300):
            out.write(b"[" * (1 << 20))
        out.write(b"\n" + REQUEST)
    with file.open("rb") as stdin:
        done = nept("predict", "--json-lines", stdin=stdin)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [7, None, 7]
    assert answers[1]["error"] == "the line is too long for a request"


def test_lines_at_the_bound() -> None:
    short, exact = b"x" * (LONGEST - 1) + b"\n", b"y" * (LONGEST - 2) + b"\n"
    lines = list(bounded(BytesIO(short + exact + b"z" * LONGEST + b"\nlast")))
    assert lines[:2] == [short, exact]
    assert lines[2:] == [None, b"last"]


def test_a_line_without_an_end_is_told_at_once() -> None:
    with Path("/dev/zero").open("rb") as endless:
        assert next(bounded(endless)) is None


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_shows_little(encoding: str) -> None:
    done = nept(
        "decode", "ept", "0x7", env={**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    )
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_stream_that_is_closed(closed: str) -> None:
    command = f"{sys.executable} -m gdb_nept predict --json-lines {closed}"
    done = subprocess.run(
        command, cwd=ROOT, shell=True, capture_output=True, text=True, check=False, input=""
    )
    assert done.returncode == {"<&-": 2, ">&-": 1, "2>&-": 0}[closed]
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
