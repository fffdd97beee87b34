# SPDX-License-Identifier: GPL-2.0-or-later
"""What a live target forgets, and when."""

from __future__ import annotations

import pytest

from gdb_nept.errors import NeptError, NoKernel
from gdb_nept.target.live import LiveTarget
from tests.memory.stubs import Machine
from tests.target.remotes import Remote

TREE = "monitor info mtree -f"


def target(stub: Machine) -> tuple[LiveTarget, list[str]]:
    drops: list[str] = []
    return LiveTarget(Remote(stub), lambda: drops.append("dropped")), drops


def look(live: LiveTarget) -> None:
    with live.command(), pytest.raises(NoKernel):
        live.kernel()


def test_a_machine_without_a_kernel_that_ran_is_looked_at_anew() -> None:
    stub = Machine()
    live, drops = target(stub)
    look(live)
    look(live)
    assert stub.sent.count(TREE) == 1
    live.ran()
    look(live)
    assert stub.sent.count(TREE) == 2
    assert drops == ["dropped"]
    assert stub.mode == "0"


def test_one_command_switches_the_mode_once_and_reads_a_page_once() -> None:
    stub = Machine()
    live, _ = target(stub)
    look(live)
    assert stub.modes == ["Qqemu.PhyMemMode:1", "Qqemu.PhyMemMode:0"]
    look(live)
    reads = [text for text in stub.sent if text.startswith("m") and text != TREE]
    assert len(reads) == len(set(reads))


def test_what_is_used_and_why_not_more_is_told_with_and_without_a_kernel() -> None:
    live, _ = target(Machine())
    found = live.attachment()
    assert (found.target, found.transport) == ("remote 127.0.0.1:1234", "phymem")
    assert found.memory == "QEMU's physical memory mode, 2 MiB of RAM and ROM"
    assert [one.kind for one in found.refused] == ["process", "file"]
    assert "no Linux kernel" in found.missing[0].what


def test_with_no_target_nothing_is_told_of_the_last_one() -> None:
    remote = Remote(Machine())
    live = LiveTarget(remote, lambda: None)
    live.attachment()
    remote.where = ""
    found = live.attachment()
    assert (found.target, found.memory, found.transport, found.refused) == ("", "", "", ())


def test_a_way_that_does_not_work_is_told_and_another_can_be_chosen() -> None:
    live, _ = target(Machine())
    live.read_memory_by("process")
    with pytest.raises(NeptError, match="memory cannot be read through the emulator"):
        live.kernel()
    live.read_memory_by("auto")
    look(live)
