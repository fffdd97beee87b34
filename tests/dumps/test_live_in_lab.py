# SPDX-License-Identifier: GPL-2.0-or-later
"""nept --live over a host's whole memory: a snapshot in the place of /proc/kcore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.__main__ import main
from gdb_nept.address import HostPhys
from gdb_nept.memory import dump as dump_module
from gdb_nept.memory.dump import Dump
from gdb_nept.memory.raw import RawMemory
from tests.schemas import hold

pytestmark = pytest.mark.bochs

COMMANDS = (
    ("target",),
    ("vms",),
    ("vmcs12",),
    ("ept", "0x2000000+1M"),
    ("walk", "0x2000000"),
    ("walk", "0x2000000", "0x2806000"),
    ("walk", "--virtual", "0x2000000"),
    ("predict", "--write", "0x2000000"),
    ("check",),
    ("compare",),
    ("map",),
    ("regs",),
    ("x", "0x2000000"),
    ("who", "--l1", "--vm", "0", "0x1020000"),
)


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    main([*words])
    return json.loads(capsys.readouterr().out)


def unmarked(answer: Any) -> Any:
    """Without the mark, which each object that names its schema has."""
    if isinstance(answer, list):
        return [unmarked(one) for one in answer]
    if not isinstance(answer, dict):
        return answer
    assert answer.get("live", "schema" not in answer) is True
    return {key: unmarked(value) for key, value in answer.items() if key != "live"}


@pytest.fixture
def kcore(plain_snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    memory = plain_snapshot / "memory.raw"

    def opened() -> Dump:
        raw: RawMemory[HostPhys] = RawMemory(memory)
        return Dump(memory, "memory of this running machine", raw, live=True)

    monkeypatch.setattr(dump_module, "open_live", opened)
    return memory


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_answer_is_marked(
    kcore: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    answer = asked(capsys, "--live", *words, "--json")
    hold(words[0], answer)
    assert answer["live"] is True
    of_file = asked(capsys, "--dump", str(kcore), *words, "--json")
    hold(words[0], of_file)
    assert "live" not in of_file
    if words[0] != "target":  # which names what it reads
        assert unmarked(answer) == of_file


def test_lines_and_triage_are_marked(kcore: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--live", "ept", "--json-lines", "0x2000000+1M"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["live" in line for line in lines] == [False] * (len(lines) - 1) + [True]
    hold("ept", lines[-1], "rest")
    main(["--live", "triage"])
    told = json.loads(capsys.readouterr().out)
    hold("triage", told)
    assert (told["live"], told["file"], told["outcome"]) == (True, "/proc/kcore", "read")


def test_what_reads_nothing_of_it_is_not_marked(capsys: pytest.CaptureFixture[str]) -> None:
    answer = asked(capsys, "--live", "decode", "eptp", "0x101e", "--json")
    hold("decode", answer)
    assert "live" not in answer
