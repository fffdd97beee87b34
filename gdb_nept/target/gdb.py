# SPDX-License-Identifier: GPL-2.0-or-later
"""What gdb is attached to (target.remote.Remote); the only file that asks gdb about its target.

Nothing is ever written: memory is read with m packets, and `maint packet` sends nothing but the
three packets of physical memory mode (`memory/qemu.py`).
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection
from typing import Any, Callable

import gdb

from gdb_nept.address import KernelVirt
from gdb_nept.errors import MemoryUnreadable, NeptError, TargetGone
from gdb_nept.memory.transport import NotOffered
from gdb_nept.target.debugged import SAME_VMLINUX
from gdb_nept.target.debugger import DebugType
from gdb_nept.target.kernel import DIRECT_MAPS
from gdb_nept.target.live import LiveTarget
from gdb_nept.target.running import Halt, NotInserted, Selected

_RECEIVED = re.compile(r'^received: "(.*)"$', re.MULTILINE)
_CORE = re.compile(r"^Local core dump file:\n\t`(.*)', file type", re.MULTILINE)
_SYMBOL = re.compile(r"^(\S+)(?: \+ (\d+))? in section ")
_SOFTWARE_BY_PACKET = "remote software-breakpoint-packet"
_SIXTY_FOUR = "i386:x86-64"
_QWORD = (1 << 64) - 1

LOAD_VMLINUX = "Load the running kernel's vmlinux, with debug information: file vmlinux"
FIXED_DIRECT_MAP = DIRECT_MAPS[4][0]  # of a kernel that cannot move it, and so has no variable

KINDS = {
    gdb.TYPE_CODE_INT: "int",
    gdb.TYPE_CODE_CHAR: "int",
    gdb.TYPE_CODE_BOOL: "int",
    gdb.TYPE_CODE_ENUM: "enum",
    gdb.TYPE_CODE_PTR: "pointer",
    gdb.TYPE_CODE_ARRAY: "array",
    gdb.TYPE_CODE_STRUCT: "struct",
    gdb.TYPE_CODE_UNION: "union",
    gdb.TYPE_CODE_FUNC: "function",
    gdb.TYPE_CODE_VOID: "void",
    gdb.TYPE_CODE_FLT: "float",
}


class GdbStub:
    """The remote stub that gdb is connected to (memory.qemu.Stub)."""

    def packet(self, text: str) -> str:
        found = _RECEIVED.search(self._execute(f"maint packet {text}"))
        return found[1] if found else ""

    def monitor(self, text: str) -> str:
        try:
            return gdb.execute(f"monitor {text}", to_string=True)
        except (gdb.error, UnicodeError):
            return ""  # so says a stub without a monitor; what is no text is no answer

    def read(self, address: int, size: int) -> bytes:
        try:
            return bytes(gdb.selected_inferior().read_memory(address, size))
        except gdb.MemoryError as error:
            if not connected():
                raise _gone(error) from None
            raise MemoryUnreadable(address, size, str(error)) from None
        except gdb.error as error:
            raise _gone(error) from None

    def forget(self) -> None:
        try:
            gdb.execute("maint flush dcache", to_string=True)
        except gdb.error:
            pass  # before gdb 11; it caches only what it takes for stack or code

    def _execute(self, line: str) -> str:
        try:
            return gdb.execute(line, to_string=True)
        except UnicodeError:
            return ""
        except gdb.error as error:
            raise _gone(error) from None


def _gone(error: gdb.error) -> TargetGone:
    text = str(error).rstrip(".")
    return TargetGone(
        f"the target does not answer: {text}", "Attach again: target remote HOST:PORT"
    )


class GdbDebugger:
    """gdb's own view of a vmlinux (target.debugger.Debugger)."""

    def __init__(self, objfile: gdb.Objfile) -> None:
        self.file = str(objfile.filename)

    def struct(self, name: str) -> DebugType | None:
        for keyword in ("struct", "union"):
            try:
                found: Any = gdb.lookup_type(f"{keyword} {name}")
            except gdb.error:
                continue
            if found.fields():  # else it is declared only
                return found  # type: ignore[no-any-return]
        return None

    def kind(self, found: Any) -> str:
        return KINDS.get(found.code, "void")

    def signed(self, found: Any) -> bool:
        return int(gdb.Value(-1).cast(found)) < 0

    def symbol(self, name: str) -> int | None:
        try:
            return int(gdb.parse_and_eval(f"&{name}")) & _QWORD
        except gdb.error:
            return None

    def name_at(self, address: int) -> str | None:
        found = _SYMBOL.match(gdb.execute(f"info symbol {address:#x}", to_string=True))
        if not found:
            return None
        return f"{found[1]}+{int(found[2]):#x}" if found[2] else found[1]


class GdbRemote:
    """The machine that gdb is connected to (target.remote.Remote)."""

    def __init__(self) -> None:
        self.stub = GdbStub()

    def connected(self) -> str:
        return connected()

    def address(self) -> str:
        connection = getattr(gdb.selected_inferior(), "connection", None)  # gdb 12
        return str(connection.details or "") if connection else ""

    def connection(self) -> str:
        number = getattr(gdb.selected_inferior(), "connection_num", None)  # gdb 10
        return f"{connected()} ({number})"

    def check(self) -> None:
        _check_target(connected())

    def cr3s(self) -> tuple[int, ...]:
        try:
            return (int(gdb.parse_and_eval("$cr3")) & _QWORD,)
        except gdb.error:
            return ()

    def direct_map(self) -> int:
        try:
            return int(gdb.parse_and_eval("*(unsigned long *)&page_offset_base")) & _QWORD
        except gdb.error as error:
            vmlinux = self.vmlinux()
            if vmlinux is None:
                raise NotOffered("no vmlinux is loaded in gdb", LOAD_VMLINUX) from None
            if vmlinux.symbol("page_offset_base") is None:
                return FIXED_DIRECT_MAP
            raise NotOffered(
                f"gdb cannot tell the kernel's page_offset_base: {error}", SAME_VMLINUX
            ) from None

    def vmlinux(self) -> GdbDebugger | None:
        """The object file with a kernel's debug info, if the user loaded one."""
        for objfile in gdb.objfiles():
            if objfile.is_valid() and objfile.lookup_global_symbol("init_task") is not None:
                return GdbDebugger(objfile)
        return None


class GdbEvents:
    """Tells a target when it ran, or is another one; `runs` and `stopped` are called then, too."""

    def __init__(
        self,
        target: LiveTarget,
        runs: Callable[[], None],
        stopped: Callable[[], None],
        exiting: Callable[[], None] | None = None,
    ) -> None:
        events: Any = gdb.events
        self._listeners: list[tuple[Any, Callable[[object], None]]] = [
            (events.cont, lambda event: target.ran()),
            (events.memory_changed, lambda event: target.ran()),
            (events.cont, lambda event: runs()),
            (events.stop, lambda event: stopped()),
            (events.exited, lambda event: target.forget()),
            (events.new_objfile, lambda event: target.forget_kernel()),
            (events.clear_objfiles, lambda event: target.forget_kernel()),
        ]
        if exiting is not None and hasattr(events, "gdb_exiting"):  # gdb 12
            self._listeners.append((events.gdb_exiting, lambda event: exiting()))
        for registry, listener in self._listeners:
            registry.connect(listener)

    def close(self) -> None:
        for registry, listener in self._listeners:
            registry.disconnect(listener)


def connected() -> str:
    """'remote 127.0.0.1:1234', or '' where gdb is attached to nothing that runs."""
    inferior = gdb.selected_inferior()
    if not inferior.pid:
        return ""
    connection = getattr(inferior, "connection", None)  # gdb 12
    if connection is None:
        return "remote target"
    return f"{connection.type} {connection.details or ''}".strip()


def core_file() -> str:
    """The path of the core that gdb has open in place of a machine; '' if there is none."""
    if not connected().startswith("core"):
        return ""
    found = _CORE.search(gdb.execute("info target", to_string=True))
    return found[1] if found else ""


def _check_target(where: str) -> None:
    if not where:
        raise NeptError(
            "not attached",
            "Attach to QEMU's gdb stub: target remote HOST:PORT, or name a dump: nept-dump FILE",
        )
    if not where.startswith(("remote", "extended-remote")):
        raise NeptError(
            f"gdb is attached to '{where}', which is not a remote stub",
            "Attach to QEMU's gdb stub: target remote HOST:PORT",
        )
    thread = gdb.selected_thread()
    if thread is not None and thread.is_running():
        raise NeptError("the target is running", "Stop it first: interrupt, or Ctrl-C")
    width = gdb.selected_inferior().architecture().name()
    if width != _SIXTY_FOUR:
        raise NeptError(
            f"gdb takes the target for '{width}'", f"Tell it: set architecture {_SIXTY_FOUR}"
        )


def selected_processor(tasks: bool) -> Selected:
    """Threads of QEMU's and Bochs' stubs are processors, numbered from 1; with `tasks` they are
    none."""
    thread = gdb.selected_thread()
    if thread is None or tasks:
        return Selected(None)
    try:
        value: Any = gdb.selected_frame().read_register("cr3")
        cr3 = int(value) & _QWORD
    except (gdb.error, ValueError):
        return Selected(thread.ptid[1] - 1)
    return Selected(thread.ptid[1] - 1, cr3)


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
            raise _gone(error) from None
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
            return int(value) & _QWORD
        except gdb.error as error:
            raise _gone(error) from None

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
