# SPDX-License-Identifier: GPL-2.0-or-later
"""What a prediction says of rules that no run has shown, and that it says nothing elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.address import L2Phys
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.exits import PML_FULL
from gdb_nept.judge.ground import Ground
from gdb_nept.judge.oracle import Oracle
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.model import NAMES, model
from gdb_nept.render.prediction import prediction_page
from gdb_nept.render.text import draw
from tests.predict.tables import CPU, PW, RWX, SPP, VGP, Path, R, X, to

BOTH = replace(CPU, paging_write=True, verify_guest_paging=True)
WRITING = replace(CPU, paging_write=True)
NONE = Controls()


def told(
    path: Path, access: Access, cpu: Capabilities = CPU, by: str = "sdm", on: Controls = NONE
) -> tuple[str, ...]:
    return model(by).predict(path.memory, path.eptp, access, cpu, on).never_run


@pytest.mark.parametrize(
    ("path", "access", "cpu", "named"),
    [
        (Path(levels=5), to(), CPU, "EPT of 5 levels"),
        (Path(levels=5, rights={5: R}), to(Op.WRITE), CPU, "EPT of 5 levels"),
        (Path(), Access(L2Phys(1 << 48)), CPU, "an address beyond the width of the EPT walk"),
        (
            Path(rights={1: R}, extra={1: PW}, ad=True),
            to(stage=Stage.WALK),
            WRITING,
            "paging-write",
        ),
        (Path(rights={1: X}, extra={1: PW}), to(), WRITING, "paging-write access"),
        (Path(extra={1: VGP}), to(paging_verified=False), BOTH, "guest-paging verification"),
        (Path(rights={1: 0}), to(asynchronous=True), CPU, "asynchronous"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rule_that_decides_is_named(
    path: Path, access: Access, cpu: Capabilities, named: str
) -> None:
    (only,) = told(path, access, cpu)
    assert named in only


@pytest.mark.parametrize(
    ("path", "access", "cpu"),
    [
        (Path(), to(), CPU),
        (Path(rights={1: R}), to(Op.WRITE), CPU),
        (Path(rights={1: RWX}, extra={1: PW}), to(stage=Stage.WALK), WRITING),  # W suffices
        (Path(extra={1: VGP}), to(paging_verified=False), CPU),  # the controls are off
        (Path(rights={2: 0}, extra={1: VGP}), to(), BOTH),  # the walk ends before the leaf
        (Path(), to(nmi_unblocking=True), CPU),  # no exit
        (Path(rights={1: 0}), to(nmi_unblocking=True), CPU),
    ],
)
def test_what_was_run_is_not_named(path: Path, access: Access, cpu: Capabilities) -> None:
    assert told(path, access, cpu) == ()


def test_nmi_unblocking_was_run_with_every_exit_but_one() -> None:
    full, on = Controls(pml=True, pml_index=512), Controls(sppt_pointer=0x9000)
    path, access = Path(ad=True), to(Op.WRITE, nmi_unblocking=True)
    for by in ("sdm", "kvm-7.2"):
        assert model(by).predict(path.memory, path.eptp, access, CPU, full).reason == PML_FULL
        assert told(path, access, by=by, on=full) == ()
    no_vector = Path(rights={1: R}, extra={1: SPP})
    (only,) = told(no_vector, access, on=on)
    assert "NMI unblocking" in only
    assert told(no_vector, to(Op.WRITE), on=on) == ()


@pytest.mark.parametrize("by", [name for name in NAMES if name != "v2-2012"])
def test_every_model_names_it(by: str) -> None:
    assert told(Path(levels=5), to(), by=by) == ("EPT of 5 levels",)


def test_the_page_and_its_json_tell_it() -> None:
    path = Path(levels=5)
    by = Oracle(Ground(path.memory, path.eptp, CPU, Controls()), model("sdm"), ())
    page = prediction_page(to(), by.physical(to()), by)
    assert "from the manual, never run: EPT of 5 levels" in draw(page).splitlines()
    assert page.data["never_run"] == ["EPT of 5 levels"]
