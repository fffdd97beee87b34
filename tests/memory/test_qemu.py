# SPDX-License-Identifier: GPL-2.0-or-later
"""Physical memory mode, against a stub made by hand."""

from __future__ import annotations

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable, TargetGone
from gdb_nept.memory.blocks import flat_view
from gdb_nept.memory.qemu import PIECE, NoPhysicalMode, QemuMemory
from gdb_nept.memory.transport import Range

MTREE = """\
FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, ram): not memory

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): ram0
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom
  00000000000e0000-00000000000fffff (prio 0, rom): pc.bios @0000000000020000
  0000000000100000-000000001fffffff (prio 0, ram): ram0 @0000000000100000
  00000000fee00000-00000000feefffff (prio 4096, i/o): apic-msi
  0000000100000000-000000013fffffff (prio 0, ram): ram0 @0000000020000000

FlatView #2
 AS "cpu-smm-0", root: memory
  0000000000000000-00000000000bffff (prio 0, ram): smram
"""


class FakeStub:
    """Remembers packets; `interrupts` KeyboardInterrupts come while the mode is switched."""

    def __init__(self, mode: str = "0", mtree: str = MTREE) -> None:
        self.mode = mode
        self.mtree = mtree
        self.sent: list[str] = []
        self.interrupts = 0
        self.gone = False
        self.forgotten = 0

    def packet(self, text: str) -> str:
        self.sent.append(text)
        if self.gone:
            raise TargetGone("gone")
        if text.startswith("q"):
            return self.mode
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        self.mode = text[-1]
        return "OK"

    def monitor(self, text: str) -> str:
        return self.mtree

    def read(self, address: int, size: int) -> bytes:
        self.sent.append(f"m{address:x},{size:x}")
        return bytes(size)

    def forget(self) -> None:
        self.forgotten += 1


def test_ranges_of_ram_and_rom_are_joined() -> None:
    assert QemuMemory(FakeStub()).ranges == (
        Range(HostPhys(0), HostPhys(0xA0000)),
        Range(HostPhys(0xC0000), HostPhys(0x20000000)),
        Range(HostPhys(0x100000000), HostPhys(0x140000000)),
    )


@pytest.mark.parametrize("text", ["", "unknown command: 'info'", "FlatView #0\n nonsense"])
def test_other_text_has_no_ranges(text: str) -> None:
    assert flat_view(text) == ()


def test_the_mode_is_switched_once_and_put_back() -> None:
    stub = FakeStub()
    memory = QemuMemory(stub)
    with memory.held(), memory.held():
        memory.read(HostPhys(0x1000), 8)
        memory.read(HostPhys(0x2000), 8)
        assert stub.mode == "1"
    assert stub.mode == "0"
    assert stub.forgotten == 2
    assert [text for text in stub.sent if "Mode:" in text] == [
        "Qqemu.PhyMemMode:1",
        "Qqemu.PhyMemMode:0",
    ]


def test_a_mode_that_was_on_stays_on() -> None:
    stub = FakeStub(mode="1")
    with QemuMemory(stub).held():
        pass
    assert stub.sent == ["qqemu.PhyMemMode"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, TargetGone])
def test_the_mode_is_put_back_after(error: type[BaseException]) -> None:
    stub = FakeStub()
    with pytest.raises(error), QemuMemory(stub).held():
        raise error("in the middle")
    assert stub.mode == "0"


def test_ctrl_c_while_switching_and_while_putting_back() -> None:
    stub = FakeStub()
    stub.interrupts = 3
    with pytest.raises(KeyboardInterrupt), QemuMemory(stub).held():
        pass
    assert stub.mode == "0"
    assert stub.interrupts == 0


def test_a_stub_that_is_gone_hides_no_error() -> None:
    stub = FakeStub()

    def fail() -> None:
        stub.gone = True
        raise TargetGone("in the middle of a walk")

    with pytest.raises(TargetGone, match="middle"), QemuMemory(stub).held():
        fail()


def test_the_next_connection_puts_back_what_a_lost_one_could_not() -> None:
    stub = FakeStub()
    lost = QemuMemory(stub)
    with lost.held():
        stub.gone = True
    assert (lost.owed, stub.mode) == ("0", "1")
    stub.gone = False
    again = QemuMemory(stub, lost.owed)
    with again.held():
        assert stub.mode == "1"
    assert (again.owed, stub.mode) == ("", "0")


def test_no_device_is_read() -> None:
    memory = QemuMemory(FakeStub())
    with memory.held():
        for place, size in ((0xA0000, 8), (0x9FFFC, 8), (0xFEE00000, 4096), (0x13FFFFFFF, 2)):
            with pytest.raises(MemoryUnreadable, match="no RAM there"):
                memory.read(HostPhys(place), size)
        assert memory.read(HostPhys(0xDFFFC), 8) == bytes(8)


def test_without_a_monitor_everything_is_asked_for() -> None:
    memory = QemuMemory(FakeStub(mtree=""))
    with memory.held():
        assert memory.read(HostPhys(0xFEE00000), 8) == bytes(8)


def test_large_reads_come_in_pieces() -> None:
    stub = FakeStub()
    memory = QemuMemory(stub)
    with memory.held():
        assert len(memory.read(HostPhys(0x100000), 2 * PIECE + 4096)) == 2 * PIECE + 4096
    assert [text for text in stub.sent if text.startswith("m")] == [
        "m100000,100000",
        "m200000,100000",
        "m300000,1000",
    ]


def test_a_stub_without_the_mode_is_told() -> None:
    with (
        pytest.raises(NoPhysicalMode, match="does not know the packet"),
        QemuMemory(FakeStub(mode="")).held(),
    ):
        pass


def test_outside_the_block_nothing_is_read() -> None:
    stub = FakeStub()
    with pytest.raises(MemoryUnreadable, match="not switched on"):
        QemuMemory(stub).read(HostPhys(0), 8)
    assert stub.sent == []


class Refusing(FakeStub):
    """Answers so many switches back with an error."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals

    def packet(self, text: str) -> str:
        if text == "Qqemu.PhyMemMode:0" and self.refusals:
            self.refusals -= 1
            self.sent.append(text)
            return "E01"
        return super().packet(text)


def test_a_refusal_to_be_put_back_is_asked_again_at_once() -> None:
    stub = Refusing(1)
    memory = QemuMemory(stub)
    with memory.held():
        pass
    assert (stub.mode, memory.owed) == ("0", "")


def test_a_mode_that_could_not_be_put_back_is_owed_until_it_can() -> None:
    stub = Refusing(7)
    memory = QemuMemory(stub)
    with memory.held():
        pass
    assert (stub.mode, memory.owed) == ("1", "0")
    assert not memory.found_on(), "it is ours"
    memory.settle()
    assert (stub.mode, memory.owed) == ("0", "")
    before = len(stub.sent)
    memory.settle()
    assert len(stub.sent) == before


def test_ctrl_c_as_often_as_it_is_tried_leaves_the_mode_owed() -> None:
    stub = FakeStub()
    memory = QemuMemory(stub)
    with pytest.raises(KeyboardInterrupt), memory.held():
        stub.interrupts = 100
    assert memory.owed == "0"
    stub.interrupts = 0
    memory.settle()
    assert stub.mode == "0"


def test_a_mode_that_was_on_before_us_is_seen() -> None:
    assert QemuMemory(FakeStub(mode="1")).found_on()
    assert not QemuMemory(FakeStub(mode="0")).found_on()
    assert not QemuMemory(FakeStub(mode="E01")).found_on()
