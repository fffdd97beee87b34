# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-walk's verdicts in states in which nobody is at fault, or L1 alone, and it is known why."""

from __future__ import annotations

import pytest
from bochs_lab.options import STATES

from gdb_nept.arch.ept import EptEntry
from gdb_nept.nested.agreement import Agreement, Fault
from gdb_nept.nested.epts import Which
from tests.states.opened import (
    APIC,
    DATA_GPA,
    MOVED_GPA,
    PAGE_KINDS,
    SLOT_GPA,
    TSS,
    UNDER_SLOT_GPA,
    State,
    at,
)

pytestmark = pytest.mark.bochs


#: What else than "agree", "not yet shadowed" and the like nept-walk may find, and where.
FLAGS_CLEARED = {DATA_GPA, DATA_GPA + PAGE_KINDS.index("rw") * 0x1000}
NEW_ROOT = ("eptp-new", "eptp-ad", "ad-invept")


@at(*STATES)
def test_nobody_is_at_fault(state: State) -> None:
    """KVM made no mistake in this run; L1 forgot an INVEPT once, for the flags that it cleared."""
    forgotten = FLAGS_CLEARED if state.name == "ad-cleared" else set()
    for number, kind in enumerate(PAGE_KINDS):
        if kind == "w":
            continue  # a misconfiguration is L1's own, on purpose
        gpa = DATA_GPA + number * 0x1000
        found = state.verdict(gpa)
        assert found.fault is (Fault.L1 if gpa in forgotten else Fault.NOBODY), found
        assert found.agreement is not Agreement.BROKEN, found
        assert (found.agreement is Agreement.STALE) == (gpa in forgotten), found


@at(*NEW_ROOT)
def test_an_eptp_that_l2_has_not_run_with_has_no_root(state: State) -> None:
    found = state.verdict(DATA_GPA)
    assert found.agreement is Agreement.NOT_SHADOWED
    assert "there is no shadow EPT to compare with" in found.sentence


@at("eptp-switched", "eptp-written")
def test_the_root_of_the_eptp_is_found(state: State) -> None:
    """Also that of an EPTP that is not the one L2 ran with last: it waits in prev_roots."""
    assert state.verdict(DATA_GPA).agreement is Agreement.AGREE
    root = state.told.one("state", state.name)["eptp"]
    assert hex(state.session.ept(state.chosen, Which.L1).eptp.value) == root


@at(*STATES)
def test_memslots_are_those_that_the_vmm_set(state: State) -> None:
    slots = state.chosen.owner.slots
    assert slots is not None
    said = state.told.slots(state.name)
    found = {slot.id: slot for slot in slots.slots if slot.id < 500}
    assert {
        number: (hex(slot.start), hex(slot.size), hex(slot.userspace_addr))
        for number, slot in found.items()
    } == {each["slot"]: (each["gpa"], each["size"], each["hva"]) for each in said}


@at("apic-page")
def test_kvms_own_pages_are_not_l2s(state: State) -> None:
    """A TSS it has only where the processor runs no real mode by itself (vmx_set_tss_addr())."""
    for gpa, agreement in ((APIC, Agreement.HIDDEN_SLOT), (TSS, Agreement.NO_SLOT)):
        found = state.verdict(gpa)
        assert (found.agreement, found.fault) == (agreement, Fault.NOBODY), found


@at("slot-deleted", "slot-absent", "slot-moved")
def test_memory_that_is_gone(state: State) -> None:
    found = state.verdict(SLOT_GPA)
    assert (found.agreement, found.fault) == (Agreement.NO_SLOT, Fault.NOBODY), found
    table = state.verdict(UNDER_SLOT_GPA)
    assert table.agreement is Agreement.NOT_MAPPED, table
    assert "no memslot" in table.sentence


@at("slot-deleted", "slot-moved")
def test_a_root_that_kvm_will_drop_is_nobodys_fault(state: State) -> None:
    """The VMM stands behind the ioctl, and KVM has not run L2 since."""
    found = state.verdict(DATA_GPA)
    assert (found.agreement, found.fault) == (Agreement.NOT_SHADOWED, Fault.NOBODY), found
    assert "obsolete" in found.sentence


@at("slot-back")
def test_memory_that_has_come_back(state: State) -> None:
    """KVM's entry is of an older generation of the memslots: the next access makes it anew."""
    found = state.verdict(SLOT_GPA)
    assert found.fault is Fault.NOBODY
    assert "generation" in found.sentence
    assert state.verdict(UNDER_SLOT_GPA).fault is Fault.NOBODY


@at("slot-moved")
def test_memory_that_has_come_elsewhere(state: State) -> None:
    found = state.verdict(MOVED_GPA)
    assert found.fault is Fault.NOBODY
    assert found.agreement is not Agreement.NO_SLOT


def flags(state: State, when: str) -> tuple[EptEntry, EptEntry]:
    said = next(one for one in state.told.facts("flags") if one["at"] == when)
    return EptEntry(int(said["written"], 16)), EptEntry(int(said["read"], 16))


@at("ad-cleared")
def test_a_cleared_flag_without_invept_is_told(state: State) -> None:
    """L1's log shows it: what L2 writes next is in no dirty flag."""
    written, read = flags(state, "used without INVEPT")
    assert not written.dirty
    assert not read.accessed
    for gpa in FLAGS_CLEARED:
        found = state.verdict(gpa)
        assert (found.agreement, found.fault) == (Agreement.STALE, Fault.L1), found
        assert "INVEPT" in found.sentence, found


@at("ad-invept")
def test_a_cleared_flag_with_invept_is_no_fault(state: State) -> None:
    written, read = flags(state, "used after INVEPT")
    assert written.dirty
    assert read.accessed
    assert state.verdict(DATA_GPA).fault is Fault.NOBODY
