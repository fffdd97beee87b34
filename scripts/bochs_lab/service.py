# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon does with its machine: status, snapshots, debugger commands, the gdb stub."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Optional, Union

from . import console, kgdb_kernel, snapshot
from .boot import Machine
from .errors import LabError
from .kgdb import KgdbPort
from .live import Live
from .progress import Progress
from .server import StubServer


class Service:
    """A parked machine and what was opened on it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.stub: Optional[Union[StubServer, KgdbPort]] = None
        self._live = Live(machine)
        self._live.running = machine.kgdb is not None
        self._started = time.time()

    def close(self) -> None:
        """Hang up; the machine is not this object's to end."""
        if self.stub is not None:
            self.stub.close()

    def done(self, request: dict[str, Any], progress: Progress) -> Any:
        """The answer to a request; raises LabError."""
        wish = request.get("do")
        if wish == "status":
            return {**self.status(), "seconds": round(time.time() - self._started, 1)}
        if wish == "stub":
            return self._open_stub(int(request.get("port") or 0))
        if self._live.running:
            raise LabError("the machine runs; stop it in gdb first")
        if wish == "snapshot":
            return self._snapshot(Path(request["target"]), progress)
        if wish == "facts":
            return list(console.facts(self.machine.console.text()).objects)
        if wish == "command":
            return self.machine.bochs.command(str(request["text"]))
        raise LabError(f"no request {wish!r}")

    def status(self) -> dict[str, Any]:
        """The machine in JSON; `park` is null when it runs, or ran on from its park point."""
        machine = self.machine
        return {
            "release": machine.image.kernel.release,
            "park": machine.park,
            "running": self._live.running,
            "gdb_port": self.stub.port if self.stub else None,
            "gdb_attached": self.stub.attached if self.stub else False,
            "vmlinux": self._vmlinux(),
            "text": self._text(),
            "machine_key": machine.image.machine_key,
            "snapshot_key": machine.image.snapshot_key,
            "bochs_pid": machine.bochs.pid,
            "daemon_pid": os.getpid(),
            "folder": str(machine.bochs.folder),
            "options": machine.options.as_json(),
        }

    def _vmlinux(self) -> Optional[str]:
        """What gdb needs besides a port, where it speaks to kgdb."""
        machine = self.machine
        return str(kgdb_kernel.vmlinux(machine.image.kernel)) if machine.kgdb else None

    def _text(self) -> Optional[int]:
        """Where L0's init says that the kernel lies."""
        said = console.facts(self.machine.console.text()).objects
        found = [one["kallsyms"]["_text"] for one in said if "_text" in one.get("kallsyms", ())]
        return int(found[0], 16) if found else None

    def _open_stub(self, port: int) -> int:
        """The port of the stub, or of kgdb, which is opened if there is none."""
        if self.stub is None:
            line = self.machine.kgdb
            self.stub = KgdbPort(line, port) if line else StubServer(self._live, port)
        elif port not in (0, self.stub.port):
            raise LabError(f"the machine's gdb stub listens on port {self.stub.port} already")
        return self.stub.port

    def _snapshot(self, target: Path, progress: Progress) -> str:
        if self.machine.park != self.machine.options.park:
            raise LabError(f"the machine does not stand at {self.machine.options.park} any more")
        snapshot.take(self.machine, target, progress)
        return str(target)
