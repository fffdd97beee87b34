# SPDX-License-Identifier: GPL-2.0-or-later
"""Accesses at linear addresses, over an L2 whose every table is one page of made-up memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.address import L1Phys, L2Virt
from gdb_nept.arch.ept import Eptp
from gdb_nept.errors import BadInput
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.predict.access import Controls, Op
from gdb_nept.predict.linear import LinearAccess, LinearPrediction, predict_linear
from gdb_nept.predict.model import model
from gdb_nept.predict.outcome import Outcome
from gdb_nept.walk.guest_paging import Cr0, Cr4, Efer, GuestPaging
from tests.predict.tables import CPU, LARGE, RWX, WB

PG, PAE, LMA, NXE, NX = 1 << 31, 1 << 5, 1 << 10, 1 << 11, 1 << 63
LAM_U57 = 1 << 61
FLAGS, LEAF = 0x63, 0xE3  # present, writable, accessed, dirty; and of a large page
ROOT, TABLE, GUEST_ROOT, GUEST_TABLE = 0x1000, 0x2000, 0x10000, 0x11000
EPTP = Eptp(ROOT | 3 << 3 | 6)

#: EPT12 maps the first GiB to itself; L2's tables map its first and its last GiB to the first.
WORDS = {
    ROOT: TABLE | RWX,
    TABLE: RWX | WB | LARGE,
    GUEST_ROOT: GUEST_TABLE | FLAGS,
    GUEST_ROOT + 511 * 8: GUEST_TABLE | FLAGS,
    GUEST_TABLE: LEAF,
    GUEST_TABLE + 511 * 8: LEAF | NX,
}
LONG = GuestPaging(Cr0(PG), GUEST_ROOT, Cr4(PAE), Efer(LMA | NXE), 39)


def predicted(
    linear: int,
    size: int = 1,
    op: Op = Op.READ,
    paging: GuestPaging = LONG,
    by: str = "sdm",
    words: dict[int, int] = WORDS,
    **more: bool,
) -> LinearPrediction:
    memory: SparseMemory[L1Phys] = SparseMemory(words)
    access = LinearAccess(L2Virt(linear), size, op, **more)
    return predict_linear(memory, EPTP, access, paging, CPU, Controls(), model(by))


@pytest.mark.parametrize("linear", [0x8000_0000_0000, 0x1234_5678_9ABC_DEF0, 0xFFF0_0000_0000_0000])
@pytest.mark.parametrize("op", list(Op))
def test_an_address_that_is_not_canonical_is_refused_before_any_walk(linear: int, op: Op) -> None:
    found = predicted(linear, op=op)
    assert found.outcome is Outcome.GENERAL_PROTECTION
    assert (found.access, found.prediction, found.fault, found.before) == (None, None, None, ())
    assert "not canonical with L2's 4-level paging" in found.refused


def test_an_access_over_the_end_of_the_lower_half_is_refused_whole() -> None:
    found = predicted(0x7FFF_FFFF_FFFC, size=8)
    assert (found.outcome, found.linear) == (Outcome.GENERAL_PROTECTION, 0x8000_0000_0003)
    assert found.before == ()


def test_an_access_over_the_end_of_the_upper_half_comes_back_to_the_first_page() -> None:
    found = predicted((1 << 64) - 4, size=8)
    assert found.outcome is Outcome.TRANSLATED
    assert found.prediction is not None
    assert found.prediction.hpa == 0
    assert [access.gpa for access in found.before][2] == 0x3FFF_FFFC


def test_a_tagged_pointer_is_translated_without_its_tag() -> None:
    tag = 0x15 << 57
    assert predicted(tag | 0x1234).outcome is Outcome.GENERAL_PROTECTION
    masking = GuestPaging(LONG.cr0, GUEST_ROOT | LAM_U57, LONG.cr4, LONG.efer, 39)
    found = predicted(tag | 0x1234, paging=masking)
    assert (found.outcome, found.linear) == (Outcome.TRANSLATED, 0x1234)
    assert found.prediction is not None
    assert found.prediction.hpa == 0x1234
    assert predicted(tag | 0x1234, op=Op.FETCH, paging=masking).refused


def test_masking_that_no_run_has_shown_is_told_where_it_decides() -> None:
    tagged, paging = 0x15 << 57, replace(LONG, cr3=GUEST_ROOT | LAM_U57)
    found = predicted(tagged | 0x1234, paging=paging)
    assert found.prediction is not None
    assert found.prediction.never_run == ("linear-address masking",)
    refused = predicted(tagged | 0x1234, op=Op.FETCH, paging=paging)  # that it does not apply
    assert refused.never_run == ("linear-address masking",)
    for plain in (predicted(0x1234, paging=paging), predicted(tagged | 0x1234)):
        assert plain.never_run == ()
        assert plain.prediction is None or plain.prediction.never_run == ()
    absent = predicted(tagged | 0x4000_0000, paging=paging)
    assert (absent.outcome, absent.never_run) == (Outcome.PAGE_FAULT, ("linear-address masking",))


def test_what_lass_refuses_is_refused_before_any_walk() -> None:
    """Of an access over the end of a half, the byte that lies in the other one."""
    lass = replace(LONG, cr4=Cr4(LONG.cr4.value | 1 << 27))
    found = predicted(0x1234, op=Op.FETCH, paging=lass)
    assert (found.outcome, found.steps) == (Outcome.GENERAL_PROTECTION, ())
    assert "LASS" in found.refused
    assert predicted(0x1234, paging=lass).outcome is Outcome.TRANSLATED  # without SMAP
    over = predicted((1 << 64) - 4, size=8, op=Op.FETCH, paging=lass)
    assert (over.outcome, over.linear) == (Outcome.GENERAL_PROTECTION, 3)


def test_no_address_beyond_4_gib_outside_ia_32e_mode() -> None:
    narrow = GuestPaging(Cr0(0), 0, Cr4(0), Efer(0), 39)
    with pytest.raises(BadInput, match="32 bits"):
        predicted(1 << 32, paging=narrow)
    assert predicted(0x1234, paging=narrow).outcome is Outcome.TRANSLATED


# -- processors that judge L2's own tables otherwise (tests/modes has seen them do so) -----------

USER = {**WORDS, GUEST_ROOT: WORDS[GUEST_ROOT] | 4, GUEST_TABLE: LEAF | 4 | 5 << 59}


@pytest.mark.parametrize("user", [False, True])
def test_ac_lifts_smap_for_implicit_accesses_on_bochs_alone(user: bool) -> None:
    smap = replace(LONG, cr4=Cr4(PAE | 1 << 21), ac=True)
    for by, outcome in (
        ("sdm", Outcome.PAGE_FAULT),
        ("kvm-6.1", Outcome.PAGE_FAULT),
        ("bochs-2.7", Outcome.TRANSLATED),
        ("kvm-6.1@bochs-2.7", Outcome.TRANSLATED),
    ):
        found = predicted(0x1234, paging=smap, by=by, words=USER, user=user, implicit=True)
        assert found.outcome is outcome
        own = ("IMPLICIT_LIFTED_BY_AC",) if outcome is Outcome.TRANSLATED else ()
        assert found.rules == own
        assert not own or (found.prediction and found.prediction.rules == own)


@pytest.mark.parametrize(
    ("words", "user", "pkru", "pkrs", "code", "on_bochs"),
    [
        (USER, True, 1, 0, 0x25, 0x25),
        (USER, False, 1, 0, 0x21, None),  # access-disable: of user-mode accesses alone
        (USER, False, 0, 1, None, 0x21),  # IA32_PKRS for a user page
        ({**USER, GUEST_TABLE: LEAF | 5 << 59}, True, 1, 0, 5, 0x25),  # PKRU for a supervisor page
        ({**USER, GUEST_TABLE: LEAF | 5 << 59}, False, 0, 1, 0x21, 0x21),
    ],
)
def test_keys_go_by_the_access_on_bochs_3(
    words: dict[int, int],
    user: bool,
    pkru: int,
    pkrs: int,
    code: int | None,
    on_bochs: int | None,
) -> None:
    keys = replace(LONG, cr4=Cr4(PAE | 5 << 22), pkru=pkru << 10, pkrs=pkrs << 10)
    for by, wanted in (("sdm", code), ("bochs-3.0", on_bochs)):
        found = predicted(0x1234, paging=keys, by=by, words=words, user=user)
        fault = found.fault
        assert (fault.code.value if fault else None) == wanted
        departs = by != "sdm" and wanted != code
        assert found.rules == (("KEYS_BY_ACCESS",) if departs else ())
