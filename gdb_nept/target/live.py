# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel of the machine that a debugger is connected to: found when first asked, and kept until
the target changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Callable, Union

from gdb_nept.address import HostPhys
from gdb_nept.errors import BadInput, MemoryUnreadable, NeptError, NoKernel, SymbolMissing
from gdb_nept.memory.reader import PageCache
from gdb_nept.memory.transport import NEAR
from gdb_nept.target.attachment import Attachment, Missing, lacking, missing
from gdb_nept.target.debugged import DebuggedKernel
from gdb_nept.target.debugger import Debugger
from gdb_nept.target.dwarf import DwarfKernel, DwarfMismatch, with_dwarf
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.linux import attach
from gdb_nept.target.live_memory import LiveMemory
from gdb_nept.target.ports import Kernel
from gdb_nept.target.remote import Remote

AGAIN = "(As it was found before; nept-reload looks again.)"

Found = Union[LinuxKernel, DwarfKernel, DebuggedKernel]


class LiveTarget:
    """`dropped` is called when the target ran: what was read is stale then.

    `changes` is given what tells that it ran, or was written to; that is seen to at the next read,
    where Ctrl-C ends the command and cannot leave what is stale."""

    def __init__(self, remote: Remote, dropped: Callable[[], None]) -> None:
        self.remote = remote
        self.memory = LiveMemory(remote)
        self.changes: deque[object] = deque(maxlen=1)
        self._dropped = dropped
        self._scope: ExitStack | None = None
        self._kernel: Found | None = None
        self._banner = b""
        self._notes: list[Missing] = []
        self._btf_files: tuple[Path, ...] = ()
        self._failed: tuple[PageCache[HostPhys], NeptError] | None = None

    @contextmanager
    def command(self) -> Iterator[None]:
        """One command, or one within another: memory is held from its first read to its end."""
        with suppress(NeptError):  # the command itself tells what is wrong with the target
            self.memory.settle()
        with ExitStack() as scope:
            outer, self._scope = self._scope, scope
            try:
                yield
            finally:
                self._scope = outer

    def let_go(self) -> None:
        """The machine is about to run within a command: memory is held again at its next read."""
        if self._scope is not None:
            self._scope.close()

    def take_types_from(self, files: tuple[Path, ...]) -> None:
        """BTF, .ko or vmlinux files for types that memory lacks: the kernel is looked at anew."""
        self._btf_files = files
        self._kernel = self._failed = None
        self._dropped()

    def read_memory_by(self, kind: str) -> None:
        """One of memory.transport.KINDS, or `auto`.  Raises BadInput."""
        self.memory.want(kind)
        self.forget()

    def read_memory_from(self, file: Path | None) -> None:
        """The file that holds the machine's memory, where gdb sees it."""
        self.memory.name_file(file)
        self.forget()

    def kernel(self) -> Found:
        """Raises NeptError where nothing is attached, or no Linux is found in it."""
        cache, ram, cr3s = self._physical()
        if self._kernel is not None and _banner(self._kernel) != self._banner:
            self._kernel = None  # the machine was booted again
        if self._kernel is None:
            self._notes.clear()
            self._kernel = self._found(cache, ram, cr3s)
            self._banner = _banner(self._kernel)
        return self._kernel

    def _found(self, cache: PageCache[HostPhys], ram: list[range], cr3s: tuple[int, ...]) -> Found:
        """A search that failed is not made again, as long as the target stands as it does."""
        if self._failed is not None and self._failed[0] is cache:
            before = self._failed[1]
            raise NoKernel(before.message, f"{before.advice}  {AGAIN}".strip())
        try:
            return self._find(cache, ram, cr3s)
        except (NoKernel, MemoryUnreadable, SymbolMissing) as error:
            self._failed = cache, error
            raise

    def known(self) -> Found | None:
        """The kernel that was found before, if it is seen to run; nothing is searched for, and
        nothing forgotten."""
        if self._kernel is None or self.memory.choice is None:
            return None
        self._physical()
        return self._kernel if _banner(self._kernel) == self._banner else None

    def attachment(self) -> Attachment:
        try:
            kernel = self.kernel()
        except NeptError as error:
            return self._attached(None, (missing(error),))
        running = kernel.running if isinstance(kernel, DwarfKernel) else kernel
        return self._attached(kernel, (*self._notes, *lacking(running)), running.circumstances)

    def _attached(
        self, kernel: Kernel | None, problems: tuple[Missing, ...], notes: tuple[str, ...] = ()
    ) -> Attachment:
        where, choice = self.remote.connected(), self.memory.choice
        notes += tuple(filter(None, (self.memory.owes, self.memory.found_on)))
        if choice is None:
            return Attachment(where, "", kernel, problems, notes)
        used = choice.transport
        return Attachment(
            target=where,
            memory=used.describe(),
            kernel=kernel,
            missing=problems,
            notes=notes,
            transport=used.kind,
            refused=choice.refusals,
        )

    def doubt(self) -> None:
        """A command did not look at all there is: the next one reads the lists anew."""
        if self._kernel is not None:
            self._kernel.forget()
        self._dropped()

    def ran(self) -> None:
        """The machine ran, or somebody wrote to its memory.  While it has no kernel, its firmware
        may have moved ROM and RAM, and what was empty, and so proved nothing, may be filled."""
        if self._kernel is None:
            self.memory.forget()
        else:
            self.memory.drop()
            self._kernel.forget()
        self._dropped()

    def forget(self) -> None:
        """Another machine: everything is looked for anew."""
        self.memory.forget()
        self.forget_kernel()

    def forget_kernel(self) -> None:
        """Other files in the debugger."""
        self._kernel = self._failed = None
        self._notes.clear()

    def _find(self, cache: PageCache[HostPhys], ram: list[range], cr3s: tuple[int, ...]) -> Found:
        vmlinux = self.remote.vmlinux()
        if vmlinux is not None and self.memory.virtual_only:
            return DebuggedKernel(vmlinux, self.remote.stub, cache)
        running = self._attach(cache, ram, cr3s)
        return running if vmlinux is None else self._prefer_dwarf(running, vmlinux)

    def _attach(
        self, cache: PageCache[HostPhys], ram: list[range], cr3s: tuple[int, ...]
    ) -> LinuxKernel:
        """A file of types that does not fit this kernel is left out and told: the kernel is there
        all the same."""
        choice = self.memory.choice
        near = choice is not None and choice.transport.kind in NEAR

        def find(files: tuple[Path, ...]) -> LinuxKernel:
            return attach(cache, ram, btf_files=files, cr3s=cr3s, near=near)

        try:
            return find(self._btf_files)
        except BadInput as error:
            self._notes.append(missing(error))
            return find(())

    def physical(self) -> tuple[PageCache[HostPhys], list[range]]:
        """The memory, held for this command, and its ranges, whatever runs on it.  Raises NeptError
        where nothing is attached."""
        cache, ranges, _ = self._physical()
        return cache, ranges

    def _physical(self) -> tuple[PageCache[HostPhys], list[range], tuple[int, ...]]:
        """The memory, held for this command, its ranges, and CR3 of the CPU.  That is read before,
        since a debugger may read the stack along with a register, which is at a virtual address."""
        if self.changes:
            self.ran()
            self.changes.clear()
        transport, cache = self.memory.ready()
        if self._kernel is not None and self._kernel.physical is not cache:
            self._kernel = None  # of another connection
        cr3s = self.remote.cr3s() if self._kernel is None else ()
        if self._scope is not None:
            self._scope.enter_context(transport.held())
        return cache, [range(one.start, one.end) for one in transport.ranges], cr3s

    def _prefer_dwarf(self, running: LinuxKernel, vmlinux: Debugger) -> Found:
        try:
            return with_dwarf(running, vmlinux)
        except DwarfMismatch as error:
            self._notes.append(missing(error))
            return running


def _banner(kernel: Found) -> bytes:
    """The kernel's version text where it should be; b"" if it is not there (any more)."""
    try:
        return kernel.read(kernel.symbols.address("linux_banner"), 64)
    except (MemoryUnreadable, SymbolMissing):
        return b""
