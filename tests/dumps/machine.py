# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU that writes dumps of a lab snapshot, as it would of a host that runs in it.

The processor of a replayed snapshot is fresh from reset, so that QEMU would write a dump of a
32-bit machine: it is given the snapshot's registers through the gdbstub first.  The kernel's own
vmcoreinfo gets into a dump by -device vmcoreinfo, to which the guest's driver tells where its note
lies (docs/specs/vmcoreinfo.rst, docs/specs/fw_cfg.rst); over -qtest we play that driver.
"""

from __future__ import annotations

import json
import mmap
import re
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, TextIO

from bochs_lab.replay import BIOS_SIZE, CONFIGURATION, HALT, RESET_VECTOR
from bochs_lab.snapshot import MEMORY

CONTROL = {"cr4": 30, "efer": 32, "cr3": 29, "cr0": 27}  # target/i386/gdbstub.c, in this order
GENERAL = [
    "rax",
    "rbx",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "rip",
]
FW_CFG_SELECT, FW_CFG_DATA, FW_CFG_DMA, FW_CFG_DIRECTORY = 0x510, 0x511, 0x514, 0x19
DMA_SELECT, DMA_WRITE = 8, 16
SCRATCH = 0x1000  # a page of the guest's that is put back
SOCKETS = ("qmp", "qtest", "gdb")


class DumpingMachine:
    """Use in a `with` block; `folder` is where everything goes."""

    def __init__(self, snapshot: Path, folder: Path) -> None:
        self.snapshot, self.folder = snapshot, folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DumpingMachine:
        memory = self.snapshot / MEMORY
        bios = self.folder / "halt.bin"
        bios.write_bytes(bytes(BIOS_SIZE - RESET_VECTOR) + HALT.ljust(RESET_VECTOR, b"\0"))
        size = memory.stat().st_size
        words = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none"]
        words += ["-readconfig", str(CONFIGURATION), "-cpu", "max", "-device", "vmcoreinfo"]
        words += ["-bios", str(bios), "-qtest-log", "/dev/null", "-object"]
        words += [f"memory-backend-file,id=ram0,size={size},mem-path={memory},share=off"]
        for name in SOCKETS:
            path = f"path={self.folder / name}" if name == "gdb" else str(self.folder / name)
            words += [f"-{name}", f"unix:{path},server=on,wait=off"]
        with (self.folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        for _ in range(600):
            if all((self.folder / name).exists() for name in SOCKETS):
                break
            time.sleep(0.05)
        self._qmp = self._connected("qmp")
        self._qmp.readline()
        self.ask("qmp_capabilities")
        self._set_registers()
        self._tell_vmcoreinfo()
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def dump(self, name: str, **arguments: Any) -> Path:
        """dump-guest-memory of QMP."""
        path = self.folder / name
        self.ask("dump-guest-memory", protocol=f"file:{path}", **{"paging": False, **arguments})
        path.chmod(0o644)
        return path

    def ask(self, execute: str, **arguments: Any) -> Any:
        self._qmp.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
        self._qmp.flush()
        while True:
            answer = json.loads(self._qmp.readline())
            if "event" not in answer:
                assert "return" in answer, answer
                return answer["return"]

    def _connected(self, name: str) -> TextIO:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(120)
        connection.connect(str(self.folder / name))
        return connection.makefile("rw", encoding="latin-1", newline="\n")

    def _set_registers(self) -> None:
        """Without gdb, whose `detach` would let the machine run."""
        told = json.loads((self.snapshot / "registers.json").read_text())
        numbers = [(number, told[name]) for name, number in CONTROL.items()]
        numbers += [(number, told[name]) for number, name in enumerate(GENERAL)]
        with socket.socket(socket.AF_UNIX) as stub:
            stub.settimeout(30)
            stub.connect(str(self.folder / "gdb"))
            # gdbstub.c takes P of whoever has asked for its description of the registers
            _exchange(stub, "qXfer:features:read:target.xml:0,ff8")
            for number, value in numbers:
                answer = _exchange(stub, f"P{number:x}={int(value, 0).to_bytes(8, 'little').hex()}")
                assert answer == b"OK", answer

    def _tell_vmcoreinfo(self) -> None:
        self._qtest = self._connected("qtest")
        place, size = self._note()
        self._line(f"outw {FW_CFG_SELECT:#x} {FW_CFG_DIRECTORY:#x}")
        count = struct.unpack(">I", self._bytes(4))[0]
        files = [struct.unpack(">IHH56s", self._bytes(64)) for _ in range(count)]
        key = next(one[1] for one in files if one[3].split(b"\0")[0] == b"etc/vmcoreinfo")
        told = struct.pack("<HHIQ", 1, 1, size, place)
        control = key << 16 | DMA_SELECT | DMA_WRITE
        access = struct.pack(">IIQ", control, len(told), SCRATCH + 32)
        before = self._line(f"read {SCRATCH:#x} 64").split()[1]
        self._line(f"write {SCRATCH:#x} 16 0x{access.hex()}")
        self._line(f"write {SCRATCH + 32:#x} 16 0x{told.hex()}")
        self._line(f"outl {FW_CFG_DMA:#x} 0")
        self._line(
            f"outl {FW_CFG_DMA + 4:#x} {int.from_bytes(SCRATCH.to_bytes(4, 'big'), 'little'):#x}"
        )
        self._line(f"write {SCRATCH:#x} 64 {before}")

    def _note(self) -> tuple[int, int]:
        """Where the kernel's own ELF note lies, and its size."""
        with (
            (self.snapshot / MEMORY).open("rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory,
        ):
            found = re.search(rb"VMCOREINFO\0\0OSRELEASE=[0-9]", memory)
            assert found is not None
            place = found.start() - 12
            _, size, _ = struct.unpack("<III", memory[place : place + 12])
            return place, 24 + (size + 3 & -4)

    def _bytes(self, count: int) -> bytes:
        return bytes(int(self._line(f"inb {FW_CFG_DATA:#x}").split()[1], 16) for _ in range(count))

    def _line(self, line: str) -> str:
        self._qtest.write(line + "\n")
        self._qtest.flush()
        while (answer := self._qtest.readline()).startswith("IRQ"):
            pass
        return answer


def _exchange(stub: socket.socket, packet: str) -> bytes:
    """A packet of gdb's remote protocol, and what comes back."""
    data = packet.encode()
    stub.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))
    answer = b""
    while not re.fullmatch(rb"[+]*\$[^#]*#..", answer, re.DOTALL):
        more = stub.recv(8192)
        assert more, "the stub is gone"
        answer += more
    stub.sendall(b"+")
    return answer.split(b"$", 1)[1][:-3]
