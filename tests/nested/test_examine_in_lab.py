# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of L2 as nept-x has it, against what lies in the snapshot and what L2 itself wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.commands.catalogue import command_named
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.numbers import Usage
from gdb_nept.commands.output import Sink
from gdb_nept.errors import BadInput
from gdb_nept.nested.guest_registers import code_bits
from gdb_nept.render.page import Status
from tests import tools
from tests.overlay import opened

pytestmark = pytest.mark.bochs

CODE, PAGE = 0x1000000, 0x2000000


def asked(snapshot: Path, *words: str) -> dict[str, Any]:
    command = command_named("x")
    assert command is not None
    context = DumpContext(snapshot / "memory.raw", ())
    found: dict[str, Any] = json.loads(command.answer(context, [*words, "--json"], False))
    return found


def test_each_space_leads_to_the_same_bytes(plain_snapshot: Path) -> None:
    session, chosen = opened(plain_snapshot)
    journey = session.journey(chosen, PAGE)  # type: ignore[arg-type]
    assert journey.ept12.address is not None
    assert journey.host_physical is not None
    with (plain_snapshot / "memory.raw").open("rb") as image:
        image.seek(journey.host_physical)
        wanted = image.read(64).hex()
    for space, address in (
        ("--l2-physical", PAGE),
        ("--l1", journey.ept12.address),
        ("--host", journey.host_physical),
    ):
        found = asked(plain_snapshot, "/8xg", space, hex(address))
        assert (found["bytes"], found["ends"]) == (wanted, None)


def test_l2_stands_at_the_instruction_that_the_processor_left_it_for(plain_snapshot: Path) -> None:
    tools.module("capstone")
    session, chosen = opened(plain_snapshot)
    assert code_bits(session, chosen) == 64
    rip, last = chosen.vcpu.register("rip"), chosen.vcpu.last_exit
    assert rip is not None
    assert last is not None
    assert last.reason.name == "I/O instruction"
    found = asked(plain_snapshot, "/2i", hex(rip.number))
    assert found["values"][0]["text"] == "out dx, al"


def test_where_it_breaks_it_says_so(plain_snapshot: Path) -> None:
    """L1 maps some pages and not the next: what is there is shown, and nothing made up."""
    context = DumpContext(plain_snapshot / "memory.raw", ())
    command = command_named("x")
    assert command is not None
    first = 0x2011000  # the last page before one that EPT12 has misconfigured
    text = command.answer(context, ["/600xg", "--l2-physical", hex(first)], False)
    lines = [line for line in text.splitlines() if ":  0x" in line]
    assert len(lines) == 4096 // 16
    assert "0x2012000: not read: EPT12 does not translate it:" in " ".join(text.split())
    data = asked(plain_snapshot, "/600xg", "--l2-physical", hex(first))
    assert (data["ends"]["address"], len(data["bytes"])) == ("0x2012000", 2 * 4096)
    silent = Sink(lambda piece: None)
    words = ["/600xg", "--l2-physical", hex(first)]
    assert command.write_answer(context, words, silent) is Status.UNREAD
    nothing = ["/2xg", "--l2-physical", "0x2012000"]
    assert command.write_answer(context, nothing, silent) is Status.NOT_FOUND


@pytest.mark.parametrize(
    "words", [("/8xg",), ("/8q", "0x1000"), ("/0x", "0x1000"), ("0x1000", "0x2000")]
)
def test_bad_words(plain_snapshot: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(Usage):
        asked(plain_snapshot, *words)


@pytest.mark.parametrize("space", ["--l2-physical", "--l1", "--host"])
def test_what_is_no_physical_address(plain_snapshot: Path, space: str) -> None:
    with pytest.raises(BadInput, match="no physical address"):
        asked(plain_snapshot, space, hex(1 << 52))
    who = command_named("who")
    assert who is not None
    with pytest.raises(BadInput, match="no physical address"):
        who.answer(DumpContext(plain_snapshot / "memory.raw", ()), [hex(1 << 52)], False)
