# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers of L2's in the host's memory that VM entry refuses: told on each page that translates
by them, in the words of a request's answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdb_nept.__main__ import main
from gdb_nept.memory import dump as dump_module
from gdb_nept.memory.dump import Dump
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.guest_registers import guest_registers
from gdb_nept.predict.model import model
from gdb_nept.predict.request import answer_lines
from tests.overlay import Overlay, opened

pytestmark = pytest.mark.bochs

PE, LME = 1, 1 << 8


@pytest.mark.parametrize(
    ("name", "changes"),
    [("cr0", ~PE), ("efer", ~LME), ("cr4", 1 << 15), ("cr3", 1 << 51)],
    ids=["PG without PE", "LMA without LME", "reserved in CR4", "reserved in CR3"],
)
def test_the_same_words_everywhere(
    name: str,
    changes: int,
    plain_snapshot: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    session, chosen = opened(plain_snapshot)
    paging = guest_registers(session, chosen).paging
    values = {"cr0": paging.cr0.value, "cr3": paging.cr3, "cr4": paging.cr4.value}
    values["efer"] = paging.efer.value
    values[name] = values[name] & changes if changes < 0 else values[name] | changes
    (line,) = answer_lines(
        [
            json.dumps(
                {
                    "eptp": "0x105e",
                    "ept_caps": "0xf0106734141",
                    "maxphyaddr": paging.maxphyaddr,
                    "memory": {},
                    "guest": values,
                    "access": {"gla": "0x2000000", "op": "read"},
                }
            )
        ],
        model("sdm"),
    )
    why = json.loads(line)["entry_failure"]
    assert why.startswith("L2's ")

    path = plain_snapshot / "memory.raw"
    memory = Overlay(RawMemory(path))
    place = chosen.vcpu.value.member("arch").member(name).address
    memory.put(session.kernel.to_physical(place), values[name], 8)
    monkeypatch.setattr(dump_module, "open_dump", lambda *_: Dump(path, "raw image", memory))

    def asked(*words: str) -> str:
        assert main(["--dump", str(path), *words]) in (0, 1, 5)
        return " ".join(capsys.readouterr().out.split())

    predicted = asked("predict", "--linear", "0x2000000")
    assert predicted.startswith(f"VM entry refuses this: {why}; no L2 runs with it ")
    assert f"VM entry refuses these registers: {why}" in asked("walk", "--virtual", "0x2000000")
    for words in (["predict", "--linear"], ["walk", "--virtual"]):
        assert json.loads(asked(*words, "0x2000000", "--json"))["entry_failure"] == why
