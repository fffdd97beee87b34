# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit qualification of an EPT violation, bit by bit.

SDM vol. 3, June 2026 (325384-092): table 30-7.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.predict.access import Op, Stage
from gdb_nept.predict.outcome import Outcome
from tests.predict.tables import (
    CPU,
    FETCH,
    LINEAR,
    MBEC,
    PW,
    READ,
    RWX,
    SSS,
    VGP,
    WRITE,
    XU,
    Path,
    R,
    X,
    ask,
    to,
    with_cap,
)


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
