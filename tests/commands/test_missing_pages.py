# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit status of every command on a dump without the pages that it would read.

doc/usage.md has them as a table; NEPT_WRITE_DOCUMENTS=1 puts that of today into it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from bochs_lab import snapshot as lab
from bochs_lab.options import LabOptions

from gdb_nept.__main__ import main
from gdb_nept.address import L2Phys
from gdb_nept.commands.catalogue import NAMES
from gdb_nept.memory import dump as dump_module
from gdb_nept.memory.dump import Dump
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.render.page import Status
from tests.commands.test_exit_statuses import ASKED, DOCUMENT
from tests.overlay import Filtered, opened, tables

pytestmark = pytest.mark.bochs

MARK = "<!-- tests/commands/test_missing_pages.py -->\n"
Pages = Callable[[Session, Chosen], "set[int]"]
A = f"{ASKED:#x}"
#: Each command, and what it is asked; HOST, OUT stand for a page of L2's and for a new file.
ASKINGS = (
    *("target", "vms", "vmcs12", "ept", "ept --shadow", "ept --l1", f"walk {A}"),
    *(f"walk --virtual {A}", f"predict {A} --write", f"predict --linear {A}", "check", "regs"),
    *(f"x --l2-physical {A}", f"x {A}", "who HOST", "scan", "compare", "map"),
    *("export --l1 --output OUT", "export --l2 --output OUT"),
)
WITHOUT_A_DUMP = {"decode", "watch", "diff"}


def of_page(session: Session, chosen: Chosen) -> set[int]:
    host = session.journey(chosen, L2Phys(ASKED)).host_physical
    assert host is not None
    return {host // PAGE_SIZE}


def of_ept02(session: Session, chosen: Chosen) -> set[int]:
    return {int(session.ept(chosen, Which.SHADOW).eptp.address) // PAGE_SIZE}


def of_process(session: Session, chosen: Chosen) -> set[int]:
    host = session.journey(chosen, L2Phys(ASKED)).host
    assert host is not None
    return {int(host.steps[-1].table) // PAGE_SIZE}


def of_vmcs12(session: Session, chosen: Chosen) -> set[int]:
    address = session.vmcs12(chosen).address
    assert address is not None
    return {session.kernel.to_physical(address) // PAGE_SIZE}


def of_vcpu(session: Session, chosen: Chosen) -> set[int]:
    return {session.kernel.to_physical(chosen.vcpu.address) // PAGE_SIZE}


def of_vm(session: Session, chosen: Chosen) -> set[int]:
    return {session.kernel.to_physical(chosen.owner.address) // PAGE_SIZE}


def everything(session: Session, chosen: Chosen) -> set[int]:
    return set(range(1 << 20))


LEFT_OUT: dict[str, Pages] = {
    "L2's page": of_page,
    "EPT12": lambda session, chosen: set(tables(session, chosen)),
    "root of EPT02": of_ept02,
    "L1's page table in the host": of_process,
    "KVM's copy of vmcs12": of_vmcs12,
    "`kvm_vcpu`": of_vcpu,
    "`kvm`": of_vm,
    "everything": everything,
}


@pytest.fixture(scope="module")
def path() -> Path:
    return lab.ensure(LabOptions(park="l1-exit")) / "memory.raw"


def test_each_command_ends_as_the_document_says(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    session, chosen = opened(path.parent)
    out = tmp_path / "core"
    host = hex(session.journey(chosen, L2Phys(ASKED)).host_physical or 0)
    found: dict[str, list[str]] = {asking: [] for asking in ASKINGS}
    for pages in LEFT_OUT.values():
        memory = Filtered(RawMemory(path))
        memory.without = pages(*opened(path.parent))
        dump = Dump(path, "raw image", memory)
        monkeypatch.setattr(dump_module, "open_dump", lambda *_, dump=dump: dump)
        for asking, statuses in found.items():
            words = asking.replace("HOST", host).replace("OUT", f"{out} --force").split()
            statuses.append(str(main(["--dump", str(path), *words])))
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    if os.environ.get("NEPT_WRITE_DOCUMENTS"):
        write(found)
    assert documented() == found


def test_every_command_that_a_dump_answers_is_in_the_table() -> None:
    assert {asking.split()[0] for asking in ASKINGS} == set(NAMES) - WITHOUT_A_DUMP
    told = documented()
    assert list(told) == list(ASKINGS)
    by_column = list(zip(*told.values()))
    none = {str(Status.DONE.value), str(Status.DIFFERS.value)}
    assert not none & set(by_column[-1]), "nothing can be answered of nothing"
    for cells in by_column:
        assert str(Status.UNREAD.value) in cells


def documented() -> dict[str, list[str]]:
    table = DOCUMENT.read_text().split(MARK)[1].split("\n\n")[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert not rows or rows[0][1:] == list(LEFT_OUT)
    return {cells[0].strip("`"): cells[1:] for cells in rows[2:]}


def write(found: dict[str, list[str]]) -> None:
    lines = [["left out:", *LEFT_OUT], ["---"] * (len(LEFT_OUT) + 1)]
    lines += [[f"`{asking}`", *statuses] for asking, statuses in found.items()]
    made = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    before, _, after = DOCUMENT.read_text().partition(MARK)
    DOCUMENT.write_text(before + MARK + made + "\n" + after.split("\n\n", 1)[1])
