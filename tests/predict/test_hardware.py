# SPDX-License-Identifier: GPL-2.0-or-later
"""What the processor of the SDM reports: the tables of kvm-unit-tests' ept_access_* cases, and each
bit of the qualification in turn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.address import L2Phys
from gdb_nept.arch.exits import EPT_MISCONFIGURATION, EPT_VIOLATION, PML_FULL, SPP_EVENT
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.hardware import predict
from gdb_nept.predict.outcome import Outcome
from tests.predict.tables import (
    CPU,
    GLA,
    GPA,
    LARGE,
    LINEAR,
    PW,
    RWX,
    SPP,
    SSS,
    SVE,
    VGP,
    XU,
    Path,
    R,
    W,
    X,
    ask,
    to,
    with_cap,
)

READ, WRITE, FETCH = Op.READ, Op.WRITE, Op.FETCH
OPS = (READ, WRITE, FETCH)
MBEC = replace(CPU, mbec=True)
SPP_ON = Controls(sppt_pointer=0x9000)
PML = Controls(pml=True, pml_index=512)

# kvm-unit-tests, x86/vmx_tests.c: what each right of a PTE lets through.  None: it goes through.
# The number is the qualification of the violation; "misconfig" is exit reason 49.
KUT = {
    0: (0x181, 0x182, 0x184),
    R: (None, 0x18A, 0x18C),
    W: ("misconfig",) * 3,
    R | W: (None, None, 0x19C),
    X: (0x1A1, 0x1A2, None),
    R | X: (None, 0x1AA, None),
    W | X: ("misconfig",) * 3,
    RWX: (None, None, None),
}


@pytest.mark.parametrize("leaf", [1, 2, 3])
@pytest.mark.parametrize("rights", KUT)
def test_rights_of_a_leaf(rights: int, leaf: int) -> None:
    for op, expected in zip(OPS, KUT[rights]):
        found = ask(Path(leaf, rights={leaf: rights}), to(op))
        if expected is None:
            assert (found.outcome, found.reason) == (Outcome.TRANSLATED, None)
            assert found.hpa is not None
        elif expected == "misconfig":
            assert (found.reason, found.qualification) == (EPT_MISCONFIGURATION, 0)
        else:
            assert (found.reason, found.qualification) == (EPT_VIOLATION, expected)
            assert (found.gpa, found.gla) == (GPA, GLA)


@pytest.mark.parametrize("level", [4, 3, 2])
@pytest.mark.parametrize(("rights", "op", "expected"), [(R, WRITE, 0x18A), (R | W, FETCH, 0x19C)])
def test_a_right_that_a_table_entry_lacks_is_lacking(
    level: int, rights: int, op: Op, expected: int
) -> None:
    found = ask(Path(rights={level: rights}), to(op))
    assert found.qualification == expected
    assert f"{Path().place(level):#x}" in found.why


def test_rights_split_over_the_levels_are_anded() -> None:
    found = ask(Path(rights={4: R | W, 3: R | X, 2: RWX, 1: R}), to(FETCH))
    assert found.qualification == LINEAR | R << 3 | 4


def test_rights_above_a_hole_are_not_reported() -> None:
    found = ask(Path(rights={2: 0}), to(WRITE))
    assert found.qualification == 0x182
    assert found.change == f"make the PDE at {Path().place(2):#x} present"


# -- misconfigurations and which comes first ----------------------------------------------------


@pytest.mark.parametrize(
    ("level", "bits"),
    [
        *((level, 1 << bit) for level in (4, 3, 2) for bit in (3, 4, 5, 6)),
        (4, LARGE),
        *((level, 1 << bit) for level in (4, 3, 2, 1) for bit in (39, 45, 51)),
    ],
)
def test_reserved_bits(level: int, bits: int) -> None:
    found = ask(Path(extra={level: bits}), to())
    assert (found.reason, found.qualification) == (EPT_MISCONFIGURATION, 0)
    assert (found.gpa, found.gla) == (GPA, None)
    assert f"{bits:#x}" in found.change


@pytest.mark.parametrize("kind", [2 << 3, 3 << 3, 7 << 3])
@pytest.mark.parametrize("leaf", [1, 2, 3])
def test_reserved_memory_types(kind: int, leaf: int) -> None:
    path = Path(leaf)
    words = path.words
    place = path.place(leaf)
    words[place] = words[place] & ~(7 << 3) | kind
    found = predict(type(path.memory)(words), path.eptp, to(), CPU)
    assert found.outcome is Outcome.MISCONFIG


@pytest.mark.parametrize(("leaf", "bit"), [(2, 12), (2, 20), (3, 12), (3, 29)])
def test_the_low_address_bits_of_a_large_page_are_reserved(leaf: int, bit: int) -> None:
    assert ask(Path(leaf, extra={leaf: 1 << bit}), to()).outcome is Outcome.MISCONFIG


@pytest.mark.parametrize(("leaf", "cap"), [(2, "page_2m"), (3, "page_1g")])
def test_large_pages_need_their_capability(leaf: int, cap: str) -> None:
    found = ask(Path(leaf), to(), with_cap(CPU, **{cap: 0}))
    assert found.outcome is Outcome.MISCONFIG
    assert f"{LARGE | 6 << 3:#x}" in found.change  # its memory type is reserved then, too


def test_execute_only_needs_its_capability() -> None:
    without = with_cap(execute_only=0)
    assert ask(Path(rights={1: X}), to(FETCH), without).outcome is Outcome.MISCONFIG
    user = replace(without, mbec=True)
    found = ask(Path(rights={1: XU}), to(FETCH), user)
    assert found.outcome is Outcome.MISCONFIG
    assert f"{XU:#x}" in found.change
    assert ask(Path(rights={1: XU}), to(FETCH)).outcome is Outcome.VIOLATION  # absent without MBEC


@pytest.mark.parametrize("bit", [8, 9, 10, 11, *range(52, 64)])
@pytest.mark.parametrize("level", [4, 3, 2, 1])
def test_ignored_bits_are_ignored(level: int, bit: int) -> None:
    assert ask(Path(extra={level: 1 << bit}), to(Op.RMW)).outcome is Outcome.TRANSLATED


def test_bit_7_of_a_pte_is_ignored() -> None:
    assert ask(Path(extra={1: LARGE}), to()).outcome is Outcome.TRANSLATED


def test_a_misconfiguration_below_wins_over_a_missing_right_above() -> None:
    assert ask(Path(rights={4: R, 1: W}), to(WRITE)).outcome is Outcome.MISCONFIG


def test_a_hole_above_wins_over_a_misconfiguration_below() -> None:
    found = ask(Path(rights={3: 0, 1: W}), to(WRITE))
    assert (found.outcome, found.qualification) == (Outcome.VIOLATION, 0x182)


def test_an_absent_entry_has_no_reserved_bits() -> None:
    assert ask(Path(rights={2: 0}, extra={2: 0x78}), to()).outcome is Outcome.VIOLATION


# -- bit by bit ---------------------------------------------------------------------------------


def test_bit_0_of_a_read_modify_write_is_not_defined() -> None:
    found = ask(Path(rights={1: R | X}), to(Op.RMW))
    assert (found.qualification, found.mask & 7) == (0x1AB, 6)


def test_page_walks_with_accessed_and_dirty_flags_need_a_write() -> None:
    found = ask(Path(rights={1: R | X}, ad=True), to(stage=Stage.WALK))
    assert (found.qualification, found.mask & 7) == (0xAB, 7)
    assert ask(Path(rights={1: R | X}), to(stage=Stage.WALK)).outcome is Outcome.TRANSLATED


@pytest.mark.parametrize(("op", "kind"), [(READ, 1), (FETCH, 1), (WRITE, 3), (Op.RMW, 3)])
def test_page_walks_without_them_read_or_update_flags(op: Op, kind: int) -> None:
    found = ask(Path(rights={1: X}), to(op, Stage.WALK))
    assert found.qualification == 0x80 | X << 3 | kind


def test_a_pdpte_load_is_a_read_and_has_no_linear_address() -> None:
    assert ask(Path(rights={1: R}, ad=True), to(stage=Stage.PDPTE)).outcome is Outcome.TRANSLATED
    found = ask(Path(rights={1: X}, ad=True), to(stage=Stage.PDPTE))
    assert (found.qualification, found.gla) == (0x21, None)
    assert found.mask & 0x180 == 0x180


def test_bit_6_needs_mbec() -> None:
    path = Path(rights=dict.fromkeys((4, 3, 2, 1), R | XU))
    assert ask(path, to(WRITE)).mask & 0x40 == 0
    found = ask(path, to(WRITE), MBEC)
    assert (found.qualification, found.mask & 0x40) == (0x1CA, 0x40)
    assert ask(path, to(FETCH, user=True), MBEC).outcome is Outcome.TRANSLATED
    assert ask(path, to(FETCH), MBEC).qualification == 0x1CC


def test_a_user_mode_fetch_needs_bit_10_with_mbec() -> None:
    found = ask(Path(rights={1: R | X}), to(FETCH, user=True), MBEC)
    assert found.outcome is Outcome.VIOLATION
    assert found.qualification & 0x7F == R << 3 | X << 3 | 4


def test_bits_11_to_9_are_advanced_information() -> None:
    advanced = with_cap(advanced_exit=1)
    path = Path(rights={1: 0})
    assert ask(path, to()).mask & 0xE00 == 0
    unknown = ask(path, to(), advanced)
    assert unknown.mask & 0xE00 == 0x200  # R/W and XD of L2's page were not given
    access = to(user=True, linear_writable=True, linear_execute_disable=True)
    known = ask(path, access, advanced)
    assert (known.qualification & 0xE00, known.mask & 0xE00) == (0xE00, 0xE00)
    assert ask(path, to(stage=Stage.WALK), advanced).mask & 0xE00 == 0


def test_bit_12_is_nmi_unblocking() -> None:
    found = ask(Path(rights={1: 0}), to(nmi_unblocking=True))
    assert found.qualification & found.mask & 0x1000
    assert ask(Path(rights={1: 0}), to(event_delivery=True)).mask & 0x1000 == 0


def test_bits_13_and_14_and_shadow_stacks() -> None:
    access = to(WRITE, shadow_stack=True)
    path = Path(rights={1: R | X}, extra={1: SSS}, sss=True)
    assert ask(path, access).outcome is Outcome.TRANSLATED  # W of the leaf is not needed
    no_bit = ask(replace(path, extra={}), access)
    assert no_bit.qualification & 0x6000 == 0x2000
    assert no_bit.mask & 0x4000
    other = ask(path, to(WRITE))
    assert other.qualification & 0x6000 == 0x4000
    table = ask(replace(path, rights={3: R, 1: RWX}), access)
    assert table.outcome is Outcome.VIOLATION
    assert ask(Path(rights={1: 0}, sss=True), access).mask & 0x4000 == 0
    assert ask(Path(rights={1: R}), to(WRITE)).mask & 0x4000 == 0


def test_bit_15_is_guest_paging_verification() -> None:
    cpu = replace(CPU, verify_guest_paging=True, paging_write=True)
    path = Path(extra={1: VGP})
    assert ask(path, to(), cpu).outcome is Outcome.TRANSLATED
    found = ask(path, to(paging_verified=False), cpu)
    assert found.qualification == LINEAR | RWX << 3 | 1 | 0x8000
    assert ask(path, to(paging_verified=False)).outcome is Outcome.TRANSLATED


def test_bit_16_is_asynchronous() -> None:
    found = ask(Path(rights={1: 0}), to(asynchronous=True))
    assert found.qualification & found.mask & 0x10000


def test_paging_write_stands_for_w_in_page_walks() -> None:
    cpu = replace(CPU, paging_write=True)
    path = Path(rights={1: R}, extra={1: PW}, ad=True)
    assert ask(path, to(stage=Stage.WALK), cpu).outcome is Outcome.TRANSLATED
    assert ask(path, to(WRITE), cpu).outcome is Outcome.VIOLATION
    assert ask(path, to(stage=Stage.WALK)).outcome is Outcome.VIOLATION
    alone = Path(rights={1: X}, extra={1: PW})
    assert ask(alone, to(), cpu).outcome is Outcome.MISCONFIG


# -- beyond violations --------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "gpa"), [(4, 1 << 48), (5, 1 << 52)])
def test_addresses_beyond_the_width(levels: int, gpa: int) -> None:
    found = ask(Path(levels=levels), Access(L2Phys(gpa), WRITE))
    assert (found.outcome, found.qualification, found.walk.steps) == (Outcome.VIOLATION, 0x182, ())


def test_five_levels() -> None:
    path = Path(levels=5)
    found = ask(path, to())
    assert [step.level for step in found.walk.steps] == [5, 4, 3, 2, 1]
    assert ask(replace(path, rights={5: R}), to(WRITE)).qualification == 0x18A
    high = replace(path, gpa=GPA | 3 << 48)
    answer = ask(high, Access(L2Phys(GPA | 3 << 48)))
    assert answer.outcome is Outcome.TRANSLATED


def test_pml_is_checked_where_a_flag_must_be_set() -> None:
    assert ask(Path(ad=True), to(WRITE), controls=PML).reason == PML_FULL
    assert ask(Path(ad=True), to(), controls=PML).reason == PML_FULL  # accessed flags
    flags = dict.fromkeys((4, 3, 2, 1), 1 << 8)
    assert ask(Path(ad=True, extra=flags), to(), controls=PML).outcome is Outcome.TRANSLATED
    assert ask(Path(ad=True, extra=flags), to(WRITE), controls=PML).reason == PML_FULL
    dirty = {**flags, 1: 3 << 8}
    assert ask(Path(ad=True, extra=dirty), to(WRITE), controls=PML).outcome is Outcome.TRANSLATED
    assert ask(Path(), to(WRITE), controls=PML).outcome is Outcome.TRANSLATED  # no A/D
    room = replace(PML, pml_index=511)
    assert ask(Path(ad=True), to(WRITE), controls=room).outcome is Outcome.TRANSLATED
    first = ask(Path(ad=True, rights={1: R}), to(WRITE), controls=PML)
    assert first.outcome is Outcome.VIOLATION


@pytest.mark.parametrize(
    ("vector", "outcome", "qualification"),
    [
        (1 << 2 * 2, Outcome.TRANSLATED, 0),
        (0, Outcome.VIOLATION, 0x18A),
        (2, Outcome.SPP, 0),  # an odd bit is reserved
        (None, Outcome.SPP, 0x800),  # a miss
    ],
)
def test_sub_page_permissions(vector: int | None, outcome: Outcome, qualification: int) -> None:
    path = Path(rights={1: R}, extra={1: SPP})
    words = path.words
    table = 0x9000
    for level in (4, 3, 2):
        place = table + 8 * (GPA >> (12 + 9 * (level - 1)) & 511)
        table += 0x1000
        words[place] = table | (1 if level > 2 or vector is not None else 0)
    words[table + 8 * (GPA >> 12 & 511)] = vector or 0  # sub-page 2 is asked for
    found = predict(type(path.memory)(words), path.eptp, to(WRITE), CPU, SPP_ON)
    assert (found.outcome, found.qualification) == (outcome, qualification)
    assert found.reason == {Outcome.SPP: SPP_EVENT, Outcome.VIOLATION: EPT_VIOLATION}.get(outcome)


def test_sub_page_permissions_are_for_writes_of_linear_addresses() -> None:
    path = Path(rights={1: R}, extra={1: SPP})
    assert ask(path, to(FETCH), controls=SPP_ON).outcome is Outcome.VIOLATION
    update = to(Op.RMW, Stage.WALK)
    assert ask(path, update, controls=SPP_ON).outcome is Outcome.VIOLATION


def test_a_violation_is_convertible_to_ve_unless_bit_63_of_one_entry_says_no() -> None:
    ve = Controls(ve=True)
    assert ask(Path(rights={1: R}), to(WRITE), controls=ve).outcome is Outcome.VE
    kept = Path(rights={1: R}, extra={1: SVE})
    assert ask(kept, to(WRITE), controls=ve).outcome is Outcome.VIOLATION
    table = Path(rights={1: R}, extra={2: SVE})
    assert ask(table, to(WRITE), controls=ve).outcome is Outcome.VE  # of a table it means nothing
    absent = Path(rights={2: 0}, extra={2: SVE})
    assert ask(absent, to(), controls=ve).outcome is Outcome.VIOLATION
    assert ask(Path(rights={1: W}), to(), controls=ve).outcome is Outcome.MISCONFIG
    delivering = to(WRITE, event_delivery=True)
    assert ask(Path(rights={1: R}), delivering, controls=ve).outcome is Outcome.VIOLATION


def test_a_table_that_cannot_be_read_is_no_exit() -> None:
    class Nothing:
        def read(self, address: int, size: int) -> bytes:
            raise MemoryUnreadable(address, size, "no memory")

    found = predict(Nothing(), Path().eptp, to(), CPU)
    assert (found.outcome, found.reason, found.mask) == (Outcome.UNKNOWN, None, 0)


def test_the_sentence_names_the_entry_and_the_change() -> None:
    found = ask(Path(rights={3: R | X, 1: R | W}), to(WRITE))
    place = f"{Path().place(3):#x}"
    assert found.why == f"the write needs W, which the PDPTE at {place} (0x4005) lacks"
    assert found.change == f"set W in the PDPTE at {place} (0x4005)"


def test_the_change_is_one_that_helps() -> None:
    execute_only = ask(Path(rights={1: X}), to(WRITE))
    assert execute_only.change.startswith("set R+W in the PTE")
    user = ask(Path(rights={1: RWX}), to(FETCH, user=True), MBEC)
    assert user.change.startswith("set XU in the PML4E")
    assert user.why.startswith("the fetch needs XU")
    assert "bit 60" in ask(Path(sss=True), to(WRITE, shadow_stack=True)).why
