# SPDX-License-Identifier: GPL-2.0-or-later
"""A host: live in gdb, or in a dump."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType

from gdb_nept.address import HostPhys
from gdb_nept.api.vcpu import Vcpu
from gdb_nept.api.vm import Vm
from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.errors import BadInput, MemoryUnreadable
from gdb_nept.memory.budget import ENTRIES
from gdb_nept.nested.owners import Owners, owners
from gdb_nept.nested.session import Session
from gdb_nept.walk.runs import Unread


class Target:
    """A host, live or in a dump: a context manager, within which it is held for reading."""

    def __init__(
        self, session: Session, name: str, held: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.session = session
        self.name = name
        self._held = held
        self._scopes: list[AbstractContextManager[None]] = []

    def __enter__(self) -> Target:
        scope = self._held()
        scope.__enter__()
        self._scopes.append(scope)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scopes.pop().__exit__(kind, error, trace)

    @property
    def release(self) -> str:
        """Of L0's kernel: "6.1.0-37-amd64"."""
        return self.session.kernel.release

    def vms(self) -> Iterator[Vm]:
        """The VMs, oldest first.  Raises NoGuest where there is no KVM."""
        return (Vm(self.session, one) for one in self.session.vms().vms)

    def vcpu(self, vm: int | None = None, vcpu: int | None = None) -> Vcpu:
        """One vCPU by its numbers in nept-vms; without them the one on which L2 is active, or the
        only one in VMX operation.  Raises NoGuest, which says what there is to choose from."""
        return Vcpu(self.session, self.session.pick(vm, vcpu))

    def read(self, address: HostPhys, size: int) -> bytes | Unread:
        """`size` bytes of the host's physical memory, all of them or none."""
        try:
            return self.session.kernel.physical.read(address, size)
        except MemoryUnreadable as error:
            return Unread(int(address), int(address) + size, error.message, kind=error.kind)

    def owners(self, page: HostPhys, limit: int = ENTRIES) -> Owners:
        """As nept-who: which L1 and L2 physical addresses lead to the page of the host that `page`
        is on, in every VM.  `complete` is False where more than `limit` entries of tables would be
        looked at, and `unread` True where what cannot be read may lead there, too.  Raises NoGuest
        where there is no KVM."""
        return owners(self.session, page, limit)

    def drop(self) -> None:
        """Forget what was read: the target has run."""
        self.session.drop()


def open_dump(path: Path | str, types: Sequence[Path | str] = ()) -> Target:
    """A dump of a host's physical memory, of every kind that `nept --dump` takes.

    `types` are files to take types from where the dump has none, as for --btf.  Raises BadInput for
    a file that is no such dump, NoKernel where no Linux is in it.
    """
    context = DumpContext(Path(path), [Path(one) for one in types])
    return Target(context.session(), f"dump {path}", nullcontext)


def attach() -> Target:
    """What gdb's commands are asked of: what it is attached to, its core, or the dump named by
    nept-dump.  Works inside gdb alone; raises NeptError elsewhere, and where that is no Linux."""
    try:
        from gdb_nept.commands.gdb import registry
    except ImportError:
        raise BadInput("attach() works inside gdb alone", "Without gdb: open_dump(PATH).") from None
    context = registry.register()
    with context.target.command():
        session = context.session()
        name = context.attachment().target

    @contextmanager
    def held() -> Iterator[None]:
        """Memory is held from the first look at the kernel on."""
        with context.target.command():
            context.session()
            yield

    return Target(session, name, held)
