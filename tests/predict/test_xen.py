# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen as L0, as xen/arch/x86/mm/hap/nested_ept.c and hvm/vmx/vvmx.c say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.arch.ept import Eptp
from gdb_nept.arch.exits import EPT_MISCONFIGURATION, EPT_VIOLATION
from gdb_nept.errors import NoMemory
from gdb_nept.predict.access import Controls, Op, Stage
from gdb_nept.predict.model import model
from gdb_nept.predict.outcome import Outcome
from tests.predict.tables import CPU, GLA, GPA, XU, Path, R, W, X, ask, to, with_cap

WHOLE = (1 << 64) - 1
OWN = WHOLE & ~0xFFFFFFC0  # nept_translate_l2ga(): (exit_qual & 0xffffffc0) | rights << 3 | kind


def test_bits_31_to_6_are_the_processors() -> None:
    path = Path(rights={1: R | X})
    found = ask(path, to(Op.WRITE), by="xen")
    assert (found.reason, found.qualification) == (EPT_VIOLATION, 0x183 | (R | X) << 3)
    assert found.mask == OWN | 0x180
    assert (found.gpa, found.gla) == (GPA, GLA)
    seen = ask(path, replace(to(Op.WRITE), raw=0xDEAD_1F92), by="xen")
    assert (seen.qualification, seen.mask) == (0xDEAD_1F80 | 3 | (R | X) << 3, WHOLE)
    irets = ask(path, to(Op.WRITE, nmi_unblocking=True), by="xen")
    assert (irets.qualification & 0x1000, irets.mask & 0x1000) == (0x1000, 0x1000)


def test_every_write_is_a_read_too() -> None:
    # ept_handle_violation(): .read_access = read || write
    for op, kind in ((Op.READ, 1), (Op.WRITE, 3), (Op.RMW, 3), (Op.FETCH, 4)):
        found = ask(Path(rights={1: 0}), to(op), by="xen")
        assert (found.qualification & 7, found.mask & 7) == (kind, 7)


def test_the_rights_are_those_of_all_entries_or_none() -> None:
    assert ask(Path(rights={3: R, 1: R | W}), to(Op.WRITE), by="xen").qualification & 0x38 == 8
    assert ask(Path(rights={2: 0}), to(), by="xen").qualification & 0x38 == 0


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (Path(rights={1: W}), 49),
        (Path(rights={1: W | X}), 49),
        (Path(extra={1: 1 << 45}), 49),
        (Path(extra={3: 1 << 6}), 49),
        (Path(leaf=2, extra={2: 1 << 13}), 49),
        (Path(extra={1: 1 << 3}), 49),  # memory type 7
        (Path(rights={1: 0}, extra={1: 1 << 45}), 48),  # nept_non_present_check() comes first
        (Path(rights={1: XU}), 48),
        (Path(extra={1: 1 << 10 | 1 << 60}), None),
    ],
)
def test_misconfigured_entries(path: Path, reason: int | None) -> None:
    found = ask(path, to(Op.WRITE), replace(CPU, mbec=True), "xen")
    assert found.reason == reason
    if reason == 49:
        assert (found.qualification, found.mask) == (0, WHOLE)


def test_execute_only_as_it_is_offered() -> None:
    path = Path(rights={1: X})
    assert ask(path, to(Op.FETCH), by="xen").outcome is Outcome.TRANSLATED
    without = with_cap(execute_only=0)
    assert ask(path, to(Op.FETCH), without, "xen").reason == EPT_MISCONFIGURATION


def test_large_pages_are_never_asked_for_in_the_capabilities() -> None:
    cpu = with_cap(page_1g=0, page_2m=0)
    for leaf in (2, 3):
        assert ask(Path(leaf=leaf), to(), cpu, "xen").outcome is Outcome.TRANSLATED


@pytest.mark.parametrize("level", [4, 2])
def test_a_table_that_cannot_be_mapped_is_a_misconfiguration(level: int) -> None:
    path = Path()

    class Without:
        def read(self, address: int, size: int) -> bytes:
            if address >> 12 == path.place(level) >> 12:
                raise NoMemory(address, size, "no page")
            return path.memory.read(address, size)  # type: ignore[arg-type]

    found = model("xen").predict(Without(), path.eptp, to(), CPU, Controls())
    assert (found.reason, found.qualification) == (EPT_MISCONFIGURATION, 0)
    assert found.rules == ("TABLE_IN_NO_MEMORY",)


def test_four_levels_and_no_flags_whatever_the_eptp_says() -> None:
    # nvmx_vcpu_eptp_base(): EPT_POINTER & PAGE_MASK, and nept_walk_tables() starts at level 4
    path = Path(ad=True, rights={1: R})
    walk = to(Op.READ, Stage.WALK)
    assert ask(path, walk, by="sdm").reason == EPT_VIOLATION
    found = ask(path, walk, by="xen")
    assert (found.outcome, found.rules) == (Outcome.TRANSLATED, ("FOUR_LEVELS",))
    five = Eptp(path.eptp.value | 4 << 3)
    there = model("xen").predict(path.memory, five, to(), CPU, Controls())
    assert len(there.walk.steps) == 4
    assert not model("xen").refuses(Eptp(five.value | 1 << 8), CPU, Controls())


def test_controls_that_xen_does_not_offer() -> None:
    for cpu, controls in (
        (replace(CPU, mbec=True), Controls()),
        (CPU, Controls(pml=True)),
        (CPU, Controls(ve=True)),
    ):
        assert "not offered" in model("xen").refuses(Path().eptp, cpu, controls)


def test_an_access_of_xens_emulator_is_no_exit() -> None:
    found = ask(Path(rights={1: 0}), to(Op.WRITE, emulated=True), by="xen")
    assert (found.outcome, found.reason) == (Outcome.L0_INTERNAL, None)


def test_xen_on_a_processor() -> None:
    path, walk = Path(rights={1: R}), to(Op.RMW, Stage.WALK)
    assert ask(path, walk, by="xen").reason == EPT_VIOLATION
    assert ask(path, walk, by="xen@bochs-2.7").outcome is Outcome.TRANSLATED
