# SPDX-License-Identifier: GPL-2.0-or-later
"""What gdb is attached to, as memory and a kernel; the only file that asks gdb about its target.

Nothing is ever written: memory is read with m packets, and `maint packet` sends nothing but the
three packets of physical memory mode (`memory/qemu.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable

import gdb

from gdb_nept.address import HostPhys, KernelVirt
from gdb_nept.errors import BadInput, MemoryUnreadable, NeptError, SymbolMissing, TargetGone
from gdb_nept.memory.qemu import QemuMemory
from gdb_nept.memory.reader import PageCache
from gdb_nept.target.attachment import Attachment, Missing, circumstances, lacking, missing
from gdb_nept.target.dwarf import DebugType, DwarfKernel, DwarfMismatch, with_dwarf
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.linux import attach
from gdb_nept.target.locate import Progress

_RECEIVED = re.compile(r'^received: "(.*)"$', re.MULTILINE)
_SIXTY_FOUR = "i386:x86-64"

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
        except gdb.error:
            return ""  # a stub without a monitor says so with an error

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
        except gdb.error as error:
            raise _gone(error) from None


def _gone(error: gdb.error) -> TargetGone:
    text = str(error).rstrip(".")
    return TargetGone(
        f"the target does not answer: {text}", "Attach again: target remote HOST:PORT"
    )


def connected() -> str:
    """'remote 127.0.0.1:1234', or '' where gdb is attached to nothing that runs."""
    inferior = gdb.selected_inferior()
    if not inferior.pid:
        return ""
    connection = getattr(inferior, "connection", None)  # gdb 12
    if connection is None:
        return "remote target"
    return f"{connection.type} {connection.details or ''}".strip()


class GdbDebugger:
    """gdb's own view of a vmlinux (target.dwarf.Debugger)."""

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
            return int(gdb.parse_and_eval(f"&{name}")) & ((1 << 64) - 1)
        except gdb.error:
            return None


def loaded_vmlinux() -> gdb.Objfile | None:
    """The object file with a kernel's debug info, if the user loaded one."""
    for objfile in gdb.objfiles():
        if objfile.is_valid() and objfile.lookup_global_symbol("init_task") is not None:
            return objfile
    return None


class GdbTarget:
    """The kernel behind gdb's target, found when first asked and kept until the target changes.

    `dropped` is called when the target ran: what was read is stale then.
    """

    def __init__(self, dropped: Callable[[], None]) -> None:
        self._dropped = dropped
        self._scope: ExitStack | None = None
        self._where = ""  # what gdb is connected to, and which of its connections it is
        self._connection = ""
        self._memory: QemuMemory | None = None
        self._cache: PageCache[HostPhys] | None = None
        self._kernel: LinuxKernel | DwarfKernel | None = None
        self._banner = b""
        self._notes: list[Missing] = []
        self._btf_files: tuple[Path, ...] = ()
        events: Any = gdb.events
        self._events = [
            (events.cont, self._ran),
            (events.memory_changed, self._ran),
            (events.exited, self._changed),
            (events.new_objfile, self._changed),
            (events.clear_objfiles, self._changed),
        ]
        for registry, listener in self._events:
            registry.connect(listener)

    def close(self) -> None:
        for registry, listener in self._events:
            registry.disconnect(listener)

    @contextmanager
    def command(self) -> Iterator[None]:
        """One command: the stub's mode is switched at its first read and put back at its end."""
        with ExitStack() as scope:
            self._scope = scope
            try:
                yield
            finally:
                self._scope = None

    def running(self) -> GdbRunning:
        """The target, to be let run: the stub's mode is put back before each run, and switched
        again at the next read."""
        _check_target(connected())
        return GdbRunning(self._let_go)

    def _let_go(self) -> None:
        if self._scope is not None:
            self._scope.close()

    def take_types_from(self, files: tuple[Path, ...]) -> None:
        """BTF, .ko or vmlinux files for types that memory lacks: the kernel is looked at anew."""
        self._btf_files = files
        self._kernel = None
        self._dropped()

    def kernel(self) -> LinuxKernel | DwarfKernel:
        """Raises NeptError where nothing is attached, or no Linux is found in it."""
        memory, cache, cr3s = self._physical()
        if self._kernel is not None and _banner(self._kernel) != self._banner:
            self._kernel = None  # the machine was booted again
        if self._kernel is None:
            self._notes.clear()
            ram = [range(one.start, one.end) for one in memory.ranges]
            self._kernel = self._prefer_dwarf(self._attach(cache, ram, cr3s))
            self._banner = _banner(self._kernel)
        return self._kernel

    def _attach(
        self, cache: PageCache[HostPhys], ram: list[range], cr3s: tuple[int, ...]
    ) -> LinuxKernel:
        """A file of types that does not fit this kernel is left out and told: the kernel is there
        all the same."""
        with _progress() as progress:
            try:
                return attach(cache, ram, btf_files=self._btf_files, cr3s=cr3s, progress=progress)
            except BadInput as error:
                self._notes.append(missing(error))
                return attach(cache, ram, cr3s=cr3s, progress=progress)

    def attachment(self) -> Attachment:
        try:
            kernel = self.kernel()
        except NeptError as error:
            return Attachment(connected(), self._how(), None, (missing(error),))
        running = kernel.running if isinstance(kernel, DwarfKernel) else kernel
        problems = (*self._notes, *lacking(running))
        return Attachment(connected(), self._how(), kernel, problems, circumstances(running))

    def _how(self) -> str:
        if self._memory is None or not connected():
            return ""
        return "QEMU's physical memory mode" + _extent(self._memory)

    def _physical(self) -> tuple[QemuMemory, PageCache[HostPhys], tuple[int, ...]]:
        """The memory, held for this command; CR3 of the CPU is read before, since gdb may read
        the stack along with a register, which is at a virtual address."""
        where = connected()
        _check_target(where)
        number = getattr(gdb.selected_inferior(), "connection_num", None)  # gdb 10
        connection = f"{where} ({number})"
        if connection != self._connection or self._memory is None or self._cache is None:
            lost = self._memory if where == self._where else None
            self._forget()
            self._memory = QemuMemory(GdbStub(), lost.owed if lost else "")
            self._cache = PageCache(self._memory)
            self._where, self._connection = where, connection
        cr3s = _cr3s() if self._kernel is None else ()
        if self._scope is not None:
            self._scope.enter_context(self._memory.held())
        return self._memory, self._cache, cr3s

    def _prefer_dwarf(self, running: LinuxKernel) -> LinuxKernel | DwarfKernel:
        vmlinux = loaded_vmlinux()
        if vmlinux is None:
            return running
        try:
            return with_dwarf(running, GdbDebugger(vmlinux))
        except DwarfMismatch as error:
            self._notes.append(missing(error))
            return running

    def _forget(self) -> None:
        """All but the memory itself: it knows which mode is still to be put back."""
        self._cache = self._kernel = None
        self._connection = ""
        self._notes.clear()

    def _ran(self, event: object) -> None:
        if self._cache is not None:
            self._cache.drop()
        if self._kernel is not None:
            self._kernel.forget()
        self._dropped()

    def _changed(self, event: object) -> None:
        self._forget()


def _banner(kernel: LinuxKernel | DwarfKernel) -> bytes:
    """The kernel's version text where it should be; b"" if it is not there (any more)."""
    try:
        return kernel.read(kernel.symbols.address("linux_banner"), 64)
    except (MemoryUnreadable, SymbolMissing):
        return b""


def _cr3s() -> tuple[int, ...]:
    """CR3 of the selected CPU, if the stub gives it."""
    try:
        return (int(gdb.parse_and_eval("$cr3")) & ((1 << 64) - 1),)
    except gdb.error:
        return ()


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """Tells on a terminal how far a search is, on a line that it wipes at the end."""
    if not os.isatty(2):
        yield None
        return
    try:
        yield lambda what, done, total: _tell(f"{what}: {done >> 20} of {total >> 20} MiB")
    finally:
        _tell("")


def _tell(text: str) -> None:
    gdb.write(f"\r{text:60}\r", gdb.STDERR)
    gdb.flush(gdb.STDERR)


def _check_target(where: str) -> None:
    if not where:
        raise NeptError("not attached", "Attach to QEMU's gdb stub: target remote HOST:PORT")
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


def _extent(memory: QemuMemory) -> str:
    if not memory.ranges:
        return "; the extent of RAM is not known (no monitor)"
    total = sum(one.end - one.start for one in memory.ranges) >> 20
    return f", {total} MiB of RAM and ROM"


class GdbRunning:
    """gdb's target let run to places in the kernel (target.running.Running), by breakpoints of our
    own, which gdb neither lists nor announces.

    Hardware breakpoints, since a software one is an instruction in the target's memory, which its
    stub writes; where the stub has none, software ones.  `before` is called before each run.
    """

    def __init__(self, before: Callable[[], None]) -> None:
        self._before = before
        self._points: dict[KernelVirt, gdb.Breakpoint] = {}
        self._kind = gdb.BP_HARDWARE_BREAKPOINT
        self._stopped: Any = None
        self._why = ""

    def __enter__(self) -> GdbRunning:
        events: Any = gdb.events
        events.stop.connect(self._stops)
        return self

    def __exit__(self, *exception: object) -> None:
        """No breakpoint stays, whatever comes in between."""
        events: Any = gdb.events
        interrupted: KeyboardInterrupt | None = None
        while self._points:
            try:
                self._keep(())
            except KeyboardInterrupt as error:
                interrupted = error
        events.stop.disconnect(self._stops)
        if interrupted:
            raise interrupted

    @property
    def why(self) -> str:
        return self._why

    def run_to(self, places: Collection[KernelVirt]) -> KernelVirt | None:
        self._before()
        self._why = ""
        try:
            self._continue(places)
        except gdb.error as error:
            if self._kind == gdb.BP_BREAKPOINT or "breakpoint" not in str(error):
                raise _gone(error) from None
            self._kind = gdb.BP_BREAKPOINT
            self._keep(())
            self._continue(places)
        if not connected():
            raise TargetGone("the target has ended", "Attach again: target remote HOST:PORT")
        here = KernelVirt(self.register("rip"))
        if here in places and getattr(self._stopped, "stop_signal", "") in ("", "SIGTRAP"):
            return here
        self._why = self._reason(here)
        return None

    def register(self, name: str) -> int:
        try:
            return int(gdb.parse_and_eval(f"(unsigned long)${name}")) & ((1 << 64) - 1)
        except gdb.error as error:
            raise _gone(error) from None

    def _continue(self, places: Collection[KernelVirt]) -> None:
        self._keep(places)
        for place in places:
            if place not in self._points:
                self._points[place] = gdb.Breakpoint(f"*{place:#x}", type=self._kind, internal=True)
                self._points[place].silent = True
        gdb.execute("continue", to_string=True)

    def _keep(self, places: Collection[KernelVirt]) -> None:
        for place in [place for place in self._points if place not in places]:
            self._points[place].delete()
            del self._points[place]

    def _stops(self, event: object) -> None:
        self._stopped = event

    def _reason(self, here: int) -> str:
        signal = getattr(self._stopped, "stop_signal", "")
        if signal == "SIGINT":
            return "interrupted"
        hit = [str(one.number) for one in getattr(self._stopped, "breakpoints", ())]
        if hit:
            return f"breakpoint {', '.join(hit)} at {here:#x}"
        return f"the target stopped at {here:#x} ({signal or 'no signal'})"
