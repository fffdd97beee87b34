# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of predict/kvm.py: each with the kernels on both sides of it, and what their source
says.  Functions are in arch/x86/kvm of Linux."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.address import L1Phys
from gdb_nept.arch.exits import EPT_MISCONFIGURATION, PML_FULL
from gdb_nept.errors import NoMemory
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.kvm import KERNELS, Feature, Habit
from gdb_nept.predict.model import model
from gdb_nept.predict.outcome import Outcome, Prediction
from tests.predict.tables import CPU, GLA, GPA, RWX, XU, Path, R, W, X, ask, to, with_cap

WHOLE = (1 << 64) - 1
READ_ONLY = Path(rights={1: R})
MISCONFIGURED = Path(rights={1: W})
FULL = Controls(pml=True, pml_index=0xFFFF)
WALK_READ = to(Op.READ, Stage.WALK)
WALK_UPDATE = to(Op.RMW, Stage.WALK)


def told(found: Prediction[L1Phys]) -> tuple[int | None, int]:
    return found.reason, found.qualification


# -- a misconfiguration has the processor's qualification, until 6.10 ----------------------------


@pytest.mark.parametrize("by", ["kvm-3.18", "kvm-4.14", "kvm-5.10", "kvm-6.1", "kvm-6.6"])
@pytest.mark.parametrize("advanced", [False, True])
def test_what_is_the_processors_in_a_misconfiguration_is_not_claimed(
    by: str, advanced: bool
) -> None:
    # handle_ept_violation() stores the whole of it in vcpu->arch.exit_qualification, and
    # walk_addr_generic() masks that only if !(errcode & PFERR_RSVD_MASK)
    cpu = with_cap(advanced_exit=int(advanced))
    found = ask(MISCONFIGURED, to(Op.WRITE), cpu, by)
    assert told(found) == (EPT_MISCONFIGURATION, 0x182)
    assert found.mask == WHOLE & ~0x1FFFF | 0x187  # 2:0 and 8:7 follow from the access
    assert ask(MISCONFIGURED, to(Op.RMW), cpu, by).mask & 7 == 6  # bit 0 as the processor likes
    assert ask(MISCONFIGURED, WALK_READ, cpu, by).qualification & 0x180 == 0x80
    emulated = ask(MISCONFIGURED, to(Op.WRITE, emulated=True), cpu, by)
    assert (emulated.reason, emulated.mask) == (EPT_MISCONFIGURATION, 0)


def test_bit_12_of_a_misconfiguration_is_known_if_it_is_said() -> None:
    access = to(Op.WRITE, nmi_unblocking=True)
    found = ask(MISCONFIGURED, access, by="kvm-6.1")
    assert (found.qualification, found.mask & 0x1000) == (0x1182, 0x1000)
    assert ask(MISCONFIGURED, access, by="kvm-6.10").qualification == 0


def test_the_qualification_seen_at_a_misconfiguration_is_passed_on() -> None:
    seen = replace(to(Op.WRITE), raw=0xF8A)
    found = ask(MISCONFIGURED, seen, by="kvm-6.6")
    assert (found.qualification, found.mask) == (0xF8A, WHOLE)
    assert told(ask(MISCONFIGURED, seen, by="kvm-6.10")) == (EPT_MISCONFIGURATION, 0)


# -- what else of it is passed on ----------------------------------------------------------------


def test_of_a_violation_bits_8_and_7_alone_are_passed_on() -> None:
    # & 0x180 in walk_addr_generic() up to 6.9, and in nested_ept_inject_page_fault() since
    for by in ("kvm-4.17", "kvm-6.1", "kvm-6.12.117"):
        found = ask(READ_ONLY, replace(to(Op.WRITE), raw=0x1FFC2), by=by)
        assert (found.qualification, found.mask) == (0x18A, WHOLE)


def test_bits_11_to_9_are_passed_on_if_l1_is_offered_them() -> None:
    # mask |= EPT_VIOLATION_GVA_USER | ... if nested.msrs.ept_caps has bit 22 (7.2)
    seen = replace(to(Op.WRITE), raw=0x1FFC2)
    assert ask(READ_ONLY, seen, with_cap(advanced_exit=1), "kvm-7.2").qualification == 0xF8A
    assert ask(READ_ONLY, seen, with_cap(advanced_exit=0), "kvm-7.2").qualification == 0x18A
    unseen = ask(READ_ONLY, to(Op.WRITE), with_cap(advanced_exit=1), "kvm-7.2")
    assert unseen.mask & 0xE00 == 0x200  # only the mode of the access is told


def test_bit_0_of_a_read_modify_write_is_taken_from_where_it_was_seen() -> None:
    # handle_ept_violation() turns it into PFERR_USER_MASK, and that becomes bit 0 again (4.17)
    for raw, expected in ((0x182, 2), (0x183, 3)):
        found = ask(READ_ONLY, replace(to(Op.RMW), raw=raw), by="kvm-6.1")
        assert (found.qualification & 7, found.mask) == (expected, WHOLE)
    assert ask(READ_ONLY, replace(to(Op.RMW), raw=0x183), by="kvm-7.2").qualification & 7 == 2


def test_an_emulated_access_has_no_qualification_of_the_processor() -> None:
    access = replace(to(Op.WRITE, emulated=True), raw=0x1FFFF)
    assert ask(READ_ONLY, access, by="kvm-7.2").qualification == 0x18A


# -- accessed and dirty flags of EPTP12 ----------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "outcome", "qualification"),
    [
        # construct_eptp() sets bit 6 whatever EPTP12 says: the processor reports read and write,
        # and handle_ept_violation() hands PFERR_WRITE_MASK on
        ("kvm-3.12", Outcome.VIOLATION, 0x83 | R << 3),
        ("kvm-4.9", Outcome.VIOLATION, 0x83 | R << 3),
        # "exit_qualification &= ~EPT_VIOLATION_ACC_WRITE" of ae1e2d1082ae
        ("kvm-4.12", Outcome.TRANSLATED, 0),
        ("kvm-4.14", Outcome.TRANSLATED, 0),
        ("kvm-6.1", Outcome.TRANSLATED, 0),
    ],
)
def test_a_page_walk_that_reads_a_read_only_page(
    by: str, outcome: Outcome, qualification: int
) -> None:
    found = ask(READ_ONLY, WALK_READ, by=by)
    assert (found.outcome, found.qualification) == (outcome, qualification)
    assert ("no progress" in found.why) is (by == "kvm-4.12")  # EPT02 needs W for the walk still


@pytest.mark.parametrize(
    ("by", "outcome"),
    [
        ("kvm-4.9", Outcome.VIOLATION),
        ("kvm-4.12", Outcome.TRANSLATED),  # W is cleared, though the walk does write
        ("kvm-4.14", Outcome.VIOLATION),
        ("kvm-7.2", Outcome.VIOLATION),
    ],
)
def test_a_page_walk_that_updates_a_flag_in_a_read_only_page(by: str, outcome: Outcome) -> None:
    assert ask(READ_ONLY, WALK_UPDATE, by=by).outcome is outcome


def test_w_of_a_page_walk_is_missing_from_an_absent_page_too_in_4_12() -> None:
    absent = Path(rights={1: 0})
    assert ask(absent, WALK_UPDATE, by="kvm-4.12").qualification == 0x81
    assert ask(absent, WALK_READ, by="kvm-4.9").qualification == 0x83
    assert ask(absent, WALK_READ, by="kvm-4.14").qualification == 0x81
    assert ask(Path(rights={1: 0}, ad=True), WALK_READ, by="kvm-4.12").qualification == 0x83
    # nor does a write of L2 itself lose it: EPT_VIOLATION_GVA_TRANSLATED is set
    assert ask(absent, to(Op.WRITE), by="kvm-4.12").qualification == 0x182
    raw = replace(WALK_READ, raw=0x83)
    assert ask(MISCONFIGURED, raw, by="kvm-4.12").qualification == 0x81


def test_a_page_walk_is_a_read_whatever_else_it_is_in_7_2() -> None:
    # "if (access & PFERR_GUEST_PAGE_MASK) ... |= EPT_VIOLATION_ACC_READ", after W or R alone
    with_flags = Path(rights={1: 0}, ad=True)
    assert ask(with_flags, WALK_READ, by="kvm-7.2").qualification == 0x83
    assert ask(Path(rights={1: 0}), WALK_READ, by="kvm-7.2").qualification == 0x81
    assert ask(with_flags, WALK_READ, by="kvm-7.2@bochs-2.7").qualification == 0x83
    assert ask(with_flags, WALK_READ, by="kvm-6.1@bochs-2.7").qualification == 0x82


def test_before_4_12_the_flags_and_the_log_of_eptp12_are_not_known() -> None:
    clean = Path(ad=True)
    assert ask(clean, to(Op.WRITE), by="kvm-4.9", controls=FULL).outcome is Outcome.TRANSLATED
    assert ask(clean, to(Op.WRITE), by="kvm-4.12", controls=FULL).reason == PML_FULL


# -- the full log --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "expected"), [("kvm-4.12", 0), ("kvm-6.1", 0), ("kvm-6.6", 0), ("kvm-6.10", 0x1000)]
)
def test_bit_12_of_a_full_log(by: str, expected: int) -> None:
    # up to 6.9 walk_addr_generic() has cleared it in vcpu->arch.exit_qualification before
    # nested_ept_inject_page_fault() takes it from there; then it is vmx_get_exit_qual()'s
    path = Path(ad=True)
    found = ask(path, to(Op.WRITE, nmi_unblocking=True), by=by, controls=FULL)
    assert (told(found), found.mask) == ((PML_FULL, expected), WHOLE)
    assert (found.gpa, found.gla) == (GPA, GLA)
    seen = ask(path, replace(to(Op.WRITE), raw=0x1182), by=by, controls=FULL)
    assert seen.qualification == expected


# -- what an entry may say -----------------------------------------------------------------------


@pytest.mark.parametrize(("leaf", "cap"), [(3, "page_1g"), (2, "page_2m")])
@pytest.mark.parametrize("by", sorted(set(KERNELS) - {"kvm-6.12.117"}))
def test_large_pages_that_l1_is_not_offered(by: str, leaf: int, cap: str) -> None:
    # 5.10 __reset_rsvds_bits_mask_ept(): rsvd_bits(3, 6) of an entry with bit 7 clear, and of a
    # leaf the address bits below its size, whatever ept_caps; huge_page_level came in 5.17
    found = ask(Path(leaf=leaf), to(Op.WRITE), with_cap(CPU, **{cap: 0}), by)
    checked = Feature.LARGE_PAGES_CHECKED in KERNELS[by]
    assert found.outcome is (Outcome.MISCONFIG if checked else Outcome.TRANSLATED)
    unaligned = Path(leaf=leaf, extra={leaf: 1 << 13})
    assert ask(unaligned, to(), with_cap(CPU, **{cap: 0}), by).reason == EPT_MISCONFIGURATION


def test_before_4_8_a_read_needs_no_r() -> None:
    # gpte_access() always gave ACC_USER_MASK, and update_permission_bitmask() had u = 1 for EPT
    path = Path(rights={2: X, 1: X})
    for by, outcome in (("kvm-3.12", Outcome.TRANSLATED), ("kvm-4.8", Outcome.VIOLATION)):
        assert ask(path, to(), by=by).outcome is outcome
    # 4.8 to 4.11: the tables' ACC_* (X alone is 1) AND the leaf's raw bits (X is 4)
    assert ask(path, to(), by="kvm-4.9").qualification == 0x181
    tables = Path(rights={2: X, 1: R | X})
    assert ask(tables, to(Op.WRITE), by="kvm-3.12").qualification == 0x182 | (5 & 5) << 3
    assert ask(tables, to(Op.WRITE), by="kvm-4.9").qualification == 0x182 | (1 & 5) << 3


# -- tables where L1 has no memory ---------------------------------------------------------------


class Without:
    """The memory of a path but for the table at `level`."""

    def __init__(self, path: Path, level: int) -> None:
        self.path, self.hole = path, path.place(level) >> 12

    def read(self, address: int, size: int) -> bytes:
        if address >> 12 == self.hole:
            raise NoMemory(address, size, "no memslot")
        return self.path.memory.read(address, size)  # type: ignore[arg-type]


def without(
    path: Path, level: int, by: str, access: Access, mbec: bool = False
) -> Prediction[L1Phys]:
    cpu = replace(CPU, mbec=mbec)
    return model(by).predict(Without(path, level), path.eptp, access, cpu, Controls())


@pytest.mark.parametrize(
    ("by", "outcome", "qualification"),
    [
        ("kvm-5.7", Outcome.SHUTDOWN, 0),
        # kvm_make_request(KVM_REQ_TRIPLE_FAULT) in mmu_check_root(): vcpu_enter_guest() of 5.10
        # leaves with KVM_EXIT_SHUTDOWN
        ("kvm-5.10", Outcome.SHUTDOWN, 0),
        # and since 5.13 calls nested_vmx_triple_fault(): exit reason 2, qualification 0
        ("kvm-5.13", Outcome.TRIPLE_FAULT, 0),
        ("kvm-6.1", Outcome.TRIPLE_FAULT, 0),
        # kvm_mmu_get_dummy_root(): the walk fails at the root, with pte_access still ~0
        ("kvm-6.6", Outcome.VIOLATION, 0x182 | RWX << 3),
        ("kvm-7.2", Outcome.VIOLATION, 0x182 | RWX << 3),
    ],
)
def test_the_root_in_no_memslot(by: str, outcome: Outcome, qualification: int) -> None:
    found = without(Path(), 4, by, to(Op.WRITE))
    assert (found.outcome, found.qualification) == (outcome, qualification)
    assert found.reason == {Outcome.VIOLATION: 48, Outcome.TRIPLE_FAULT: 2}.get(outcome)


def test_the_rights_above_a_table_in_no_memslot() -> None:
    path = Path(rights={4: R | X, 3: R | W})
    assert without(path, 2, "kvm-6.1", to()).qualification == 0x181 | R << 3
    # before 4.12: ACC_* of both levels (X|U = 5, W|U = 6) AND the last entry read, R|W
    assert without(path, 2, "kvm-4.9", to()).qualification == 0x181 | (5 & 6 & 3) << 3
    # with MBEC bit 6 stays as well: EPT_VIOLATION_USER_EXEC_TO_PROT(pte_access)
    user = Path(rights={4: RWX | XU, 3: R | XU})
    assert without(user, 2, "kvm-7.2", to(), mbec=True).qualification == 0x1C1 | R << 3


# -- the emulator --------------------------------------------------------------------------------


@pytest.mark.parametrize("by", sorted(KERNELS))
@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        (Path(), Outcome.TRANSLATED),
        (Path(rights={1: 0}), Outcome.GENERAL_PROTECTION),
        (Path(rights={1: R | X}), Outcome.GENERAL_PROTECTION),  # PFERR_WRITE_MASK is asked for
        (MISCONFIGURED, Outcome.GENERAL_PROTECTION),
    ],
)
def test_pdptes_that_the_emulator_loads(by: str, path: Path, outcome: Outcome) -> None:
    # load_pdptrs(): kvm_translate_gpa(..., NULL), or a struct x86_exception that is dropped
    found = ask(path, to(Op.READ, Stage.PDPTE, emulated=True), by=by)
    assert (found.outcome, found.reason, found.mask) == (outcome, None, 0)
    assert (found.rules == (Habit.EMULATED_PDPTES.name,)) is (outcome is not Outcome.TRANSLATED)


def test_a_full_log_that_the_emulator_meets_while_it_loads_pdptes() -> None:
    access = to(Op.READ, Stage.PDPTE, emulated=True)
    found = ask(Path(ad=True), access, by="kvm-6.1", controls=FULL)
    assert found.outcome is Outcome.GENERAL_PROTECTION
    assert "next EPT violation" in found.why


@pytest.mark.parametrize(
    ("by", "page", "table"),
    [
        # 3.13 walk_addr_generic(): translate_gpa() takes no exception; "goto error" for a table,
        # "return 0" with walker->fault as it was for the page
        ("kvm-3.12", Outcome.UNKNOWN, Outcome.PAGE_FAULT),
        ("kvm-3.18", Outcome.VIOLATION, Outcome.VIOLATION),
        ("kvm-6.1", Outcome.VIOLATION, Outcome.VIOLATION),
    ],
)
def test_what_the_emulator_tells_l1(by: str, page: Outcome, table: Outcome) -> None:
    absent = Path(rights={1: 0})
    assert ask(absent, to(Op.WRITE, emulated=True), by=by).outcome is page
    assert ask(absent, to(stage=Stage.WALK, emulated=True), by=by).outcome is table
    assert ask(absent, to(Op.WRITE), by=by).outcome is Outcome.VIOLATION
    assert ask(Path(), to(Op.WRITE, emulated=True), by=by).outcome is Outcome.TRANSLATED


def test_an_accessed_flag_alone_is_not_logged() -> None:
    # update_accessed_dirty_bits() calls write_log_dirty() for the dirty flag of the leaf
    clean = Path(ad=True)
    assert ask(clean, to(), by="sdm", controls=FULL).reason == PML_FULL
    found = ask(clean, to(), by="kvm-6.1", controls=FULL)
    assert (found.outcome, found.rules) == (Outcome.TRANSLATED, ("DIRTY_ALONE_IS_LOGGED",))


def test_the_processor_loads_pdptes_with_a_read() -> None:
    assert ask(READ_ONLY, to(Op.READ, Stage.PDPTE), by="kvm-6.1").outcome is Outcome.TRANSLATED
    assert ask(Path(rights={1: 0}), to(Op.READ, Stage.PDPTE), by="kvm-6.1").qualification == 1
