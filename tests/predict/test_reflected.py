# SPDX-License-Identifier: GPL-2.0-or-later
"""What each KVM makes for L1: one test a rule, with the kernels on both sides of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.address import L2Phys
from gdb_nept.arch.exits import EPT_MISCONFIGURATION, PML_FULL
from gdb_nept.errors import BadInput, MemoryUnreadable, NoMemory
from gdb_nept.predict.access import Controls, Op, Stage
from gdb_nept.predict.kvm import KERNELS, Habit
from gdb_nept.predict.model import NAMES, model
from gdb_nept.predict.outcome import Outcome
from tests.predict.tables import CPU, GLA, GPA, RWX, XU, Path, R, W, X, ask, to, with_cap

PAGE = GPA & ~0xFFF
KVMS = tuple(KERNELS)
READ_EXECUTE = Path(rights={1: R | X})


@pytest.mark.parametrize("kvm", KVMS)
def test_what_epts_all_report_alike(kvm: str) -> None:
    for rights, op, qualification in ((R | X, Op.WRITE, 0x1AA), (0, Op.READ, 0x181)):
        found = ask(Path(rights={1: rights}), to(op), by=kvm)
        if kvm in ("kvm-3.12", "kvm-3.18", "kvm-4.8", "kvm-4.9"):  # ACC flags: seen below
            continue
        assert (found.qualification, found.gpa) == (qualification, GPA)
    assert ask(Path(), to(), by=kvm).outcome is Outcome.TRANSLATED


@pytest.mark.parametrize("kvm", KVMS)
def test_the_linear_address_reaches_vmcs12_since_4_9(kvm: str) -> None:
    found = ask(Path(rights={1: 0}), to(), by=kvm)
    assert found.gla == (None if kvm in ("kvm-3.12", "kvm-3.18", "kvm-4.8") else GLA)


def test_before_4_12_rights_of_tables_and_leaf_are_mixed_up() -> None:
    # the tables' as ACC_EXEC 1, ACC_WRITE 2, ACC_USER 4; the leaf's as R 1, W 2, X 4
    path = Path(rights={2: R | W, 1: R | X})
    assert ask(path, to(Op.WRITE), by="kvm-4.9").qualification == 0x182 | X << 3
    assert ask(path, to(Op.WRITE), by="kvm-4.12").qualification == 0x182 | R << 3
    assert ask(READ_EXECUTE, to(Op.WRITE), by="kvm-4.9").qualification == 0x1AA


@pytest.mark.parametrize(("kvm", "expected"), [("kvm-6.1", 0x181), ("kvm-6.10", 0), ("sdm", 0)])
def test_the_qualification_of_a_misconfiguration(kvm: str, expected: int) -> None:
    found = ask(Path(rights={1: W}), to(), by=kvm)
    assert (found.reason, found.qualification) == (EPT_MISCONFIGURATION, expected)


@pytest.mark.parametrize(
    ("kvm", "write", "fetch"),
    [("kvm-6.1", 3, 5), ("kvm-6.12.117", 3, 5), ("kvm-7.2", 2, 4)],
)
def test_accesses_of_the_emulator_are_reads_too_before_7_2(
    kvm: str, write: int, fetch: int
) -> None:
    for op, kind in ((Op.WRITE, write), (Op.FETCH, fetch)):
        found = ask(Path(rights={1: R}), to(op, emulated=True), by=kvm)
        assert found.qualification & found.mask & 7 == kind


@pytest.mark.parametrize(
    ("kvm", "read", "write"),
    [("kvm-4.17", 1, 3), ("kvm-6.1", 1, 3), ("kvm-6.10", 1, 3), ("kvm-7.2", 1, 2)],
)
def test_the_emulators_read_modify_write_reads_first(kvm: str, read: int, write: int) -> None:
    # emulate.c x86_emulate_insn(): segmented_read() of the destination, which fails with the access
    # of a read; PFERR_WRITE_MASK, which it adds to the error code, is in no exit qualification
    access = to(Op.RMW, emulated=True)
    for rights, kind in ((0, read), (X, read), (R, write), (R | X, write)):
        found = ask(Path(rights={1: rights}), access, by=kvm)
        assert found.qualification & found.mask & 7 == kind, rights
        assert (Habit.EMULATED_RMW_IN_TWO.name in found.rules) is (kind == read)
    above = ask(Path(rights={3: 0}), access, by=kvm)
    assert above.qualification & above.mask & 7 == read


def test_the_emulator_loses_the_offset_in_the_page() -> None:
    found = ask(Path(rights={1: R}), to(Op.WRITE, emulated=True), by="kvm-6.1")
    assert (found.gpa, found.gla) == (PAGE, None)
    # but nonpaging_gva_to_gpa() hands on all of it
    unpaged = to(Op.WRITE, emulated=True, unpaged=True)
    assert ask(Path(rights={1: R}), unpaged, by="kvm-6.1").gpa == GPA


def test_bits_8_and_7_of_the_emulator_are_stale_before_from_hardware() -> None:
    access = to(Op.WRITE, emulated=True)
    stale = ask(Path(rights={1: R}), access, by="kvm-6.1")
    assert stale.mask & 0x180 == 0
    made = ask(Path(rights={1: R}), access, by="kvm-6.12.117")
    assert (made.mask & 0x180, made.qualification & 0x180) == (0x180, 0x180)
    walk = to(stage=Stage.WALK, emulated=True)
    assert ask(Path(rights={1: R}), walk, by="kvm-6.12.117").qualification & 0x180 == 0x80


def test_the_emulator_demands_w_of_l2s_tables_whatever_eptp12_says() -> None:
    path, walk = Path(rights={1: R}), to(stage=Stage.WALK, emulated=True)
    assert ask(path, walk, by="kvm-6.1").qualification & 7 == 3
    assert ask(path, to(stage=Stage.WALK), by="kvm-6.1").outcome is Outcome.TRANSLATED


def test_bit_0_of_a_read_modify_write_is_the_processors_until_7_2() -> None:
    old = ask(READ_EXECUTE, to(Op.RMW), by="kvm-6.1")
    new = ask(READ_EXECUTE, to(Op.RMW), by="kvm-7.2")
    assert (old.mask & 1, new.mask & 1, new.qualification & 7) == (0, 1, 2)
    assert ask(READ_EXECUTE, to(Op.RMW), by="kvm-6.1@bochs-2.7").qualification & 7 == 2


def test_bit_6_and_mbec_come_with_7_2() -> None:
    cpu = replace(CPU, mbec=True)
    path = Path(rights=dict.fromkeys((4, 3, 2, 1), R | XU))
    assert ask(path, to(Op.WRITE), cpu, "kvm-7.2").qualification & 0x40
    assert not ask(path, to(Op.WRITE), cpu, "kvm-6.1").qualification & 0x40


def test_bits_11_to_9_are_passed_on_by_7_2() -> None:
    cpu = with_cap(advanced_exit=1)
    access = to(Op.WRITE, user=True, linear_writable=True, linear_execute_disable=False)
    assert ask(READ_EXECUTE, access, cpu, "kvm-7.2").qualification & 0xE00 == 0x600
    assert ask(READ_EXECUTE, access, cpu, "kvm-6.1").qualification & 0xE00 == 0


@pytest.mark.parametrize("by", ["kvm-6.1", "kvm-7.2"])
def test_pml_is_checked_only_where_the_dirty_flag_must_be_set(by: str) -> None:
    full = Controls(pml=True, pml_index=512)
    assert ask(Path(ad=True), to(), by=by, controls=full).outcome is Outcome.TRANSLATED
    found = ask(Path(ad=True), to(Op.WRITE), by=by, controls=full)
    assert (found.reason, found.gpa) == (PML_FULL, GPA)
    dirty = Path(ad=True, extra={1: 1 << 9})
    assert ask(dirty, to(Op.WRITE), by=by, controls=full).outcome is Outcome.TRANSLATED


def test_a_table_outside_l1s_memory_keeps_the_rights_of_the_levels_above() -> None:
    path = Path(rights={4: R | W})

    class Half:
        def read(self, address: int, size: int) -> bytes:
            if address >> 12 == path.place(2) >> 12:
                raise NoMemory(address, size, "no memslot")
            return path.memory.read(address, size)  # type: ignore[arg-type]

    found = model("kvm-6.1").predict(Half(), path.eptp, to(), CPU, Controls())
    assert found.qualification == 0x181 | (R | W) << 3


@pytest.mark.parametrize("by", ["kvm-4.9", "kvm-6.1", "kvm-7.2", "xen"])
def test_bits_51_to_48_are_not_looked_at(by: str) -> None:
    # walk_addr_generic(): PT_INDEX() of the top level is bits 47:39.  The processor refuses the
    # address whatever EPT02 has, and comes back for ever where KVM finds a page.
    high = replace(to(Op.WRITE), gpa=L2Phys(GPA | 5 << 48))
    assert ask(Path(), high, by="sdm").qualification == 0x182
    found = ask(Path(), high, by=by)
    assert (found.outcome, found.walk.asked) == (Outcome.TRANSLATED, high.gpa)
    assert found.rules == ("HIGH_BITS_IGNORED" if by == "xen" else "UPPER_BITS_IGNORED",)
    refused = ask(READ_EXECUTE, high, by=by)
    assert (refused.reason, refused.gpa) == (48, high.gpa)
    assert refused.qualification & 0x38 == (R | X) << 3


def test_a_table_that_we_cannot_read_is_no_table_that_is_not_there() -> None:
    path = Path()

    class Filtered:
        def read(self, address: int, size: int) -> bytes:
            if address >> 12 == path.place(2) >> 12:
                raise MemoryUnreadable(address, size, "filtered out of the dump")
            return path.memory.read(address, size)  # type: ignore[arg-type]

    found = model("kvm-6.1").predict(Filtered(), path.eptp, to(), CPU, Controls())
    assert found.outcome is Outcome.UNKNOWN
    assert "filtered" in found.why


# -- section 6 of the notes: the series of 2012 -------------------------------------------------


@pytest.mark.parametrize(
    ("rights", "extra", "op", "code"),
    [
        (0, 0, Op.READ, 0),
        (0, 0, Op.WRITE, 2),
        (R | X, 0, Op.WRITE, 3),
        (R | W, 0, Op.FETCH, 1),
        (RWX, 1 << 45, Op.READ, 9),
        (RWX, 1 << 45, Op.WRITE, 0xB),
    ],
)
def test_v2_injects_an_error_code(rights: int, extra: int, op: Op, code: int) -> None:
    found = ask(Path(rights={1: rights}, extra={1: extra}), to(op), by="v2-2012")
    assert (found.reason, found.qualification & found.mask, found.gla) == (48, code, None)
    assert found.mask == (1 << 64) - 1 - (0x10 if op is Op.FETCH else 0)


def test_v2_tells_the_emulator_by_the_user_bit() -> None:
    found = ask(Path(rights={1: 0}), to(Op.WRITE, emulated=True), by="v2-2012")
    assert found.qualification == 6


# -- names --------------------------------------------------------------------------------------


def test_every_model_has_its_name() -> None:
    assert [model(name).name for name in NAMES] == list(NAMES)
    assert model("kvm-6.1@bochs-2.7").name == "kvm-6.1@bochs-2.7"


@pytest.mark.parametrize("name", ["", "kvm", "kvm-9", "sdm@bochs-2.7", "kvm-6.1@z80"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(BadInput, match="no model"):
        model(name)
