# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast pages of a QEMU on this computer are read from its process, beside its gdbstub.

`scripts/bench --memory [PAGES]` starts a machine that never runs, and a stock gdb, which runs
`measure`: the same random pages by both ways, in turns, one page at a time, nothing cached.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, MIB = 4096, 1 << 20
RAM = 64 * MIB
TURN = 50  # pages
WAYS = ("process", "phymem")


def main(count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        noise = Path(folder) / "noise"
        noise.write_bytes(random.Random(2012).randbytes(RAM // 2))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-accel", "tcg"]
        words += ["-m", str(RAM // MIB), "-gdb", f"tcp:127.0.0.1:{port}"]
        words += ["-device", f"loader,file={noise},addr={MIB:#x},force-raw=on"]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as qemu:
            try:
                return _in_gdb(port, count)
            finally:
                qemu.kill()


def _in_gdb(port: int, count: int) -> int:
    _await(port)
    lines = ["set architecture i386:x86-64", f"source {ROOT}/gdb_nept/init.py"]
    lines += [f"target remote 127.0.0.1:{port}", f"python import sys; sys.path[:0] = ['{ROOT}']"]
    lines += [f"python from scripts import bench_memory; bench_memory.measure({count})", "kill"]
    words = [word for line in lines for word in ("-ex", line)]
    line = ["gdb", "-nx", "-batch", *words]
    done = subprocess.run(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    told = [line for line in done.stdout.splitlines() if line.startswith(("pages", "ratio"))]
    print("\n".join(told) or done.stdout)
    return 0 if told else 1


def _await(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("QEMU does not listen")


def measure(count: int) -> None:
    """In gdb: read `count` pages by each way."""
    from gdb_nept.address import HostPhys
    from gdb_nept.commands.gdb import registry

    memory = registry.register().target.memory
    transports = []
    for kind in WAYS:
        memory.want(kind)
        transports.append(memory.ready()[0])
    dice, seconds = random.Random(2012), [0.0] * len(WAYS)
    for _ in range(0, count, TURN):
        pages = [dice.randrange(MIB // PAGE, RAM // PAGE) for _ in range(TURN)]
        read: list[list[bytes]] = []
        for number, transport in enumerate(transports):
            with transport.held():
                started = time.perf_counter()
                read.append([transport.read(HostPhys(page * PAGE), PAGE) for page in pages])
                seconds[number] += time.perf_counter() - started
        if read[0] != read[1]:
            sys.exit("the two ways differ")
    each = [1e6 * one / count for one in seconds]
    print(f"pages of 4 KiB: {each[0]:.1f} us from the process, {each[1]:.1f} us from the stub")
    print(f"ratio {each[1] / each[0]:.0f}")
