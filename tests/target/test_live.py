# SPDX-License-Identifier: GPL-2.0-or-later
"""What a live target forgets, and when."""

from __future__ import annotations

import pytest

from gdb_nept.errors import MemoryUnreadable, NeptError, NoKernel
from gdb_nept.target.live import LiveTarget
from tests.memory.stubs import MTREE, Machine
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
    live.changes.append("continue")
    look(live)
    assert stub.sent.count(TREE) == 2
    assert drops == ["dropped"]
    assert stub.mode == "0"


def test_ctrl_c_while_what_is_stale_is_dropped_leaves_nothing_stale() -> None:
    stub, interrupts = Machine(), [KeyboardInterrupt]

    def dropped() -> None:
        if interrupts:
            raise interrupts.pop()

    live = LiveTarget(Remote(stub), dropped)
    look(live)
    live.changes.append("continue")
    with pytest.raises(KeyboardInterrupt):
        look(live)
    trees = stub.sent.count(TREE)
    look(live)
    assert stub.sent.count(TREE) == trees + 1
    assert not live.changes


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


class Stubborn(Machine):
    """Refuses to leave physical mode so many times."""

    refusals = 0

    def packet(self, text: str) -> str:
        if text.endswith("Mode:0") and self.refusals:
            self.refusals -= 1
            self._take(text)
            return "E01"
        return super().packet(text)


def test_a_mode_that_is_owed_is_told_and_put_back_by_the_next_command() -> None:
    stub = Stubborn()
    live, _ = target(stub)
    stub.refusals = 5  # as often as one command tries
    look(live)
    assert stub.mode == "1"
    assert "left in physical memory mode" in live.memory.owes
    with live.command():
        assert stub.mode == "0"
    assert not live.memory.owes


def test_a_mode_left_by_another_is_told_and_kept() -> None:
    live, _ = target(Machine("1"))
    with live.command():
        found = live.attachment()
    assert "as a gdb that was killed leaves it" in found.notes[0]
    assert live.remote.stub.packet("qqemu.PhyMemMode") == "1"
    other, _ = target(Machine("0"))
    with other.command():
        assert not other.attachment().notes


def test_a_search_that_failed_is_not_made_again() -> None:
    stub = Machine()
    live, _ = target(stub)
    look(live)
    before = len([one for one in stub.sent if one.startswith("m")])
    live.memory.drop()  # what was read is stale, or the cache was never filled
    with live.command(), pytest.raises(NoKernel, match="nept-reload looks again"):
        live.kernel()
    assert len([one for one in stub.sent if one.startswith("m")]) == before
    live.take_types_from(())
    look(live)
    assert len([one for one in stub.sent if one.startswith("m")]) > before


class Failing(Machine):
    """Says that it has a lot of memory, and gives only each second page of it."""

    def read(self, address: int, size: int) -> bytes:
        self._take(f"m{address:x},{size:x}")
        if size > 4096 or address >> 12 & 1:
            raise MemoryUnreadable(address, size, "E01")
        return bytes(size)


def test_a_stub_that_fails_at_each_second_read_is_given_up() -> None:
    tree = MTREE.replace("00000000001fffff", "0000000fffffffff")
    stub = Failing(answers={"info mtree -f": tree})
    live, _ = target(stub)
    with live.command(), pytest.raises(NoKernel, match="had refused 16384 reads"):
        live.kernel()
    assert len(stub.sent) < 50_000
