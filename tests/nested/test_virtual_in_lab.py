# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-walk --virtual over the lab's memories: L2 with 4-level paging, with PAE, without paging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.address import HostPhys, KernelVirt, L2Virt
from gdb_nept.commands.catalogue import command_named
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.errors import BadInput
from gdb_nept.memory.raw import RawMemory
from gdb_nept.nested.guest_registers import guest_registers
from gdb_nept.nested.nesting import Nesting
from gdb_nept.nested.segments import linear_of
from gdb_nept.nested.session import Session
from gdb_nept.nested.virtual import virtual_walk
from gdb_nept.predict.outcome import Outcome
from gdb_nept.target.linux import attach
from gdb_nept.target.ports import object_at
from tests.conftest import kernel_cache
from tests.overlay import Overlay, opened
from tests.schemas import hold

pytestmark = pytest.mark.bochs

CODE = 0x1000000  # of L2, which its tables map to itself in every mode


def answered(snapshot: Path, *words: str) -> str:
    command = command_named("walk")
    assert command is not None
    return command.answer(DumpContext(snapshot / "memory.raw", ()), words, coloured=False)


def data(snapshot: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answered(snapshot, "--virtual", "--json", *words))
    hold("walk", found)
    return found


def test_four_levels(exit_snapshot: Path) -> None:
    found = data(exit_snapshot, hex(CODE))
    assert (found["mode"], found["gpa"], found["why"]) == ("4-level", hex(CODE), None)
    assert [step["level"] for step in found["guest_steps"]] == [4, 3, 2]  # a page of 2 MiB
    assert all(len(step["ept12"]["steps"]) == 4 for step in found["guest_steps"])
    assert found["references"] == 3 * (4 + 1) + 4
    assert found["host_physical"] == found["journey"]["host_physical"]
    plain = json.loads(answered(exit_snapshot, "--json", hex(CODE)))
    assert found["host_physical"] == plain["host_physical"]


def test_it_is_one_story_with_predict(exit_snapshot: Path) -> None:
    from gdb_nept.judge.oracle import oracle
    from gdb_nept.predict.access import Op
    from gdb_nept.predict.linear import LinearAccess

    session, chosen = opened(exit_snapshot)
    paging = guest_registers(session, chosen).paging
    model = oracle(session, chosen, "sdm")
    for page in range(0, 1 << 26, 1 << 19):
        walked = virtual_walk(session, chosen, L2Virt(page))
        said = model.linear(LinearAccess(L2Virt(page), 1, Op.READ), paging)
        arrives = walked.journey is not None and walked.journey.ept12.address is not None
        assert arrives or said.outcome is not Outcome.TRANSLATED, hex(page)
        if said.outcome is Outcome.TRANSLATED and walked.journey and said.prediction:
            assert walked.journey.ept12.address == said.prediction.hpa


def test_pae_by_its_registers_and_a_warning_where_memory_differs(states: dict[str, Path]) -> None:
    found = data(states["pae-exit"], hex(CODE))
    assert (found["mode"], found["gpa"]) == ("PAE", hex(CODE))
    first = found["guest_steps"][0]
    assert (first["register"], first["entry_address"], first["ept12"]) == (0, None, None)
    assert found["references"] == 2 * (4 + 1) + 4
    assert "PDPTE registers" in answered(states["pae-exit"], "--virtual", hex(CODE))
    session, chosen = opened(states["pae-exit"])
    register = session.vmcs12(chosen).number("guest_pdptr0")
    assert first["entry"] == hex(register)
    other, chosen = opened(states["pae-exit"], {"guest_pdptr0": 0, "guest_pdptr1": register})
    walked = virtual_walk(other, chosen, L2Virt(CODE))
    assert "not present" in walked.why  # by the register, whatever the table in memory has
    moved = virtual_walk(other, chosen, L2Virt(1 << 30 | CODE))
    assert moved.journey is not None
    assert moved.journey.asked == CODE
    assert any("PDPTE register 0 is 0x0, and the table" in each for each in walked.warnings)


def test_an_entry_that_ept12_hides(exit_snapshot: Path) -> None:
    session, chosen = opened(exit_snapshot)
    root = guest_registers(session, chosen).paging.root
    hidden, chosen = opened(exit_snapshot, entries={1: 0}, at=root)
    found = virtual_walk(hidden, chosen, L2Virt(CODE))
    assert found.journey is None
    assert found.hidden is not None
    assert f"hides L2's level-4 entry at {root:#x}" in found.why


def test_brief_leaves_out_the_steps_of_ept12(exit_snapshot: Path) -> None:
    whole, brief = (
        answered(exit_snapshot, "--virtual", *option, hex(CODE)) for option in ((), ("--brief",))
    )
    assert len(whole.splitlines()) == len(brief.splitlines()) + 3 * 4
    assert brief.splitlines()[0].endswith("   agree")
    assert "memory references: 19" in brief


def test_pages_of_1_gib_are_as_the_hosts_processor_has_them(exit_snapshot: Path) -> None:
    """The processor walks L2's tables, so that bit 7 of a PDPTE is reserved or not by it."""
    session, chosen = opened(exit_snapshot)
    way = virtual_walk(session, chosen, L2Virt(CODE)).entries[1].found_by
    assert way is not None
    assert way.address is not None
    symbols = session.kernel.symbols
    feature = object_at(session.kernel, symbols.address("boot_cpu_data"), "cpuinfo_x86")
    word = feature.member("x86_capability").index(1)
    raw: RawMemory[HostPhys] = RawMemory(exit_snapshot / "memory.raw")
    for offered in (True, False):
        memory = Overlay(raw)
        memory.put(session.l1_memory(chosen).host_physical(way.address), 0x87, 8)
        number = word.number() | 1 << 26
        place = session.kernel.to_physical(KernelVirt(word.address))
        memory.put(place, number if offered else number ^ 1 << 26, 4)
        other = Session(attach(memory, ram=raw.size, cache=kernel_cache()))
        found = virtual_walk(other, other.pick(None, None), L2Virt(CODE))
        assert found.walk is not None
        if offered:
            assert (found.walk.gpa, found.walk.page_size) == (CODE, 1 << 30)
        else:
            assert found.walk.fault is not None
            assert found.walk.fault.code.reserved


def test_segments(exit_snapshot: Path) -> None:
    session, chosen = opened(exit_snapshot, {"guest_fs_base": 0x5000, "guest_cs_base": 0x7000})
    registers = guest_registers(session, chosen)
    assert linear_of(session, chosen, registers, "fs", 0x10) == 0x5010
    assert linear_of(session, chosen, registers, "CS", 0x10) == 0x10  # 64-bit mode
    with pytest.raises(BadInput, match="selector of protected mode"):
        linear_of(session, chosen, registers, "0x10", 0x10)
    real, chosen = opened(exit_snapshot, {"guest_cr0": 0x20})
    registers = guest_registers(real, chosen)
    assert linear_of(real, chosen, registers, "f000", 0xFFF0) == 0xFFFF0
    found = virtual_walk(real, chosen, L2Virt(CODE))
    assert (found.references, found.entries) == (4, ())


def test_no_ept12_is_walked_over_l1_physical_memory(exit_snapshot: Path) -> None:
    """Secondary control bit 1 clear: CR3 is an L1 physical address, of a table of L1's.  Here it is
    the one of L2's own root, whose first entry is then read without EPT12."""
    session, chosen = opened(exit_snapshot)
    plain = virtual_walk(session, chosen, L2Virt(CODE))
    way = plain.entries[0].found_by
    assert way is not None
    assert way.address is not None
    secondary = session.vmcs12(chosen).secondary.value & ~2
    poison = {"secondary_vm_exec_control": secondary, "guest_cr3": way.address & ~0xFFF}
    other, chosen = opened(exit_snapshot, poison)
    found = virtual_walk(other, chosen, L2Virt(CODE))
    assert found.nesting is Nesting.SHADOW_ON_EPT
    assert int(found.entries[0].step.gpa or 0) == int(way.address)
    assert found.entries[0].step.entry == plain.entries[0].step.entry
    assert found.journey is None
    assert all(entry.found_by is None for entry in found.entries)


def test_arguments(exit_snapshot: Path) -> None:
    with pytest.raises(BadInput, match="--brief"):
        answered(exit_snapshot, "--brief", "0x1000")
    with pytest.raises(BadInput, match="linear address"):
        answered(exit_snapshot, "fs:0x1000")
