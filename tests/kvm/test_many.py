# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of a kernel's memory that multiply: each bound is in fields read, not in seconds."""

from __future__ import annotations

import json

import pytest

from gdb_nept.commands.output import Sink
from gdb_nept.commands.vms import vms as vms_command
from gdb_nept.kvm.containers import list_nodes
from gdb_nept.kvm.vms import vms
from gdb_nept.memory.budget import Budget, within
from gdb_nept.render.page import Status
from tests.commands.endless import Here, Many
from tests.kvm.fake import FakeKernel, add_slots, link, new_vcpu, new_vm
from tests.kvm.offsets import debian


def small(fields: int) -> Budget:
    budget = Budget()
    budget.most_fields = fields
    return budget


def test_a_list_of_vms_without_end_is_shown_as_far_as_it_was_looked_at() -> None:
    """The nodes themselves are charged: 65,536 of them are passed over, and the VMs read then."""
    with within(small(70_000)) as budget:
        found = vms(Many())
    assert budget.fields <= budget.most_fields
    assert 10 < len(found.vms) < 200
    assert not any(vm.problems for vm in found.vms)
    assert "not looked at: after 70" in found.unknown
    assert f"VMs {len(found.vms)} to 65535" in found.unknown


def test_a_list_that_alone_is_too_long() -> None:
    kernel = Many()
    with within(small(100)) as budget:
        found = list_nodes(kernel, kernel.symbols.address("vm_list"))
    assert len(found.addresses) == 100
    assert "breaks off: not looked at: after 100 fields" in found.problem
    assert budget.fields == 100


def two(slots: int, vcpus: int) -> FakeKernel:
    kernel = FakeKernel(debian())
    made = [new_vm(kernel, [new_vcpu(kernel, n) for n in range(vcpus)]) for _ in range(2)]
    for vm in made:
        add_slots(kernel, vm, [(n, n << 24, 1 << 24, n << 30) for n in range(slots)])
    head = kernel.symbols.addresses["vm_list"] = kernel.allocate(16)
    link(kernel, head, [vm.member("vm_list").address for vm in made])
    return kernel


@pytest.mark.parametrize(
    ("slots", "vcpus", "fields", "said"),
    [(200, 2, 900, "memslots are not looked at"), (2, 60, 1500, "vCPUs are not looked at")],
)
def test_of_the_only_vm_a_part_is_shown(slots: int, vcpus: int, fields: int, said: str) -> None:
    with within(small(fields)) as budget:
        found = vms(two(slots, vcpus))
    assert budget.fields <= fields
    assert len(found.vms) == 1
    assert said in " ".join(found.vms[0].problems)
    assert len(found.vms[0].problems) < 8
    assert "VMs 1 to 1 (1) not looked at" in found.unknown


def test_the_command_ends_with_incomplete_and_with_what_it_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gdb_nept.memory.budget.FIELDS", 70_000)
    for words in ([], ["--json"]):
        written: list[str] = []
        status = vms_command.write_answer(Here(), [*words, "--limit", "1"], Sink(written.append))
        shown = "".join(written)
        assert status is Status.INCOMPLETE
        assert "--limit 4480000 for more" in " ".join(shown.split())
        if words:
            told = json.loads(shown)
            assert len(told["vms"]) > 10
            assert told["incomplete"].startswith("after 70000 fields of structures")


def test_more_is_seen_with_the_limit_that_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read in part before is read anew."""
    monkeypatch.setattr("gdb_nept.memory.budget.FIELDS", 66_000)
    here, counts = Here(), []
    for limit in ("1", str(16 * 68_000)):
        written: list[str] = []
        vms_command.write_answer(here, ["--json", "--limit", limit], Sink(written.append))
        counts.append(len(json.loads("".join(written))["vms"]))
    assert counts[0] < counts[1]
