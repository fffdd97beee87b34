# SPDX-License-Identifier: GPL-2.0-or-later
"""The edges of the SDM's rules: what one condition more or less changes.

SDM vol. 3, June 2026 (325384-092): 28.5.8.1, 30.2.1, 30.2.3, 31.3.3 to 31.3.6.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.arch.ept import ENTRY_SIZE, index
from gdb_nept.arch.exits import PML_FULL, SPP_EVENT
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.model import model
from gdb_nept.predict.outcome import Outcome, Prediction
from tests.predict.tables import (
    CPU,
    GLA,
    GPA,
    LINEAR,
    PW,
    RWX,
    SPP,
    SSS,
    SVE,
    VGP,
    A,
    D,
    Path,
    R,
    W,
    X,
    ask,
    to,
    with_cap,
)

NMI, ASYNC = 1 << 12, 1 << 16
FULL = Controls(pml=True, pml_index=512)
BOTH = replace(CPU, paging_write=True, verify_guest_paging=True)
FLAGGED = {4: A, 3: A, 2: A, 1: A | D}


# -- guest-paging verification and paging writes (31.3.3.2) --------------------------------------


@pytest.mark.parametrize(
    ("write", "verify", "refused"),
    [(False, False, False), (True, False, False), (False, True, False), (True, True, True)],
)
def test_verification_needs_both_controls(write: bool, verify: bool, refused: bool) -> None:
    cpu = replace(CPU, paging_write=write, verify_guest_paging=verify)
    found = ask(Path(extra={1: VGP}), to(paging_verified=False), cpu)
    assert (found.outcome is Outcome.VIOLATION) is refused


def test_verification_is_of_the_final_access_alone() -> None:
    walk = to(stage=Stage.WALK, paging_verified=False)
    assert ask(Path(extra={1: VGP}), walk, BOTH).outcome is Outcome.TRANSLATED


def test_beside_a_missing_right_bit_15_is_not_claimed() -> None:
    # table 30-7: set if verification caused the violation, and here either can have
    for rights, claimed in ((R, False), (RWX, True)):
        path = Path(rights={1: rights}, extra={1: VGP})
        found = ask(path, to(Op.WRITE, paging_verified=False), BOTH)
        assert bool(found.mask & 0x8000) is claimed
        assert bool(found.qualification & 0x8000) is claimed


@pytest.mark.parametrize(
    ("rights", "outcome"),
    [(R, Outcome.VIOLATION), (X, Outcome.MISCONFIG), (0, Outcome.VIOLATION)],
)
def test_paging_write_without_r_is_a_misconfiguration_if_present(
    rights: int, outcome: Outcome
) -> None:
    path = Path(rights={1: rights}, extra={1: PW})
    assert ask(path, to(Op.WRITE), BOTH).outcome is outcome


# -- the page-modification log (31.3.6) ----------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "op", "stage", "full"),
    [
        (FLAGGED, Op.WRITE, Stage.FINAL, False),
        (FLAGGED | {2: 0}, Op.READ, Stage.FINAL, True),
        (FLAGGED | {1: D}, Op.READ, Stage.FINAL, True),
        (FLAGGED | {1: A}, Op.READ, Stage.FINAL, False),
        (FLAGGED | {1: A}, Op.WRITE, Stage.FINAL, True),
        (FLAGGED | {1: A}, Op.READ, Stage.WALK, True),
        (FLAGGED | {1: A}, Op.READ, Stage.PDPTE, False),
        (FLAGGED | {1: D}, Op.READ, Stage.PDPTE, True),
    ],
)
def test_when_a_full_log_is_looked_at(
    flags: dict[int, int], op: Op, stage: Stage, full: bool
) -> None:
    found = ask(Path(ad=True, extra=flags), to(op, stage), controls=FULL)
    assert found.reason == (PML_FULL if full else None)
    assert found.mask == ((NMI | ASYNC) if full else 0)


@pytest.mark.parametrize("number", [0, 511, 512, 0xFFFF])
def test_the_log_is_full_beyond_511(number: int) -> None:
    found = ask(Path(ad=True), to(Op.WRITE), controls=Controls(pml=True, pml_index=number))
    assert (found.outcome is Outcome.PML_FULL) is (number > 511)


def test_a_missing_right_comes_before_a_full_log() -> None:
    found = ask(Path(ad=True, rights={1: R}), to(Op.WRITE), controls=FULL)
    assert found.outcome is Outcome.VIOLATION


# -- sub-page permissions (31.3.4) ---------------------------------------------------------------


def sub_page(vector: int, access: Access, path: Path, controls: Controls) -> Prediction[L1Phys]:
    """With an SPP table at 0x9000 that leads to `vector`."""
    words, table = dict(path.words), 0x9000
    for level in (4, 3, 2):
        words[table + index(GPA, level) * ENTRY_SIZE] = (table + 0x1000) | 1
        table += 0x1000
    words[table + index(GPA, 1) * ENTRY_SIZE] = vector
    memory = SparseMemory[L1Phys](words)
    return model("sdm").predict(memory, path.eptp, access, CPU, controls)


def test_a_write_that_a_sub_page_permits_sets_the_dirty_flag() -> None:
    for flags, reason in ((FLAGGED | {1: A}, PML_FULL), (FLAGGED, None), (FLAGGED | {1: D}, 62)):
        path = Path(ad=True, rights={1: R}, extra={**flags, 1: flags[1] | SPP})
        full = Controls(pml=True, pml_index=0xFFFF, sppt_pointer=0x9000)
        assert sub_page((1 << 64) // 3, to(Op.WRITE), path, full).reason == reason
        room = replace(full, pml_index=511)
        assert sub_page((1 << 64) // 3, to(Op.WRITE), path, room).outcome is Outcome.TRANSLATED


def test_a_write_that_no_sub_page_permits_logs_nothing() -> None:
    path = Path(ad=True, rights={1: R}, extra={1: SPP})
    full = Controls(pml=True, pml_index=512, sppt_pointer=0x9000)
    assert sub_page(0, to(Op.WRITE), path, full).outcome is Outcome.VIOLATION
    assert sub_page(2, to(Op.WRITE), path, full).reason == SPP_EVENT


def test_shadow_stack_pages_have_no_sub_pages() -> None:
    path = Path(sss=True, rights={1: R}, extra={1: SPP})  # refused by bit 60
    on = Controls(sppt_pointer=0x9000)
    access = to(Op.WRITE, shadow_stack=True)
    assert sub_page((1 << 64) // 3, access, path, on).outcome is Outcome.VIOLATION
    user = to(Op.WRITE, shadow_stack=True, user=True)
    assert sub_page((1 << 64) // 3, user, path, on).outcome is Outcome.TRANSLATED


@pytest.mark.parametrize(("pointer", "refused"), [(0x9000, False), (0x9008, True), (1 << 39, True)])
def test_the_pointer_to_the_sub_pages_is_checked_at_entry(pointer: int, refused: bool) -> None:
    found = model("sdm").refuses(Path().eptp, CPU, Controls(sppt_pointer=pointer))
    assert bool(found) is refused


# -- bits 12 and 16, and accesses with no linear address (30.2.1, 30.2.3) -------------------------


@pytest.mark.parametrize(
    ("exiting", "virtual", "delivery", "told"),
    [
        (False, False, False, True),
        (True, False, False, False),
        (True, True, False, True),
        (False, False, True, False),
        (True, True, True, False),
    ],
)
def test_when_bit_12_is_defined(exiting: bool, virtual: bool, delivery: bool, told: bool) -> None:
    access = to(Op.WRITE, nmi_unblocking=True, event_delivery=delivery)
    controls = Controls(
        pml=True, pml_index=512, nmi_exiting=exiting, virtual_nmis=virtual, sppt_pointer=0x9000
    )
    for path in (
        Path(ad=True, rights={1: 0}),  # a violation
        Path(ad=True),  # a full log
        Path(ad=True, rights={1: R}, extra={1: SPP}),  # an SPP miss
    ):
        found = ask(path, access, controls=controls)
        assert bool(found.mask & NMI) is told
        assert bool(found.qualification & found.mask & NMI) is told


def test_bit_16_is_told_of_a_full_log_and_of_sub_pages_too() -> None:
    access = to(Op.WRITE, asynchronous=True)
    on = Controls(pml=True, pml_index=512, sppt_pointer=0x9000)
    for path in (Path(ad=True), Path(rights={1: R}, extra={1: SPP}), Path(rights={1: R})):
        found = ask(path, access, controls=on)
        assert found.reason
        assert found.qualification & found.mask & ASYNC


def test_an_asynchronous_access_may_have_no_linear_address() -> None:
    cpu = with_cap(advanced_exit=1)
    path, access = Path(rights={1: 0}), to(Op.WRITE, asynchronous=True)
    told = ask(path, access, cpu)
    assert told.qualification & told.mask & LINEAR == LINEAR
    untold = ask(path, replace(access, gla=None), cpu)
    assert not untold.mask & (LINEAR | 0xE00)
    assert untold.qualification & untold.mask == ASYNC | 2


def test_bits_11_to_9_without_paging() -> None:
    cpu = with_cap(advanced_exit=1)
    found = ask(Path(rights={1: R}), replace(to(Op.WRITE), unpaged=True), cpu)
    assert (found.qualification & 0xE00, found.mask & 0xE00) == (0x600, 0xE00)


def test_without_paging_each_linear_address_is_a_user_mode_one() -> None:
    mbec = replace(CPU, mbec=True)
    for rights, outcome in ((R | X, Outcome.VIOLATION), (R | 1 << 10, Outcome.TRANSLATED)):
        path = Path(rights=dict.fromkeys((4, 3, 2), RWX | 1 << 10) | {1: rights})
        fetch = replace(to(Op.FETCH), unpaged=True)
        assert ask(path, fetch, mbec).outcome is outcome


# -- virtualization exceptions (28.5.8.1) --------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "controls", "converted"),
    [
        (to(Op.WRITE), Controls(ve=True), True),
        (to(Op.WRITE), Controls(), False),
        (to(Op.WRITE), Controls(ve=True, ve_busy=True), False),
        (to(Op.WRITE, event_delivery=True), Controls(ve=True), False),
        (to(Op.WRITE, asynchronous=True), Controls(ve=True), False),
        (to(Op.WRITE, real_mode=True), Controls(ve=True), False),
    ],
)
def test_what_stands_against_a_virtualization_exception(
    access: Access, controls: Controls, converted: bool
) -> None:
    for rights in (0, R):
        found = ask(Path(rights={1: rights}), access, controls=controls)
        assert found.outcome is (Outcome.VE if converted else Outcome.VIOLATION)


def test_bit_63_counts_in_the_last_entry_alone() -> None:
    on = Controls(ve=True)
    assert ask(Path(rights={1: 0}, extra={2: SVE}), to(), controls=on).outcome is Outcome.VE
    assert ask(Path(rights={1: R}, extra={1: SVE}), to(Op.WRITE), controls=on).reason == 48
    assert ask(Path(rights={2: 0}, extra={2: SVE}), to(), controls=on).reason == 48
    assert ask(Path(rights={1: W}), to(), controls=on).outcome is Outcome.MISCONFIG
    beyond = Access(L2Phys(GPA | 1 << 48), gla=L2Virt(GLA))
    assert ask(Path(), beyond, controls=on).outcome is Outcome.VIOLATION  # no entry was used


# -- supervisor shadow stacks (31.3.3.2) ---------------------------------------------------------


def test_a_walk_for_a_shadow_stack_access_is_none_itself() -> None:
    path = Path(sss=True, rights={1: R | W}, extra={1: 0})
    walk = to(stage=Stage.WALK, shadow_stack=True)
    assert ask(path, walk).outcome is Outcome.TRANSLATED
    hole = ask(Path(sss=True, rights={1: 0}), walk)
    assert not hole.qualification & 1 << 13
    final = ask(Path(sss=True, rights={1: 0}), to(shadow_stack=True))
    assert final.qualification & 1 << 13


@pytest.mark.parametrize(
    ("rights", "bit_60", "allowed"),
    [
        ({1: R}, True, True),
        ({1: R | W}, False, False),
        ({1: X}, True, False),
        ({2: R | X}, True, False),
        ({2: RWX}, True, True),
    ],
)
def test_what_a_supervisor_shadow_stack_access_needs(
    rights: dict[int, int], bit_60: bool, allowed: bool
) -> None:
    path = Path(sss=True, rights=rights, extra={1: SSS if bit_60 else 0})
    for op in (Op.READ, Op.WRITE):
        found = ask(path, to(op, shadow_stack=True))
        assert (found.outcome is Outcome.TRANSLATED) is allowed
        user = ask(path, to(op, shadow_stack=True, user=True))
        plain = ask(path, to(op))
        assert user.outcome is plain.outcome
