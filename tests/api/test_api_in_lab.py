# SPDX-License-Identifier: GPL-2.0-or-later
"""The API on a lab snapshot, against the commands' own way and against the raw image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gdb_nept
from gdb_nept import Access, L1Phys, L2Phys, Op
from gdb_nept.examples import rights, shadow, sizes, stuck, triage
from gdb_nept.judge.check import Finding
from gdb_nept.predict.outcome import Outcome
from tests.conftest import facts

pytestmark = pytest.mark.bochs


def test_vms_and_memslots_are_those_that_the_vmm_made(snapshot: Path) -> None:
    with gdb_nept.open_dump(snapshot / "memory.raw") as target:
        made = facts(snapshot, "vm")
        assert "amd64" in target.release
        assert len(made) == 3
        for number, (vm, line) in enumerate(zip(target.vms(), facts_lines(snapshot))):
            assert (vm.number, vm.pid, len(vm.vcpus)) == (number, line["pid"], len(line["vcpus"]))
            assert [f"{slot.start:#x}" for slot in vm.slots] == [
                slot["gpa"] for slot in line["slots"]
            ]
        nested = [vcpu for vm in target.vms() for vcpu in vm.vcpus if vcpu.nested]
        assert len(nested) == 1
        assert nested[0].l2_active


def facts_lines(snapshot: Path) -> list[dict[str, Any]]:
    """What the VMM printed of each VM that it made."""
    objects = json.loads((snapshot / "facts.json").read_text())
    return [line for line in objects if "vm" in line]


def test_memory_is_read_in_its_space_and_unread_is_a_value(snapshot: Path) -> None:
    with gdb_nept.open_dump(snapshot / "memory.raw") as target:
        vcpu = target.vcpu()
        table = vcpu.ept12
        root = L1Phys(table.eptp.address)
        data = vcpu.memory.read(root, 4096)
        assert isinstance(data, bytes)
        assert len(data) == 4096
        run = next(one for one in table.entries() if isinstance(one, gdb_nept.Run) and not one.stop)
        there, here = vcpu.l2_memory.read(run.start, 64), vcpu.memory.read(run.address, 64)
        assert isinstance(there, bytes)
        assert there == here
        outside = vcpu.memory.read(L1Phys(1 << 51), 8)
        assert isinstance(outside, gdb_nept.Unread)
        assert "memslot" in outside.why


def test_pages_of_l1_are_streamed_in_order(snapshot: Path) -> None:
    with gdb_nept.open_dump(snapshot / "memory.raw") as target:
        end, found = 0, set()
        for piece in target.vcpu().memory.pages():
            assert piece.start >= end
            end = piece.end
            found.add(type(piece))
        assert gdb_nept.Pages in found


def test_walk_predict_and_check_are_the_commands(exit_snapshot: Path) -> None:
    with gdb_nept.open_dump(exit_snapshot / "memory.raw") as target:
        vcpu = target.vcpu()
        check = vcpu.check("kvm@bochs-2.7")
        assert check.finding is Finding.AGREE
        gpa = check.place.gpa
        walked = vcpu.walk(gpa)
        assert walked.journey.asked == gpa
        assert walked.l1 == vcpu.ept12.walk(gpa).address
        found = {op: vcpu.predict(Access(gpa, op)).outcome for op in Op}
        assert set(found.values()) & {Outcome.VIOLATION, Outcome.MISCONFIG}
        with pytest.raises(gdb_nept.BadInput):
            vcpu.walk(L2Phys(1 << 60))


def test_the_examples(plain_snapshot: Path, exit_snapshot: Path) -> None:
    with gdb_nept.open_dump(plain_snapshot / "memory.raw") as target:
        line = triage.triage(target)
        assert "Linux " in line
        assert "runs L2" in line
        assert any("writable and executable" in line for line in rights.rights(target.vcpu()))
        assert any(line.startswith("agree: ") for line in shadow.shadow(target.vcpu()))
        told = "\n".join(sizes.sizes(target))
        assert "shadow pages" in told
        assert "ept12: " in told
        assert "of 4K" in told
    with gdb_nept.open_dump(exit_snapshot / "memory.raw") as target:
        lines = list(stuck.stuck(target.vcpu()))
        assert lines[0].startswith("last exit that L1 saw: EPT")
        assert sum("must end in" in line for line in lines) == len(Op)
