# SPDX-License-Identifier: GPL-2.0-or-later
"""gdb's target, let run to breakpoints of our own."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from typing import Any

import gdb

from gdb_nept.address import KernelVirt
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.errors import TargetGone
from gdb_nept.target.gdb.connection import connected, gone
from gdb_nept.target.gdb.stub import GdbStub
from gdb_nept.target.running import Halt, NotInserted

_SOFTWARE_BY_PACKET = "remote software-breakpoint-packet"


class OwnBreakpoint(gdb.Breakpoint):
    """One of ours, which gdb neither lists nor announces."""


class GdbRunner:
    """gdb's target let run (target.running.Runner).  At the end of the `with` block no breakpoint
    of ours is left, whatever comes in between."""

    def __init__(self) -> None:
        self._stopped: Any = None
        self._pagination = bool(gdb.parameter("pagination"))
        by_packet: Any = gdb.parameter(_SOFTWARE_BY_PACKET)
        self._by_packet: bool | None = by_packet  # None: as the stub has it
        self._ctrl_c, self._ctrl_c_end = os.pipe()
        self._listened = -1
        for end in (self._ctrl_c, self._ctrl_c_end):
            os.set_blocking(end, False)

    def __enter__(self) -> GdbRunner:
        events: Any = gdb.events
        events.stop.connect(self._stops)
        gdb.execute("set pagination off")  # it would hold the machine at --Type <RET>--
        # gdb forgets a Ctrl-C that comes while the target stops or steps off a breakpoint
        self._listened = signal.set_wakeup_fd(self._ctrl_c_end, warn_on_full_buffer=False)
        return self

    def __exit__(self, *exception: object) -> None:
        interrupted: KeyboardInterrupt | None = None
        while True:
            try:
                self._end()
                break
            except KeyboardInterrupt as error:
                interrupted = error
        if interrupted:
            raise interrupted

    def _end(self) -> None:
        """Done as often as Ctrl-C breaks it off."""
        try:
            self._keep(())
        finally:
            self._put_back()

    def _put_back(self) -> None:
        events: Any = gdb.events
        try:
            events.stop.disconnect(self._stops)
        except ValueError:
            pass  # done already
        gdb.execute(f"set pagination {'on' if self._pagination else 'off'}")
        self._insert_by_packet(self._by_packet)
        if self._ctrl_c >= 0:
            signal.set_wakeup_fd(self._listened)
            os.close(self._ctrl_c_end)
            os.close(self._ctrl_c)
            self._ctrl_c = -1

    def go(self, places: Collection[KernelVirt], hardware: bool) -> Halt:
        self._stopped = None
        kind = gdb.BP_HARDWARE_BREAKPOINT if hardware else gdb.BP_BREAKPOINT
        try:
            if not hardware:  # else gdb would write them into memory where the stub has no Z0
                self._insert_by_packet(True)
            self._keep(places, kind)
            said = gdb.execute("continue", to_string=True)
        except gdb.error as error:
            if connected():
                raise self._not_inserted(error) from None
            raise gone(error) from None
        if not connected():
            told = " ".join(said.split()).rstrip(".")
            advice = "Attach again: target remote HOST:PORT"
            raise TargetGone(f"the target has ended: {told or 'it has not said why'}", advice)
        here = KernelVirt(self.register("rip"))
        others = self._hit()
        if others is None and here not in places and not self._announced():
            raise self._not_inserted(None)
        announced = getattr(self._stopped, "stop_signal", "")
        return Halt(here, str(announced), others or (), self._interrupted())

    def register(self, name: str) -> int:
        try:
            value: Any = gdb.selected_frame().read_register(name)
            return int(value) & ALL_BITS
        except gdb.error as error:
            raise gone(error) from None

    def pointer(self, address: KernelVirt) -> KernelVirt:
        return KernelVirt(int.from_bytes(GdbStub().read(address, 8), "little"))

    def _insert_by_packet(self, wanted: bool | None) -> None:
        word = "auto" if wanted is None else "on" if wanted else "off"
        gdb.execute(f"set {_SOFTWARE_BY_PACKET} {word}", to_string=True)

    def _keep(self, places: Collection[KernelVirt], kind: int = gdb.BP_BREAKPOINT) -> None:
        """Our breakpoints are those at `places`, of this kind, and no others."""
        there = set()
        for one in gdb.breakpoints():
            if isinstance(one, OwnBreakpoint) and one.is_valid():
                place = int(str(one.location)[1:], 16)
                if place in places and one.type == kind:
                    there.add(place)
                else:
                    one.delete()
        for place in places:
            if place not in there:
                OwnBreakpoint(f"*{place:#x}", type=kind, internal=True).silent = True

    def _stops(self, event: object) -> None:
        self._stopped = event

    def _hit(self) -> tuple[str, ...] | None:
        """The breakpoints that are not ours and were hit; None if none was, of ours neither."""
        found = getattr(self._stopped, "breakpoints", None)
        if not found:
            return None
        return tuple(str(one.number) for one in found if not isinstance(one, OwnBreakpoint))

    def _announced(self) -> bool:
        """Whether gdb knows why the target stopped.  It does not where it stepped off a breakpoint
        and could not insert the others again: then it says nothing, in gdb 13."""
        return "It stopped" in gdb.execute("info program", to_string=True)

    def _interrupted(self) -> bool:
        try:
            return signal.SIGINT in os.read(self._ctrl_c, 64)
        except BlockingIOError:
            return False

    def _not_inserted(self, error: gdb.error | None) -> NotInserted:
        said = f": {str(error).rstrip('.')}" if error else ""
        return NotInserted(
            f"gdb cannot let the target run with our breakpoints{said}",
            "Are there other breakpoints or watchpoints that take the processor's four?  Where a "
            "stub knows no Z0 packet, gdb would have to write to memory, and may not.",
        )
