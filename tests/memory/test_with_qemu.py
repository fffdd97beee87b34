# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes and files of a real QEMU, against what its own stub and monitor read.

The machines stand before their first instruction; what is in their memory, QEMU's loader put there.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.mapped import MappedMemory
from gdb_nept.memory.owner import owners
from gdb_nept.memory.process import process_memory
from gdb_nept.memory.qemu import QUERY, QemuMemory
from gdb_nept.memory.shared_file import file_memory
from gdb_nept.memory.transport import NotOffered
from tests.lab.rsp_client import Client

pytestmark = pytest.mark.qemu

MIB, GIB = 1 << 20, 1 << 30
MARK = b"nested EPT "
NUMA = (
    *("-object", "memory-backend-ram,id=n0,size=64M", "-numa", "node,memdev=n0,cpus=0"),
    *("-object", "memory-backend-ram,id=n1,size=64M", "-numa", "node,memdev=n1"),
)
#: Each with places just before and after where one of its blocks ends.
LAYOUTS = {
    "pc, 5 GiB": (("pc", "-m", "5G"), (0, 0xA0000 - 64, MIB, 3 * GIB - 64, 4 * GIB, 6 * GIB - 64)),
    "q35, 5 GiB": (("q35", "-m", "5G"), (0, MIB, 2 * GIB - 64, 4 * GIB, 7 * GIB - 64)),
    "two NUMA nodes": (("pc", "-m", "128M", *NUMA), (0, 64 * MIB - 64, 64 * MIB, 128 * MIB - 64)),
}


class RspStub:
    """The stub over a connection of this process, which is then the debugger's."""

    def __init__(self, port: int) -> None:
        self.client = Client(port)
        self.address = f"127.0.0.1:{port}"
        self.packets: list[str] = []

    def packet(self, text: str) -> str:
        self.packets.append(text)
        return self.client.ask(text)

    def monitor(self, text: str) -> str:
        return self.client.monitor(text)

    def read(self, address: int, size: int) -> bytes:
        parts = []
        for start in range(address, address + size, 1024):
            answer = self.packet(f"m{start:x},{min(1024, address + size - start):x}")
            if answer.startswith("E"):
                raise MemoryUnreadable(start, size, answer)
            parts.append(bytes.fromhex(answer))
        return b"".join(parts)

    def forget(self) -> None:
        pass


@contextmanager
def qemu(folder: Path, machine: str, *words: str, marks: tuple[int, ...] = ()) -> Iterator[RspStub]:
    """A machine with a different mark at each of `marks`; the connection to its stub."""
    for number, place in enumerate(marks):
        (folder / f"mark{number}").write_bytes(MARK + str(number).encode())
        words += ("-device", f"loader,file={folder}/mark{number},addr={place:#x},force-raw=on")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-M", machine]
    command += [*words, "-accel", "tcg", "-gdb", f"tcp:127.0.0.1:{port}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            stub = _attached(port)
            yield stub
            stub.client.close()
        finally:
            process.terminate()


def _attached(port: int) -> RspStub:
    deadline = time.monotonic() + 30
    while True:
        with suppress(ConnectionError):
            return RspStub(port)
        assert time.monotonic() < deadline, "QEMU does not listen"
        time.sleep(0.05)


def assert_marks(memory: MappedMemory, stub: RspStub, marks: tuple[int, ...]) -> None:
    """Every mark is where QEMU put it, and no mode was switched to see that."""
    stub.packets.clear()
    with memory.held():
        for number, place in enumerate(marks):
            expected = MARK + str(number).encode()
            assert memory.read(HostPhys(place), len(expected)) == expected, hex(place)
    assert stub.packets == [QUERY]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_block_of_the_process_is_found(tmp_path: Path, layout: str) -> None:
    words, marks = LAYOUTS[layout]
    with qemu(tmp_path, *words, marks=marks) as stub:
        mode = QemuMemory(stub)
        memory = process_memory(stub, mode, owners(stub.address))
        assert_marks(memory, stub, marks)
        for block in mode.blocks:
            place, size = block.range.end - 256, 256
            with mode.held():
                expected = mode.read(HostPhys(place), size)
            assert memory.read(HostPhys(place), size) == expected, block
        with pytest.raises(MemoryUnreadable, match="no RAM there"):
            memory.read(HostPhys(0xD0000000), 8)  # the hole for PCI
        assert stub.packet("qqemu.PhyMemMode") == "0"


def backend(name: str, path: Path, share: str, size: str = "64M") -> tuple[str, str]:
    return "-object", f"memory-backend-file,id={name},size={size},mem-path={path},share={share}"


def test_a_shared_file_needs_no_process(tmp_path: Path) -> None:
    marks = (0x1000, 0xB0000, MIB, 3 * GIB - 64, 4 * GIB, 6 * GIB - 64)
    words = ("pc,memory-backend=r0", "-m", "5G", *backend("r0", tmp_path / "ram", "on", "5G"))
    with qemu(tmp_path, *words, marks=marks) as stub:
        memory = file_memory(stub, QemuMemory(stub))
        assert_marks(memory, stub, marks)
        assert f"shared file {tmp_path}/ram, 5120 MiB" in memory.describe()


def test_each_node_may_have_a_file(tmp_path: Path) -> None:
    marks = (0, 64 * MIB - 64, 64 * MIB, 128 * MIB - 64)
    words = [*backend("n0", tmp_path / "0", "on"), *backend("n1", tmp_path / "1", "on")]
    words += ["-m", "128M", "-numa", "node,memdev=n0,cpus=0", "-numa", "node,memdev=n1"]
    with qemu(tmp_path, "pc", *words, marks=marks) as stub:
        assert_marks(file_memory(stub, QemuMemory(stub)), stub, marks)


def test_a_private_file_is_refused_and_its_process_is_not(tmp_path: Path) -> None:
    words = ("pc,memory-backend=r0", "-m", "64M", *backend("r0", tmp_path / "ram", "off"))
    with qemu(tmp_path, *words, marks=(MIB,)) as stub:
        mode = QemuMemory(stub)
        with pytest.raises(NotOffered, match="share=off"):
            file_memory(stub, mode)
        assert_marks(process_memory(stub, mode, owners(stub.address)), stub, (MIB,))


def test_memory_without_a_file_is_told(tmp_path: Path) -> None:
    with (
        qemu(tmp_path, "pc", "-m", "64M", marks=(MIB,)) as stub,
        pytest.raises(NotOffered, match="the machine has none"),
    ):
        file_memory(stub, QemuMemory(stub))
