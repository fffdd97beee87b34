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
    FETCH,
    GLA,
    GPA,
    LINEAR,
    MBEC,
    READ,
    RWX,
    SPP,
    SVE,
    WRITE,
    Path,
    R,
    W,
    X,
    ask,
    to,
)

OPS = (READ, WRITE, FETCH)
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
