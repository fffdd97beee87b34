# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers in the place of a qualification: those that a processor writes, and those of 2012."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.address import L1Phys
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.predict.access import Controls, Op, Stage
from gdb_nept.predict.model import model
from gdb_nept.predict.outcome import Outcome
from gdb_nept.predict.recognise import error_code, impossible, in_words, written_by_kvm
from tests.predict.tables import CPU, RWX, TABLES, Path, R, W, X, ask, to


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0x0, "bits 2:0 are 0"),
        (0x2, "bit 7 is clear"),
        (0x3, "bit 7 is clear"),
        (0x6, "a fetch together with data"),
        (0x9, "allow the very access"),
        (0xB, "bit 7 is clear"),
        (0x11, "W without R"),
        (0x185, "a fetch together with data"),
        (0x101, "bit 8 says more"),
        (0x19B, "allow the very access"),
        (0x10004, "bit 7 is clear"),
        (0x10100 | 2, "bit 8 says more"),
        (0x84, "not fetched"),
        (0x8C, "not fetched"),
        (0x2184, "which is no fetch"),
    ],
)
def test_what_no_processor_writes(value: int, says: str) -> None:
    assert any(says in reason for reason in impossible(value))


@pytest.mark.parametrize("op", Op)
@pytest.mark.parametrize("stage", Stage)
def test_every_prediction_of_the_sdm_is_possible(op: Op, stage: Stage) -> None:
    for rights in (0, R, R | W, R | X, X, RWX):
        for ad in (False, True):
            found = ask(Path(rights={1: rights}, ad=ad), to(op, stage))
            if found.outcome is Outcome.VIOLATION:
                assert impossible(found.qualification) == ()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0x0, "read, an entry is not present"),
        (0x2, "write, an entry is not present"),
        (0x3, "write, a right is missing"),
        (0x1, "read (or fetch"),
        (0x11, "fetch, a right is missing"),
        (0x9, "a reserved bit is set"),
        (0xB, "write, a reserved bit is set"),
        (0x6, "write, an entry is not present"),
    ],
)
def test_error_codes_of_2012_are_recognised(value: int, says: str) -> None:
    assert says in error_code(value)
    assert "v2-2012" in error_code(value)


@pytest.mark.parametrize("value", [0x8, 0xA, 0xC, 0x12, 0x13, 0x1A, 0x21, 0x1000])
def test_what_the_series_never_wrote_is_not_taken_for_its_code(value: int) -> None:
    assert error_code(value) == ""


def test_the_codes_recognised_are_those_that_the_model_gives_over_some_tables() -> None:
    given = set()
    # W alone is misconfigured
    paths = [Path(rights={1: rights}) for rights in (0, R, R | W, R | X, X, RWX, W)]
    for path in paths:
        for op in Op:
            for emulated in (False, True):
                found = ask(path, replace(to(op), emulated=emulated), by="v2-2012")
                if found.outcome is Outcome.VIOLATION:
                    given |= {found.qualification, found.qualification | ~found.mask & 0x1F}
    recognised = {value for value in range(1 << 17) if error_code(value)}
    assert recognised <= given
    assert all(error_code(value) or not impossible(value) for value in given)


@pytest.mark.parametrize("value", [0x181, 0x182, 0x1AA, 0x19C, 0x81, 0x83, 0x21, 0x18A])
def test_qualifications_are_not_taken_for_error_codes(value: int) -> None:
    assert (error_code(value), impossible(value)) == ("", ())


def test_every_code_of_the_2012_model_is_recognised() -> None:
    for rights in (0, R, R | W, R | X, X, RWX):
        for op in (Op.READ, Op.WRITE, Op.FETCH):
            found = ask(Path(rights={1: rights}), to(op), by="v2-2012")
            if found.outcome is Outcome.VIOLATION:
                assert error_code(found.qualification)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0x1B9, "in no memslot"),
        (0xBB, "in no memslot"),
        (0x189, "in no memslot"),
        (0x1FC, "in no memslot"),
        (0x185, "instruction emulator"),
        (0x180, "EPT misconfiguration"),
        (0x1B4, "before 4.12"),
        (0x186, ""),  # a fetch and a write: nobody
        (0x0, ""),
        (0x1, ""),
        (0x111, ""),
        (0x1001B9, ""),  # KVM writes none of the bits from 12 on
    ],
)
def test_what_a_kvm_writes_and_no_processor_does(value: int, says: str) -> None:
    assert says in written_by_kvm(value)
    assert bool(written_by_kvm(value)) is bool(says)


def test_what_the_models_of_kvm_make_of_a_missing_table_is_recognised() -> None:
    path = Path()
    for op in (Op.READ, Op.WRITE):
        for by in ("kvm-5.10", "kvm-6.1", "kvm-7.2"):
            missing = SparseMemory[L1Phys](path.words, ((TABLES[1], TABLES[1] + 0x1000),))
            found = model(by).predict(missing, path.eptp, to(op), CPU, Controls())
            assert found.outcome is Outcome.VIOLATION
            assert "in no memslot" in written_by_kvm(found.qualification)


@pytest.mark.parametrize("value", [0x10002, 0x10001, 0x10012 & ~0x10, 0x10182])
def test_asynchronous_accesses_may_lack_a_linear_address(value: int) -> None:
    assert impossible(value) == ()
    assert "PEBS" in in_words(value) or "asynchronous" in in_words(value)


def test_in_words() -> None:
    assert in_words(0x1AA) == (
        "a data write at the translation of a linear address; the entries used allow R-X"
    )
    assert "guest paging-structure entry" in in_words(0x83)
    assert "PDPTE" in in_words(0x1)
    assert "user-mode fetch" in in_words(0x1BC)
    assert "user-mode fetch" not in in_words(0x19C)
