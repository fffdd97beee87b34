# SPDX-License-Identifier: GPL-2.0-or-later
"""Each state of states.elf: what is read and predicted there, against what L1 saw.

A snapshot at each park point; the log is that of the whole run, so that it tells what L2's accesses
behind the point came to.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from bochs_lab.options import STATES

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.judge.check import Finding, check
from gdb_nept.judge.features import named_model
from gdb_nept.memory.reader import read_u64
from gdb_nept.nested.epts import Which
from gdb_nept.predict.access import Stage
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.guest_paging import Cr0, Cr4
from tests.states.opened import APIC, State, at
from tests.states.told import FEATURES

pytestmark = pytest.mark.bochs

CR0, CR3, CR4 = 0x6800, 0x6802, 0x6804


#: L1's VMWRITEs of L2's registers are still in the shadow VMCS, which no program can read.
KNOWN = tuple(name for name in STATES if name != "composing")


@at(*KNOWN)
def test_what_l2_does_next_is_predicted(state: State) -> None:
    probes = state.told.probes(state.name)
    wrong = {}
    for probe in probes:
        differences = probe.differences(state.foretold(probe))
        if differences:
            wrong[probe.name] = differences
    assert wrong == {}
    assert probes or state.name in ("controls-off", "controls-on")


@at(*KNOWN)
def test_each_walk_ends_where_l2_reads(state: State) -> None:
    """The page that L2 reads behind the point is the one that the walk leads to."""
    read = [one for one in state.told.probes(state.name) if one.value is not None]
    for probe in read:
        found = state.foretold(probe)
        assert found.access is not None, probe.name
        journey = state.session.journey(state.chosen, found.access.gpa)
        bytes_read = (1 << 8 * probe.size) - 1
        if journey.slot is None or journey.hidden:
            version = int(state.told.facts("apic")[0]["version"], 16)
            device = found.access.gpa & ~0xFFF == APIC
            assert probe.value == (version if device else bytes_read), "no memory of L1's is there"
            continue
        assert journey.host_physical is not None, probe.name
        word = read_u64(state.session.kernel.physical, journey.host_physical)
        assert word & bytes_read == probe.value, probe.name


@at(*STATES)
def test_ept12_is_what_l1_logged(state: State) -> None:
    ept = state.session.ept(state.chosen, Which.L1)
    memory = state.session.l1_memory(state.chosen)
    logged = state.told.entries(state.name)
    if not logged:
        assert state.name.startswith("slot-"), "L1 cannot read a table whose memory is gone"
        return
    leaves = {}
    for entry in logged:
        level, value, gpa = entry["level"], int(entry["value"], 16), int(entry["gpa"], 16)
        step = walk_ept(memory, ept.eptp, L2Phys(gpa), ept.cpu).steps[ept.eptp.levels - level]
        address = L1Phys(int(entry["address"], 16))
        assert (step.level, step.address) == (level, address)
        assert step.entry.value & ~FEATURES == value & ~FEATURES
        leaves[gpa, level] = value & ~FEATURES
    listed = {
        (mapping.start, mapping.level): mapping.entry.value & ~FEATURES
        for mapping in state.session.scan(ept, 0, ept.eptp.reach).mappings()
    }
    assert listed.items() <= leaves.items()
    assert len(listed) > 30


@at("nx-exit", "pae-exit")
def test_the_exit_that_l1_saw_agrees(state: State) -> None:
    by = named_model(state.session, state.chosen, state.on_bochs)
    found = check(state.session, state.chosen, by)
    assert found.finding is Finding.AGREE
    stages = {each.foreseen.access.stage for each in found.agreeing}
    assert (Stage.PDPTE in stages) == (state.name == "pae-exit")


@at("pae")
def test_where_the_pdpte_registers_are_taken_from_is_told(state: State) -> None:
    """L2 has loaded them by a MOV CR3 that KVM has not seen."""
    said = state.told.one("behind", "pae")
    assert hex(state.registers.paging.cr3) == said["cr3"]
    assert any(doubt.startswith("pdptrs: ") for doubt in state.registers.doubts)


@at("composing")
def test_ept12_is_shown_while_l1_composes(state: State) -> None:
    """With L1's own VMREADs in place of what KVM has not got yet, and says that it has not."""
    ept = state.session.ept(state.chosen, Which.L1)
    assert hex(ept.eptp.value) == state.told.one("state", "composing")["eptp"]
    assert any("shadow VMCS" in doubt for doubt in state.registers.doubts)
    read, known = state.told.vmcs("composing"), state.registers.paging
    paging = replace(known, cr0=Cr0(read[CR0]), cr3=read[CR3], cr4=Cr4(read[CR4]))
    for probe in state.told.probes("composing"):
        assert probe.differences(state.foretold(probe, paging)) == [], probe.name
