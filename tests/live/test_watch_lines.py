# SPDX-License-Identifier: GPL-2.0-or-later
"""What a watch shows of each fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.address import L2Phys
from gdb_nept.live.watch import Event, Reflected
from gdb_nept.render.check import verdict
from gdb_nept.render.fault import (
    UNNAMED,
    WIDTHS,
    causes_of,
    cells_of,
    columns,
    like_others,
)
from gdb_nept.render.watch import Tally, heading, watch_page
from tests.live.scene import STACK, Scene

pytestmark = pytest.mark.bochs


def test_in_what_a_fault_differs_is_told_once_a_cause(scene: Scene) -> None:
    scene.see(0x182)
    place, registers, _ = scene.left(STACK)
    one = scene.vmcs12.field("exit_qualification")

    def written() -> None:
        scene.written()
        scene.place((scene.vmcs12.address or 0) + one.offset, one.size, 0x182)

    begins = (scene.inject, scene.call(STACK), scene.poison)
    (event,) = scene.watch(scene.debugger(begins, (place, registers, written)))
    tally = Tally()
    first, second = tally.take(event), tally.take(event)
    assert "DIFFER [a]" in first
    assert " ".join(verdict_words(event).split()) in " ".join(first.split())
    assert second.endswith("DIFFER [a]")
    assert len(second.splitlines()) == 1
    page = watch_page(tally, (), "kvm", "ended")
    assert page.blocks[0] == "2 faults watched, 2 differ; ended"


def verdict_words(event: Event) -> str:
    assert isinstance(event, Reflected)
    return verdict(event.check)


def test_what_no_bug_explains_is_told_once_as_well(scene: Scene) -> None:
    """As often as L2 makes the same access again, at whatever address."""
    event = differing(scene, 0x8)
    tally = Tally()
    first, second = tally.take(event), tally.take(event)
    assert UNNAMED in " ".join(first.split())
    assert " ".join(verdict_words(event).split()) in " ".join(first.split())
    assert second.endswith("DIFFER [a]")
    assert len(second.splitlines()) == 1
    elsewhere = replace(event, gpa=L2Phys(0x7000))
    (cause,) = causes_of(event)
    assert cause.startswith(f"{UNNAMED}: differ: no access to (address) leads to this")
    assert "bits 0x8 of" in cause, "which bits differ is of the cause"
    assert "0x7000" not in like_others(elsewhere)
    third = tally.take(differing(scene, 0x20))
    assert third.splitlines()[0].endswith("DIFFER [b]"), "other bits are another cause"
    assert len(third.splitlines()) > 2


def differing(scene: Scene, bits: int) -> Reflected:
    """An exit of which KVM tells a qualification that nothing known leads to."""
    place, registers, _ = scene.left(STACK)
    one = scene.vmcs12.field("exit_qualification")

    def written() -> None:
        scene.written()
        scene.place((scene.vmcs12.address or 0) + one.offset, one.size, one.value ^ bits)

    begins = (scene.inject, scene.call(STACK), scene.poison)
    (event,) = scene.watch(scene.debugger(begins, (place, registers, written)))
    assert isinstance(event, Reflected)
    return event


@pytest.mark.parametrize("width", [80, 99, 100, 120])
def test_its_lines_fit_the_terminal(scene: Scene, width: int) -> None:
    event, tally = differing(scene, 0x8), Tally(width=width)
    lines = [*heading((), "kvm@bochs-2.7", None, width).splitlines()]
    lines += tally.take(event).splitlines()
    assert max(map(len, lines)) <= width
    assert ("L2 linear" in lines[1]) == (width >= 100)
    assert lines[1].index("verdict") == lines[3].index("DIFFER")
    widest = cells_of(9999, event)
    assert len(widest) == len(WIDTHS)
    full = tuple("x" * each for each in WIDTHS)
    assert len(columns(full, width) + "  agree, not SDM [ab]") <= width
