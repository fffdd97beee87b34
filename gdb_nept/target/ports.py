# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rest of the project asks of a debugger or a dump: types, symbols, memory of a kernel.

Two providers answer these ports: BTF and kallsyms out of the kernel's own memory
(`target/linux.py`), and gdb with the DWARF of a vmlinux (`target/gdb/debugger.py`).  Nobody above
this file knows which one it was, except to tell the user (`origin`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Callable, Protocol

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.errors import MemberMissing, MemoryUnreadable, NeptError
from gdb_nept.memory.budget import charge
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.target.pagetable import Translation

LONGEST_FIELD = 1 << 16  # bytes, of those that are read as one


@dataclass(frozen=True)
class Member:
    """A member of a structure, seen from the structure that was asked (anonymous ones are looked
    through).  `bit_size` is 0 unless it is a bit field; `bit_offset` counts from the start."""

    name: str
    bit_offset: int
    bit_size: int
    type: CType

    @property
    def offset(self) -> int:
        return self.bit_offset // 8


@dataclass(frozen=True)
class CType:
    """A C type with typedefs and qualifiers taken off.

    kind: "int" | "enum" | "pointer" | "array" | "struct" | "union" | "function" | "void" | "float"
    `target` (pointer, array) and `lookup` (struct, union) are called late, since types are cyclic.
    `lookup(name)` returns the Member or raises MemberMissing.
    """

    kind: str
    name: str
    size: int
    signed: bool = False
    count: int = 0  # of an array's elements, or a function's parameters
    target: Callable[[], CType] | None = field(default=None, compare=False, repr=False)
    lookup: Callable[[str], Member] | None = field(default=None, compare=False, repr=False)
    names: Callable[[], tuple[str, ...]] | None = field(default=None, compare=False, repr=False)
    enumerators: tuple[tuple[str, int], ...] = ()
    _members: dict[str, Member | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def member(self, name: str) -> Member:
        """The member called `name`; a dotted path descends.  Raises MemberMissing."""
        return self._members.get(name) or self._find(name) or self._look_up(name)

    def _find(self, name: str) -> Member | None:
        """None if there is none.  A build's types stay as they are: each is looked up once."""
        if name not in self._members:
            try:
                self._members[name] = self._look_up(name)
            except MemberMissing:
                self._members[name] = None
        return self._members[name]

    def _look_up(self, name: str) -> Member:
        first, _, rest = name.partition(".")
        if self.lookup is None:
            raise MemberMissing(self.name or self.kind, first)
        found = self.lookup(first)
        if not rest:
            return found
        inner = found.type.member(rest)
        return Member(name, found.bit_offset + inner.bit_offset, inner.bit_size, inner.type)

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def element(self) -> CType:
        """What a pointer points to, or an array is made of."""
        if self.target is None:
            raise NeptError(f"type '{self.name or self.kind}' is neither pointer nor array")
        return self.target()


class Types(Protocol):
    """The C types of a kernel; `origin` says in words where they are from."""

    @property
    def origin(self) -> str: ...

    def struct(self, name: str, module: str | None = None) -> CType:
        """struct or union `name`; of a module's own types first if `module` is given (then
        vmlinux).  Raises TypeMissing."""
        ...


class Symbols(Protocol):
    """The symbols of a kernel; `origin` says in words where they are from."""

    @property
    def origin(self) -> str: ...

    def address(self, name: str, module: str | None = None) -> KernelVirt:
        """Raises SymbolMissing.  Without `module`: vmlinux first, then every module."""
        ...

    def name_at(self, address: KernelVirt) -> str | None:
        """'symbol+0x12' or 'symbol+0x12 [module]', or None."""
        ...


@dataclass(frozen=True)
class Module:
    """A loaded module: its name with underscores, and where its core lies."""

    name: str
    base: KernelVirt
    size: int


class Kernel(Protocol):
    """One running or dumped Linux kernel."""

    @property
    def release(self) -> str: ...

    @property
    def types(self) -> Types: ...

    @property
    def symbols(self) -> Symbols: ...

    @property
    def physical(self) -> PhysicalMemory[HostPhys]: ...

    def read(self, address: KernelVirt, size: int) -> bytes:
        """Kernel virtual memory; raises MemoryUnreadable."""
        ...

    def to_physical(self, address: KernelVirt) -> HostPhys:
        """Raises MemoryUnreadable where nothing is mapped."""
        ...

    def translate_user(self, pgd: KernelVirt, address: HostVirt) -> Translation:
        """The walk of a process's address from its `mm->pgd`; raises MemoryUnreadable only if
        `pgd` is no kernel address."""
        ...

    def modules(self) -> tuple[Module, ...]: ...

    @property
    def module_problem(self) -> str:
        """Why `modules` may be incomplete, or ''."""
        ...


@dataclass(eq=False)  # not frozen: that costs three times as much, and a stop makes a hundred
class Value:
    """An object of a C type in kernel memory, read only when asked: drgn's idea, our few needs.

    `bit_offset`/`bit_size` are set for a bit field.  All reads may raise MemoryUnreadable.
    """

    kernel: Kernel
    type: CType
    address: KernelVirt
    bit_offset: int = 0
    bit_size: int = 0

    def member(self, name: str) -> Value:
        """The member `name` (dotted path allowed).  Raises MemberMissing."""
        found = self.type.member(name)
        address = KernelVirt(self.address + found.bit_offset // 8)
        if found.bit_size:
            return Value(self.kernel, found.type, address, found.bit_offset % 8, found.bit_size)
        return Value(self.kernel, found.type, address)

    def first(self, *names: str) -> Value:
        """The first member of `names` that this kernel has: newest name first."""
        for name in names:
            if self.type.has(name):
                return self.member(name)
        raise MemberMissing(self.type.name or self.type.kind, "' or '".join(names))

    def has(self, name: str) -> bool:
        return self.type.has(name)

    def index(self, number: int) -> Value:
        element = self.type.element()
        return Value(self.kernel, element, KernelVirt(self.address + number * element.size))

    def number(self) -> int:
        """The number (integer, enum, pointer, bit field), sign extended if the type is signed."""
        if self.bit_size:
            length = (self.bit_offset + self.bit_size + 7) // 8
            raw = int.from_bytes(_read(self.kernel, self.address, length), "little")
            return (raw >> self.bit_offset) & ((1 << self.bit_size) - 1)
        return int.from_bytes(self.raw(), "little", signed=self.type.signed)

    def pointer(self) -> KernelVirt:
        return KernelVirt(self.number())

    def deref(self) -> Value:
        """What this pointer points to (not read yet)."""
        return Value(self.kernel, self.type.element(), self.pointer())

    def raw(self) -> bytes:
        return _read(self.kernel, self.address, self.type.size)

    def string(self) -> str:
        """A char array up to its NUL."""
        return self.raw().split(b"\0", 1)[0].decode("utf-8", "replace")


def object_at(
    kernel: Kernel, address: KernelVirt, struct_name: str, module: str | None = None
) -> Value:
    """The `struct_name` at `address`; raises TypeMissing."""
    return Value(kernel, kernel.types.struct(struct_name, module), address)


def container_of(
    kernel: Kernel, address: KernelVirt, struct_name: str, member: str, module: str | None = None
) -> Value:
    """The structure whose `member` lies at `address`; raises TypeMissing, MemberMissing."""
    found = kernel.types.struct(struct_name, module)
    return Value(kernel, found, KernelVirt(address - found.member(member).offset))


def read_pointer(kernel: Kernel, address: KernelVirt) -> KernelVirt:
    return KernelVirt(struct.unpack("<Q", _read(kernel, address, 8))[0])


def _read(kernel: Kernel, address: KernelVirt, size: int) -> bytes:
    """A field of a structure, charged to the command that reads it; one that types make longer than
    any is not read."""
    if size > LONGEST_FIELD:
        raise MemoryUnreadable(address, size, "no field is so long, the types are damaged")
    charge(address, size)
    return kernel.read(address, size)
