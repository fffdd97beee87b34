# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory in another process and in shared files, over a stub made by hand and real processes."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable, TargetGone
from gdb_nept.memory import owner, process
from gdb_nept.memory.mapped import MappedMemory
from gdb_nept.memory.owner import Process
from gdb_nept.memory.process import process_memory
from gdb_nept.memory.qemu import QUERY, QemuMemory
from gdb_nept.memory.shared_file import file_memory
from gdb_nept.memory.transport import NotOffered
from tests.memory.emulator import Emulator, emulator
from tests.memory.stubs import SIZE, Machine, gpa2hva

MIB = 1 << 20
#: Two stretches of one region with a hole between, a ROM, and the rest of RAM of another region.
MTREE = """\
FlatView #1
 AS "memory", root: system
  0000000000000000-000000000009ffff (prio 0, ram): low KVM
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000fffff (prio 0, rom): bios
  0000000000100000-000000000017ffff (prio 0, ram): low @00000000000a0000 KVM
  0000000000180000-00000000001fffff (prio 0, ram): high
"""
LOW, HIGH = 0x120000, 0x80000  # sizes of the regions


def machine() -> Machine:
    return Machine(answers={"info mtree -f": MTREE})


def regions(of: Machine) -> bytes:
    """`low`, then `high`, as a process or a file holds them."""
    return bytes(of.memory[:0xA0000] + of.memory[0x100000:])


@pytest.fixture
def other() -> Iterator[Emulator]:
    with emulator(regions(machine())) as one:
        yield one


def at(one: Emulator) -> Machine:
    """The machine whose memory that process holds."""
    stub = machine()
    for start, offset in ((0, 0), (0x100000, 0xA0000), (0x180000, LOW)):
        stub.answers.update(gpa2hva(start, one.place + offset))
    stub.answers["gpa2hva 0xc0000"] = "Memory at address 0xc0000 is not RAM\n"
    return stub


def found(one: Emulator) -> tuple[Process]:
    process = owner.process(one.pid)
    assert process is not None
    return (process,)


def by_process(stub: Machine, one: Emulator) -> MappedMemory:
    memory = process_memory(stub, QemuMemory(stub), found(one))
    stub.sent.clear()
    return memory


def test_ram_is_read_from_the_process_and_no_mode_is_switched(other: Emulator) -> None:
    stub = at(other)
    memory = by_process(stub, other)
    with memory.held(), memory.held():
        for place, size in ((0, 8), (0x9FFF8, 8), (0x100000, 4096), (0x17FFF0, 0x20), (MIB, MIB)):
            assert memory.read(HostPhys(place), size) == bytes(stub.memory[place : place + size])
    assert stub.sent == [QUERY]
    assert memory.describe() == f"process memory of {found(other)[0]}, 1 MiB of RAM and ROM"


def test_a_rom_that_is_not_in_the_process_is_read_by_mode(other: Emulator) -> None:
    stub = at(other)
    memory = by_process(stub, other)
    with memory.held():
        memory.read(HostPhys(0x1000), 8)
        assert memory.read(HostPhys(0xC0000), 16) == bytes(stub.memory[0xC0000:0xC0010])
        assert memory.read(HostPhys(0xFFFF8), 16) == bytes(stub.memory[0xFFFF8:0x100008])
        assert stub.mode == "1"
    assert stub.modes == ["Qqemu.PhyMemMode:1", "Qqemu.PhyMemMode:0"]


def test_no_device_is_read(other: Emulator) -> None:
    stub = at(other)
    memory = by_process(stub, other)
    for place, size in ((0xA0000, 8), (0x9FFFC, 8), (SIZE, 8), (0xFEE00000, 8)):
        with memory.held(), pytest.raises(MemoryUnreadable, match="no RAM there"):
            memory.read(HostPhys(place), size)
    assert stub.modes == []


def test_what_differs_from_the_stubs_answer_is_refused(other: Emulator) -> None:
    stub = at(other)
    stub.memory[0x180000:0x180008] = b"another!"
    with pytest.raises(NotOffered, match="differs from what the stub reads at 0x180000"):
        process_memory(stub, QemuMemory(stub), found(other))
    assert stub.mode == "0"


def test_a_process_that_has_no_such_memory_is_refused_without_a_packet(other: Emulator) -> None:
    stub = at(other)
    stub.answers.update(gpa2hva(0x180000, 0x10))
    with pytest.raises(NotOffered, match="memory is not where it was told"):
        process_memory(stub, QemuMemory(stub), found(other))
    assert stub.modes == []


def test_memory_that_is_empty_proves_nothing() -> None:
    blank = machine()
    blank.memory[:] = bytes(SIZE)
    with emulator(regions(blank)) as other:
        stub = at(other)
        stub.memory[:] = bytes(SIZE)
        with pytest.raises(NotOffered, match="still empty"):
            process_memory(stub, QemuMemory(stub), found(other))


def test_a_page_that_is_not_empty_is_looked_for() -> None:
    """The first page of a block is often empty; an empty one would agree with anything."""
    blank = machine()
    blank.memory[:] = bytes(SIZE)
    blank.memory[0x140000] = 1
    with emulator(regions(blank)) as other:
        stub = at(other)
        stub.memory[:] = blank.memory
        mode = QemuMemory(stub)
        process_memory(stub, mode, found(other))
        assert "m140000,1000" in stub.sent
        stub.memory[0x140000] = 2
        with pytest.raises(NotOffered, match="differs from what the stub reads at 0x140000"):
            process_memory(stub, mode, found(other))


def test_without_a_monitor_nothing_is_guessed() -> None:
    stub = Machine(answers={})
    with pytest.raises(NotOffered, match="gpa2hva"), emulator(b"\1" * 4096) as other:
        process_memory(stub, QemuMemory(stub), found(other))


def test_a_process_that_ends_is_told_as_such(other: Emulator) -> None:
    memory = by_process(at(other), other)
    with memory.held():
        memory.read(HostPhys(0x1000), 8)
        other.end()
        with pytest.raises(TargetGone, match="has ended") as caught:
            memory.read(HostPhys(0x1000), 8)
    assert "Attach again" in caught.value.advice


def test_the_right_to_read_is_asked_for(
    other: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    scope = tmp_path / "ptrace_scope"
    scope.write_text("1\n")
    monkeypatch.setattr(process, "YAMA", scope)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NotOffered, match="may not be read: Operation not permitted") as caught:
        by_process(at(other), other)
    assert caught.value.advice == f"{scope} is 1: run gdb as root, or write 0 there."


def test_another_users_process_gets_other_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    ours = process._permission(Process(1, "qemu", 0, 0, 2))
    assert "another user" in ours


def test_descriptors_are_given_back(other: Emulator) -> None:
    stub, false = at(other), at(other)
    false.memory[0] ^= 1
    gc.collect()  # what other tests have left open
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        by_process(stub, other)
        with suppress(NotOffered):
            by_process(false, other)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_stub_that_is_gone_is_noticed_before_anything_is_read(other: Emulator) -> None:
    stub = at(other)
    memory = by_process(stub, other)
    stub.gone = True
    with pytest.raises(TargetGone), memory.held():
        pytest.fail("held a machine that is not there any more")


# -- files -----------------------------------------------------------------------------------------


def with_files(**files: Path) -> Machine:
    """The regions named lie in memory-backend-files; `high` has its backend named by path."""
    stub = machine()
    stub.answers["info mtree -f"] = MTREE.replace(": high", ": /objects/high")
    for name, file in files.items():
        stub.answers[f"qom-get /objects/{name} mem-path"] = f'"{file}"\r\n'
        stub.answers[f"qom-get /objects/{name} share"] = "true\r\n"
    return stub


def written(folder: Path, stub: Machine) -> tuple[Path, Path]:
    low, high = folder / "low", folder / "high"
    low.write_bytes(regions(stub)[:LOW])
    high.write_bytes(b"\xff" * 4096 + regions(stub)[LOW:])
    return low, high


def by_file(stub: Machine, named: Path | None = None) -> MappedMemory:
    memory = file_memory(stub, QemuMemory(stub), named)
    stub.sent.clear()
    return memory


def test_several_files_with_offsets_are_read(tmp_path: Path) -> None:
    low, high = written(tmp_path, machine())
    stub = with_files(low=low, high=high)
    stub.answers["qom-get /objects/high offset"] = "4096"
    memory = by_file(stub)
    with memory.held():
        for place, size in ((0, 8), (0x100000, 4096), (0x17FFF0, 0x20), (MIB, MIB)):
            assert memory.read(HostPhys(place), size) == bytes(stub.memory[place : place + size])
    assert stub.sent == [QUERY]
    assert memory.describe() == f"shared file {low}, {high}, 1 MiB of RAM and ROM"


def test_what_is_in_no_file_is_read_by_mode(tmp_path: Path) -> None:
    low, _ = written(tmp_path, machine())
    stub = with_files(low=low)
    memory = by_file(stub)
    with memory.held():
        assert memory.read(HostPhys(0x17FFF8), 16) == bytes(stub.memory[0x17FFF8:0x180008])
    assert stub.modes == ["Qqemu.PhyMemMode:1", "Qqemu.PhyMemMode:0"]


def test_a_private_mapping_is_refused(tmp_path: Path) -> None:
    low, _ = written(tmp_path, machine())
    stub = with_files(low=low)
    stub.answers["qom-get /objects/low share"] = "false"
    with pytest.raises(NotOffered, match="share=off"):
        by_file(stub)


def test_a_file_of_other_content_is_refused(tmp_path: Path) -> None:
    low, high = written(tmp_path, machine())
    with pytest.raises(NotOffered, match="differs from what the stub reads"):
        by_file(with_files(low=low, high=high))  # without its offset


def test_a_file_that_is_elsewhere_can_be_named(tmp_path: Path) -> None:
    low, high = written(tmp_path, machine())
    stub = with_files(low=Path("/nowhere/ram"))
    with pytest.raises(NotOffered, match="cannot map /nowhere/ram") as caught:
        by_file(stub)
    assert "set nept memory-file" in caught.value.advice
    assert by_file(stub, low).describe().startswith(f"shared file {low},")
    with pytest.raises(NotOffered, match="alone was named"):
        by_file(with_files(low=low, high=high), low)


def test_a_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    low, _ = written(tmp_path, machine())
    low.write_bytes(low.read_bytes()[:-4096])
    with pytest.raises(NotOffered, match="shorter than the memory"):
        by_file(with_files(low=low))


def test_a_machine_without_such_a_file_is_told() -> None:
    with pytest.raises(NotOffered, match="the machine has none") as caught:
        by_file(machine())
    assert "l0-shared-memory.cfg" in caught.value.advice
