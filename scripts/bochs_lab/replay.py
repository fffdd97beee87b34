# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot's memory as the RAM of a QEMU machine with a gdbstub.

The machine stands before its first instruction; the file is mapped privately, so nothing can
change it.  Its registers are those of a reset, not the snapshot's.  gdb's `detach` lets it run:
in place of a BIOS, which would write to memory, it has one that only halts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from . import runtime
from .errors import LabError
from .snapshot import MEMORY, META

CONFIGURATION = Path(__file__).resolve().parents[2] / "qemu-configs" / "snapshot-replay.cfg"
LOOPBACK = "127.0.0.1"
_LOG = "qemu.log"
HALT = bytes.fromhex("faf4ebfd")  # cli; hlt; jmp to the hlt
BIOS_SIZE = 64 << 10  # QEMU takes no smaller one
RESET_VECTOR = 16  # bytes before its end
_QEMU = "qemu-system-x86_64"
_MONITOR_PROMPT = b"(qemu) "
_START_TIMEOUT = 30.0  # seconds
_LONGEST_SOCKET = 107  # bytes of its path (unix(7), sun_path)
_LOOK = 0.05  # seconds between two looks whether QEMU listens
_ECHO = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[^\n]*\x08")


@dataclass(frozen=True)
class Stub:
    """Where the gdbstub listens: a port of the loopback, or a unix socket."""

    port: int = 0
    path: Optional[Path] = None

    @property
    def target(self) -> str:
        """What gdb's `target remote` takes."""
        return str(self.path) if self.path else f"{LOOPBACK}:{self.port}"

    def gdb_lines(self) -> list[str]:
        """What to type into gdb."""
        return ["set architecture i386:x86-64", f"target remote {self.target}"]

    def clean_up(self) -> None:
        """Remove the socket, which QEMU leaves behind."""
        if self.path:
            self.path.unlink(missing_ok=True)

    def device(self) -> str:
        """What QEMU's option -gdb takes."""
        if self.path:
            return f"unix:path={self.path},server=on,wait=off"
        return f"tcp:{self.target}"


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def memory_size(snapshot: Path) -> int:
    """Bytes of RAM in a snapshot."""
    try:
        json.loads((snapshot / META).read_text())
        return (snapshot / MEMORY).stat().st_size
    except (OSError, ValueError) as error:
        raise LabError(f"{snapshot} is not a snapshot: {error}") from error


def write_bios(path: Path) -> None:
    """A BIOS that halts at the reset vector."""
    path.write_bytes(bytes(BIOS_SIZE - RESET_VECTOR) + HALT.ljust(RESET_VECTOR, b"\0"))


def command(snapshot: Path, stub: Stub, monitor: Path, bios: Path) -> list[str]:
    """The command that starts QEMU."""
    backend = f"memory-backend-file,id=ram0,size={memory_size(snapshot)}"
    backend += f",mem-path={_escaped(snapshot / MEMORY)},share=off"
    return [
        *(_QEMU, "-S", "-nodefaults", "-display", "none", "-serial", "none"),
        *("-readconfig", str(CONFIGURATION), "-cpu", "max", "-object", backend),
        *("-bios", str(bios)),
        *("-monitor", f"unix:{_escaped(monitor)},server=on,wait=off", "-gdb", stub.device()),
    ]


def _escaped(path: Path) -> str:
    """A path within an option of QEMU, where a comma ends the value."""
    return str(path).replace(",", ",,")


class Replay:
    """A QEMU machine over a snapshot, as a context manager.

    QEMU's monitor socket and log are in `folder`, which must be there as long as the machine;
    without one, the block has one of its own.
    """

    def __init__(
        self, snapshot: Path, folder: Optional[Path] = None, stub: Optional[Stub] = None
    ) -> None:
        self.snapshot = snapshot
        self.stub = stub or Stub(free_port())
        self._folder = folder
        self._resources = ExitStack()
        self._process: Optional[subprocess.Popen[bytes]] = None

    @property
    def folder(self) -> Path:
        if self._folder is None:
            raise LabError("the machine is not started")
        return self._folder

    @property
    def monitor_path(self) -> Path:
        return self.folder / "monitor.sock"

    @property
    def port(self) -> int:
        return self.stub.port

    @property
    def pid(self) -> int:
        if self._process is None:
            raise LabError("the machine is not started")
        return self._process.pid

    def __enter__(self) -> Replay:
        with ExitStack() as resources:
            if self._folder is None:
                self._folder = resources.enter_context(runtime.scratch("replay"))
            self.start()
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._resources.close()

    def start(self) -> None:
        """Start QEMU and wait until its gdbstub and its monitor listen."""
        if shutil.which(_QEMU) is None:
            raise LabError(f"no {_QEMU}; install the package qemu-system-x86")
        if len(os.fsencode(self.monitor_path)) > _LONGEST_SOCKET:
            raise LabError(
                f"{self.monitor_path} is too long for a socket; set XDG_RUNTIME_DIR to a folder "
                "with a shorter name"
            )
        if self.stub.path and self.stub.path.exists():
            raise LabError(f"{self.stub.path} exists already")
        bios = self.folder / "halt.bin"
        write_bios(bios)
        words = command(self.snapshot, self.stub, self.monitor_path, bios)
        with (self.folder / _LOG).open("wb") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._await_monitor()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End QEMU."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
            self.stub.clean_up()

    def wait(self) -> int:
        """Wait until QEMU ends; its exit status."""
        return self._process.wait() if self._process else 0

    def monitor(self, text: str) -> str:
        """Give QEMU's human monitor a command; its output."""
        return ask_monitor(self.monitor_path, text)

    def gdb_lines(self) -> list[str]:
        """What to type into gdb."""
        return self.stub.gdb_lines()

    def _await_monitor(self) -> None:
        """The monitor answers when all options have been taken, the gdbstub's too."""
        deadline = time.monotonic() + _START_TIMEOUT
        while True:
            if self._process is not None and self._process.poll() is not None:
                raise LabError(f"QEMU did not start: {(self.folder / _LOG).read_text().strip()}")
            try:
                self.monitor("info status")
                return
            except (FileNotFoundError, ConnectionError):  # not there yet, or ended just now
                if time.monotonic() > deadline:
                    raise LabError("QEMU's monitor does not answer") from None
                time.sleep(_LOOK)


def ask_monitor(path: Path, text: str) -> str:
    """Give the human monitor behind a unix socket a command; its output."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        _until_prompt(connection)
        connection.sendall(text.encode() + b"\n")
        output = _until_prompt(connection).decode(errors="replace").replace("\r", "")
    return _ECHO.sub("", output).partition("\n")[2]


def _until_prompt(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(_MONITOR_PROMPT):
        more = connection.recv(1 << 16)
        if not more:
            break
        data += more
    return data.removesuffix(_MONITOR_PROMPT)


def description(replay: Replay) -> dict[str, Any]:
    """What `status` tells of a replay."""
    return {
        "pid": replay.pid,
        "target": replay.stub.target,
        "snapshot": str(replay.snapshot),
        "socket": str(replay.stub.path or ""),
        "monitor": str(replay.monitor_path),
    }
