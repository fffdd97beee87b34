# SPDX-License-Identifier: GPL-2.0-or-later
"""The same L1 with no KVM under it: what the processor itself makes of the states.

Predicted from L1's memory at the end of the run, and from what L1 read in its VMCS at each point.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from bochs_lab import bare, snapshot
from bochs_lab.guests import guests
from bochs_lab.options import STATES
from bochs_lab.progress import Silent

from gdb_nept.arch.controls import EntryControls, SecondaryControls
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import Eptp
from gdb_nept.predict.access import Apic, Controls
from gdb_nept.predict.linear import predict_linear
from gdb_nept.predict.model import model
from gdb_nept.walk.guest_paging import Cr0, Cr4, Efer, GuestPaging
from tests.proof.machine import Memory
from tests.states.told import EXCEPTION, Told

pytestmark = pytest.mark.bochs

CR0, CR3, CR4, EFER, ENTRY_CONTROLS = 0x6800, 0x6802, 0x6804, 0x2806, 0x4012
SECONDARY_CONTROLS, APIC_ACCESS_ADDRESS = 0x401E, 0x2014
LONG_MODE = Efer.long_mode.mask | Efer.long_mode_active.mask
OF_THE_VMM = tuple(name for name in STATES if name.startswith("slot-"))
WITHOUT_FLAGS = tuple(name for name in STATES if name.startswith(("ad-", "eptp-ad")))


@pytest.fixture(scope="module")
def alone() -> Path:
    return bare.ensure(bare.BareOptions(guests(None, Silent()), image="states.elf"))


@pytest.fixture(scope="module")
def told(alone: Path) -> Told:
    return Told.by(alone)


@pytest.fixture(scope="module")
def memory(alone: Path) -> Memory:
    return Memory(((0, (alone / snapshot.MEMORY).read_bytes()),), open_bus=True)


def l2_paging(told: Told, state: str) -> GuestPaging:
    """L2's registers by the SDM (28.3.2.1): EFER is that of the VMCS if it is loaded, else L1's own
    with LME and LMA as IA-32e mode wants them."""
    fields = told.vmcs(state)
    controls = EntryControls(fields[ENTRY_CONTROLS])
    if controls.load_efer:
        efer = fields[EFER]
    else:
        own = int(told.one("state", state)["efer"], 16) & ~LONG_MODE
        efer = own | (LONG_MODE if controls.ia32e_guest else 0)
    width = told.lines[0]["maxphyaddr"]
    loaded = next((line for line in told.lines if line.get("behind") == state), None)
    if loaded is None:
        return GuestPaging(Cr0(fields[CR0]), fields[CR3], Cr4(fields[CR4]), Efer(efer), width)
    registers = tuple(int(one, 16) for one in loaded["pdptes"])
    cr3 = int(loaded["cr3"], 16)
    return GuestPaging(Cr0(fields[CR0]), cr3, Cr4(fields[CR4]), Efer(efer), width, registers)


@pytest.mark.parametrize("state", [name for name in STATES if name not in OF_THE_VMM])
def test_what_the_processor_does_is_predicted(told: Told, memory: Memory, state: str) -> None:
    if not any(line.get("state") == state for line in told.lines):
        assert state in WITHOUT_FLAGS, "all that the processor has is done"
        return
    cpu = Capabilities(
        told.lines[0]["maxphyaddr"], EptVpidCap(int(told.lines[0]["ept_vpid_cap"], 16))
    )
    eptp, paging = Eptp(int(told.one("state", state)["eptp"], 16)), l2_paging(told, state)
    controls = Controls(apic=apic_of(told.vmcs(state)))
    wrong = {}
    for probe in told.probes(state):
        by = model("bochs-2.7")
        found = predict_linear(memory, eptp, probe.access, paging, cpu, controls, by)
        if probe.differences(found):
            wrong[probe.name] = probe.differences(found)
    assert wrong == {}


def apic_of(fields: dict[int, int]) -> Apic | None:
    secondary = SecondaryControls(fields.get(SECONDARY_CONTROLS, 0))
    virtualized = secondary.virtualize_apic_accesses
    return Apic(fields[APIC_ACCESS_ADDRESS]) if virtualized else None


def test_the_processor_and_kvm_come_to_the_same(told: Told, states: dict[str, Path]) -> None:
    """What L2 reads and whether it exits does not depend on who runs L1."""
    under_kvm = Told.by(states["done"])
    compared = 0
    for state in STATES:
        ours = {one.name: (one.reason, one.value) for one in told.probes(state)}
        theirs = {one.name: (one.reason, one.value) for one in under_kvm.probes(state)}
        assert {name: theirs[name] for name in ours} == ours
        compared += len(ours)
    assert compared > 100


def test_the_processor_keeps_to_the_controls(told: Told) -> None:
    """As L1's VMREADs under KVM: tests/states/test_states.py has the rule."""
    rows = [line for line in told.lines if line.get("control") in ("efer", "pat", "dr7")]
    assert len(rows) == 12
    for row in rows:
        assert row["vmread"] == (row["l2_made"] if row["save"] else row["written"])
        if row["load"]:
            assert row["l2_saw"] == row["written"]


def test_a_page_fault_is_l2s_own(told: Told) -> None:
    assert {one.number("error_code") for one in told.probes("nx") if one.reason == EXCEPTION} == {
        0x11
    }
