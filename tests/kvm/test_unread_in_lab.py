# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of memory that cannot be read, in the data of nept-vms and nept-vmcs12."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.address import HostPhys, KernelVirt
from gdb_nept.commands.catalogue import command_named
from gdb_nept.commands.output import Sink
from gdb_nept.errors import UnreadKind
from gdb_nept.kvm.dumped_vmcs import dumped_in_words
from gdb_nept.kvm.vms import vm_list
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.memory.taken import Vmcss
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.session import Session
from gdb_nept.render.page import Status
from gdb_nept.target.linux import attach
from tests.conftest import kernel_cache
from tests.fuzz.memory import Here
from tests.overlay import Filtered
from tests.overlay import opened as opened_whole
from tests.schemas import hold

pytestmark = pytest.mark.bochs

KINDS = (UnreadKind.FILTERED, UnreadKind.CUT, UnreadKind.NO_RAM)


class Holed:
    """A host without the pages of what it is asked for."""

    def __init__(self, snapshot: Path) -> None:
        raw: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
        self.memory = Filtered(raw)
        self.kernel = attach(self.memory, ram=raw.size, cache=kernel_cache())
        self.session = Session(self.kernel)
        self.chosen = self.session.pick(None, None)

    def without(self, address: int, kind: UnreadKind) -> None:
        page = self.kernel.to_physical(KernelVirt(address)) // PAGE_SIZE
        self.memory.without, self.memory.kind = {page}, kind
        self.kernel.forget()
        self.session.drop()

    def asked(self, *words: str) -> tuple[Status, Any]:
        command, pieces = command_named(f"nept-{words[0]}"), list[str]()
        assert command is not None
        context = Here(self.kernel, self.session)
        status = command.write_answer(context, [*words[1:], "--json"], Sink(pieces.append))
        answer = json.loads("".join(pieces))
        hold(words[0], answer)
        return status, answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_vcpu(plain_snapshot: Path, kind: UnreadKind) -> None:
    host = Holed(plain_snapshot)
    assert all(not vm["unread"] for vm in host.asked("vms")[1]["vms"])
    host.without(host.chosen.vcpu.address, kind)
    status, answer = host.asked("vms")
    (vm,) = (one for one in answer["vms"] if one["index"] == host.chosen.vm)
    (vcpu,) = vm["vcpus"]
    assert vcpu["unknown_kind"] == kind.value
    assert {one["kind"] for one in vm["unread"]} == {kind.value}
    assert {one["what"] for one in vm["unread"]} <= set(vm["problems"])
    assert status is Status.UNREAD


def test_the_list_of_vms(plain_snapshot: Path) -> None:
    host = Holed(plain_snapshot)
    host.without(vm_list(host.kernel), UnreadKind.CUT)
    _, answer = host.asked("vms")
    assert [one["kind"] for one in answer["unread"]] == ["cut"]
    assert answer["unread"][0]["what"] in answer["notes"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_copy_of_vmcs12(plain_snapshot: Path, kind: UnreadKind) -> None:
    host = Holed(plain_snapshot)
    nested = host.chosen.vcpu.nested
    assert nested is not None
    assert nested.cached_vmcs12 is not None
    status, answer = host.asked("vmcs12")
    assert (answer["unread"], bool(answer["fields"])) == (None, True)
    host.without(nested.cached_vmcs12, kind)
    status, answer = host.asked("vmcs12")
    assert answer["unread"]["kind"] == kind.value
    assert answer["unread"]["what"] in answer["problems"]
    assert (answer["pointer"], answer["fields"]) == (f"{nested.current_vmptr:#x}", [])
    assert status is Status.NOT_FOUND


def of(snapshot: Path) -> tuple[Session, Chosen]:
    return opened_whole(snapshot)


def test_what_kdump_clears(plain_snapshot: Path, exit_snapshot: Path) -> None:
    """L2 runs, or L1 after an exit, with a shadow VMCS."""
    session, chosen = of(plain_snapshot)
    in_l2 = session.vmcs12(chosen)
    session, chosen = of(exit_snapshot)
    in_l1 = session.vmcs12(chosen)
    assert dumped_in_words(None, in_l2) == ()
    cleared = dumped_in_words(Vmcss.CLEARED, in_l2)
    assert cleared[0].startswith("kdump took this dump: it cleared the loaded VMCSs first")
    assert f"{in_l2.pointer:#x} is older" in cleared[1]
    assert "vmcs02, whole in memory" in cleared[2]
    assert "vmcs02, which may be older in memory" in dumped_in_words(Vmcss.KEPT, in_l2)[2]
    assert in_l1.situation.shadowing
    assert "shadow VMCS" in dumped_in_words(Vmcss.CLEARED, in_l1)[2]
    bare = replace(in_l1, situation=replace(in_l1.situation, shadowing=False))
    assert len(dumped_in_words(Vmcss.CLEARED, bare)) == 2
