# SPDX-License-Identifier: GPL-2.0-or-later
"""That each finding is one: seen, other than the SDM has it, and as our model of it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from bochs_lab.emulator import Emulator
from bochs_lab.errors import BootFailed

from gdb_nept.predict.case import Deviation
from gdb_nept.predict.kvm import Habit
from tests.features.cases import LA57, Cases
from tests.features.judge import FLAGS_AT_FULL_LOG
from tests.features.run import run
from tests.findings import bochs, kvm, qemu
from tests.findings.__main__ import write_iso
from tests.findings.finding import one
from tests.findings.told import of_bochs, shown, shown_by_kvm
from tests.guests.generate import SMALL_PAGE, landscape
from tests.guests.scenarios import READ

WARNS = "EMULATED_FULL_LOG_WARNS"  # is nothing that L1 could be told
TIGER_LAKE = Emulator("3.0", "tigerlake")


def test_every_finding_is_a_named_rule() -> None:
    assert {one.rule for one in bochs.FINDINGS} <= {each.name for each in Deviation}
    ours = {each.name for each in Habit} | {FLAGS_AT_FULL_LOG, WARNS}
    assert {one.rule for one in kvm.FINDINGS} <= ours


@pytest.mark.bochs
@pytest.mark.parametrize("emulator", [Emulator(), TIGER_LAKE], ids=["2.7", "3.0"])
def test_each_is_shown(emulator: Emulator) -> None:
    found = shown(emulator, of_bochs(emulator.version))
    assert len(found) >= 5
    for each in found:
        assert each.differs, each
        assert not each.unlike_model, each


#: What of the record is not the SDM's.
AMISS = {
    "DIRTY_ALONE_IS_LOGGED": "outcome translated not pml_full",
    FLAGS_AT_FULL_LOG: "flags of EPT12",
    WARNS: "nested_ept_inject_page_fault",
    "EMULATED_WALK_WRITES": "outcome violation not translated",
    "EMULATED_OFFSET_LOST": "guest-physical address",
    "EMULATED_ADVANCED_LOST": "qualification bits 0x400",
    "EMULATED_LINEAR_STALE": "guest-linear address",
}


@pytest.mark.bochs
def test_each_is_shown_by_kvm() -> None:
    found = shown_by_kvm("7.2", TIGER_LAKE)
    assert {each.finding.rule for each in found} == set(AMISS)
    for each in found:
        assert any(AMISS[each.finding.rule] in one for one in each.differs), each
        assert not each.unlike_model, each


@pytest.mark.bochs
def test_the_processor_does_what_kvm_does_not() -> None:
    """The same accesses by the same L1, with no KVM under it."""
    for each in shown(TIGER_LAKE, kvm.FINDINGS):
        assert not each.differs, each


@pytest.mark.bochs
def test_the_cd_has_every_text(tmp_path: Path) -> None:
    """What L1 says is in its scenario, which the CD has uncompressed."""
    write_iso(list(kvm.FINDINGS), tmp_path / "cd")
    written = (tmp_path / "cd").read_bytes()
    for each in kvm.FINDINGS:
        assert each.title.encode() in written
        assert each.expected.encode() in written


@pytest.mark.bochs  # whose tools make the CD
@pytest.mark.qemu
def test_qemu_dumps_by_other_addresses_and_in_part(tmp_path: Path) -> None:
    write_iso(list(kvm.FINDINGS), tmp_path / "cd")
    first = min(qemu.dumped(tmp_path / "cd", tmp_path), key=lambda each: each.start)
    assert (first.start, first.size) == (0, qemu.MEMORY)
    assert (first.virtual, first.in_file) == (0xFFFF << 48, 640 << 10)


@pytest.mark.bochs
def test_a_guest_with_la57_unlike_the_host_ends_bochs() -> None:
    """vmx.cc VMenterLoadCheckGuestState() asks check_CR4() (crregs.cc), which refuses to change
    CR4.LA57 while EFER.LMA is set, and takes the host's for it.  SDM vol. 3, 29.3.1.1 has no such
    check: host and guest may differ."""
    s = Cases()
    landscape(s)
    s.put(one("la57", READ, SMALL_PAGE, [], features=LA57))
    s.finish(None)
    with pytest.raises(BootFailed, match="VMENTER CR4 is broken"):
        run(s, emulator=Emulator("3.0", "sapphire_rapids"), words="unlike=1")
