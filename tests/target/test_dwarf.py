# SPDX-License-Identifier: GPL-2.0-or-later
"""Types and symbols of a vmlinux, from a debugger made by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from gdb_nept.address import KernelVirt
from gdb_nept.errors import MemberMissing, SymbolMissing, TypeMissing
from gdb_nept.target.debugger import DebuggedTypes, ctype
from gdb_nept.target.dwarf import (
    DwarfMismatch,
    DwarfSymbols,
    DwarfTypes,
    kaslr_offset,
)
from gdb_nept.target.ports import CType


@dataclass
class FakeField:
    name: str | None
    type: Any = None
    bitpos: int = 0
    bitsize: int = 0
    enumval: int = 0


@dataclass
class FakeType:
    kind: str
    sizeof: int
    name: str | None = None
    tag: str | None = None
    inner: Any = None
    count: int = 0
    members: list[FakeField] = field(default_factory=list)

    def strip_typedefs(self) -> FakeType:
        return self.inner.strip_typedefs() if self.kind == "typedef" else self

    def unqualified(self) -> FakeType:
        return self

    def target(self) -> FakeType:
        assert isinstance(self.inner, FakeType)
        return self.inner

    def range(self) -> tuple[int, int]:
        return 0, self.count - 1

    def fields(self) -> list[FakeField]:
        return self.members


U64 = FakeType("int", 8, "unsigned long")
S32 = FakeType("int", 4, "int")
GPA = FakeType("typedef", 8, "gpa_t", inner=U64)
STATE = FakeType("enum", 4, tag="state", members=[FakeField("OFF"), FakeField("ON", enumval=1)])
UNION = FakeType("union", 8, members=[FakeField("word", U64), FakeField("half", S32)])
NODE = FakeType("struct", 64, tag="node")
NODE.members = [
    FakeField("address", GPA),
    FakeField(None, UNION, bitpos=64),
    FakeField("low", S32, bitpos=128, bitsize=3),
    FakeField("state", STATE, bitpos=160),
    FakeField("next", FakeType("pointer", 8, inner=NODE), bitpos=192),
    FakeField("slots", FakeType("array", 24, inner=U64, count=3), bitpos=256),
    FakeField("rest", FakeType("array", 0, inner=U64), bitpos=448),
]


class FakeDebugger:
    file = "vmlinux"

    def __init__(self, symbols: dict[str, int] | None = None) -> None:
        self.symbols = symbols or {}

    def struct(self, name: str) -> FakeType | None:
        return NODE if name == "node" else None

    def kind(self, found: Any) -> str:
        return str(found.kind)

    def signed(self, found: Any) -> bool:
        return found is S32

    def symbol(self, name: str) -> int | None:
        return self.symbols.get(name)

    def name_at(self, address: int) -> str | None:
        return next((name for name, place in self.symbols.items() if place == address), None)


class Running:
    """The running kernel's own types and symbols."""

    origin = "BTF"

    def __init__(self, symbols: dict[str, int] | None = None) -> None:
        self.symbols = symbols or {}

    def struct(self, name: str, module: str | None = None) -> CType:
        if name == "vcpu_vmx" and module == "kvm_intel":
            return CType("struct", name, 8)
        raise TypeMissing(name, self.origin)

    def address(self, name: str, module: str | None = None) -> KernelVirt:
        try:
            return KernelVirt(self.symbols[name])
        except KeyError:
            raise SymbolMissing(name, self.origin) from None

    def name_at(self, address: KernelVirt) -> str | None:
        return None


@pytest.fixture
def node() -> CType:
    return DwarfTypes(DebuggedTypes(FakeDebugger()), Running()).struct("node")


def test_members_anonymous_ones_looked_through(node: CType) -> None:
    assert (node.kind, node.name, node.size) == ("struct", "node", 64)
    assert node.member("address").type.kind == "int"
    assert node.member("word").offset == node.member("half").offset == 8
    assert node.member("half").type.signed
    assert not node.member("word").type.signed
    assert node.names is not None
    assert "half" in node.names()


def test_a_bit_field(node: CType) -> None:
    low = node.member("low")
    assert (low.bit_offset, low.bit_size) == (128, 3)


def test_pointers_are_followed_late(node: CType) -> None:
    assert node.member("next").type.element().member("next").offset == 24


def test_arrays(node: CType) -> None:
    slots = node.member("slots").type
    assert (slots.kind, slots.count, slots.element().size) == ("array", 3, 8)
    assert node.member("rest").type.count == 0


def test_enumerators() -> None:
    assert ctype(FakeDebugger(), STATE).enumerators == (("OFF", 0), ("ON", 1))


def test_a_missing_member_is_named(node: CType) -> None:
    with pytest.raises(MemberMissing, match="struct node has no member 'vcpus'"):
        node.member("vcpus")


def test_what_vmlinux_lacks_comes_from_the_running_kernel() -> None:
    types = DwarfTypes(DebuggedTypes(FakeDebugger()), Running())
    assert types.struct("vcpu_vmx", "kvm_intel").size == 8
    with pytest.raises(TypeMissing):
        types.struct("nonsense")
    assert "vmlinux" in types.origin
    assert "BTF" in types.origin


LINKED = {"_stext": 0xFFFFFFFF81000000, "init_task": 0xFFFFFFFF82A00000}


def test_kaslr_moves_symbols_of_vmlinux_only() -> None:
    running = Running({name: place + 0x5000000 for name, place in LINKED.items()} | {"vm_list": 7})
    debugger = FakeDebugger(LINKED)
    offset = kaslr_offset(running, debugger)
    assert offset == 0x5000000
    symbols = DwarfSymbols(debugger, running, offset)
    assert symbols.address("init_task") == 0xFFFFFFFF87A00000
    assert symbols.address("vm_list") == 7
    assert symbols.address("vm_list", "kvm") == 7
    assert "0x5000000" in symbols.origin


@pytest.mark.parametrize(
    "running",
    [
        {"_stext": LINKED["_stext"], "init_task": LINKED["init_task"] + 0x40},
        {"_stext": LINKED["_stext"]},
        {},
    ],
)
def test_another_build_is_refused(running: dict[str, int]) -> None:
    with pytest.raises(DwarfMismatch, match="not the vmlinux of the running kernel"):
        kaslr_offset(Running(running), FakeDebugger(LINKED))
