# SPDX-License-Identifier: GPL-2.0-or-later
"""kgdb's port: what passes through it, and that a debugger always meets a kernel that stands."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Optional

import pytest
from bochs_lab import kgdb, kgdb_kernel
from bochs_lab.errors import LabError
from bochs_lab.kgdb import KgdbPort
from bochs_lab.options import LabOptions
from bochs_lab.rsp import Decoder, Mark, frame
from bochs_lab.serial_line import SerialLine

PATIENCE = 10.0


class FakeKernel:
    """The far end of the line: kgdb's answers while it stands, a terminal's while it runs."""

    def __init__(self, line: SerialLine) -> None:
        self._end = os.open(os.ttyname(line._far), os.O_RDWR | os.O_NOCTTY)
        self._decoder = Decoder()
        self.running = False
        self.attached = True  # whether a debugger is to be told of a stop (kgdb_connected)
        self.asked: list[bytes] = []
        self.stopped_by: list[str] = []

    def close(self) -> None:
        os.close(self._end)

    def say(self, payload: bytes) -> None:
        os.write(self._end, frame(payload))

    def turn(self) -> None:
        ready, _, _ = select.select([self._end], [], [], 0.01)
        if ready:
            for event in self._decoder.feed(os.read(self._end, 4096)):
                self._take(event)

    def _take(self, event: object) -> None:
        if self.running:
            if event is Mark.INTERRUPT:
                self.running = False
                self.stopped_by.append("Ctrl-C")
                if self.attached:
                    self.say(b"T05thread:1;")
        elif isinstance(event, bytes):
            os.write(self._end, b"+")
            self.asked.append(event)
            self._answer(event)

    def _answer(self, packet: bytes) -> None:
        if packet == b"c":
            self.running, self.attached = True, True
        elif packet == b"D":
            self.say(b"OK")
            self.running, self.attached = True, False
        else:
            self.say(b"S05" if packet == b"?" else b"E01")


class Bench:
    """Port and kernel, driven by a thread."""

    def __init__(self) -> None:
        self.line = SerialLine()
        self.kernel = FakeKernel(self.line)
        self.port = KgdbPort(self.line)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            ready, _, _ = select.select(self.port.descriptors(), [], [], 0.01)
            self.port.turn(ready)
            self.kernel.turn()

    def await_running(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.kernel.running:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.port.close()
        self.kernel.close()
        self.line.close()


class Gdb:
    """A debugger's end."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._connection.settimeout(PATIENCE)
        self._decoder = Decoder()

    def close(self) -> None:
        self._connection.close()

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def packet(self) -> Optional[bytes]:
        """The next packet; None if the port hangs up."""
        while True:
            data = self._connection.recv(4096)
            if not data:
                return None
            for event in self._decoder.feed(data):
                if isinstance(event, bytes):
                    self.send(b"+")
                    return event

    def ask(self, payload: bytes) -> Optional[bytes]:
        self.send(frame(payload))
        return self.packet()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_packets_pass_to_the_kernel_and_back(bench: Bench) -> None:
    gdb = Gdb(bench.port.port)
    assert gdb.ask(b"?") == b"S05"
    assert gdb.ask(b"mffff,8") == b"E01"
    gdb.close()
    assert bench.kernel.asked == [b"?", b"mffff,8"]


def test_ctrl_c_of_a_debugger_that_let_it_run_stops_the_kernel(bench: Bench) -> None:
    gdb = Gdb(bench.port.port)
    gdb.send(frame(b"c"))
    bench.await_running()
    gdb.send(b"\x03")
    assert gdb.packet() == b"T05thread:1;"
    assert gdb.ask(b"?") == b"S05"
    gdb.close()


@pytest.mark.parametrize("leave", [b"D", b"c"])
def test_a_debugger_that_comes_to_a_running_kernel_meets_it_stopped(
    bench: Bench, leave: bytes
) -> None:
    """After detach kgdb says nothing of its own; after a debugger that just went away, it does,
    and the next must not take that for an answer to what it asks."""
    first = Gdb(bench.port.port)
    first.send(frame(leave))
    if leave == b"D":
        assert first.packet() == b"OK"
    bench.await_running()
    first.close()
    second = Gdb(bench.port.port)
    assert second.ask(b"mffff,8") == b"E01"
    assert bench.kernel.stopped_by == ["Ctrl-C"]
    second.close()


def test_the_port_hangs_up_when_the_machine_is_gone(bench: Bench) -> None:
    gdb = Gdb(bench.port.port)
    assert gdb.ask(b"?") == b"S05"
    bench.port.died("gone")
    assert gdb.packet() is None
    gdb.close()


def test_a_machine_with_kgdb_stops_before_the_guests_and_at_the_park_point() -> None:
    words = LabOptions(kgdb=True).kernel_line.split()
    assert {"kgdboc=ttyS1,115200", "KGDB_AT=start,l2"} <= set(words)
    assert "KGDB_AT=start" in LabOptions(kgdb=True, park="start").kernel_line.split()
    assert "kgdb" not in LabOptions().kernel_line.lower()


def test_kgdb_is_built_for_one_line_of_kernels_only() -> None:
    with pytest.raises(LabError, match="with kgdb"):
        LabOptions(kgdb=True, kernel="6.12")


def test_what_to_type_into_gdb_names_vmlinux_before_the_port() -> None:
    lines = kgdb.gdb_lines("/a/vmlinux", 4242)
    assert lines[0] == "file /a/vmlinux"
    assert lines[-1] == "target remote 127.0.0.1:4242"
    moved = kgdb.gdb_lines("/a/vmlinux", 4242, 0xFFFFFFFFBD400000)
    assert moved == ["symbol-file -o 0x3c400000 /a/vmlinux", *lines[1:]]


def test_the_configuration_asks_for_nothing_twice() -> None:
    lines = kgdb_kernel.CONFIG.read_text().splitlines()
    names = [line.partition("=")[0] for line in lines if line.startswith("CONFIG_")]
    assert len(names) == len(set(names)) > 50
