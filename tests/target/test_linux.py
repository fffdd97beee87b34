# SPDX-License-Identifier: GPL-2.0-or-later
"""A real kernel, out of a snapshot of its memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.errors import (
    MemberMissing,
    MemoryUnreadable,
    SymbolMissing,
    TypeMissing,
)
from gdb_nept.memory.raw import RawMemory
from gdb_nept.target import linux
from gdb_nept.target.kallsyms import SymbolTable
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.kernel_symbols import KernelSymbols
from gdb_nept.target.linux import attach, searched_tables
from gdb_nept.target.locate import Search
from gdb_nept.target.ports import CType, Value, container_of, object_at
from gdb_nept.target.vmcoreinfo import Vmcoreinfo, parse

#: How many symbols the build has of which OFFSETS tells.
SYMBOLS = {"6.1.0-52-cloud-amd64": 87222}
OFFSETS = Path(__file__).parent.parent / "data" / "btf_offsets.json"


class Counted:
    """Counts what is read."""

    def __init__(self, memory: RawMemory[HostPhys]) -> None:
        self.memory = memory
        self.bytes_read = 0

    def read(self, address: HostPhys, size: int) -> bytes:
        self.bytes_read += size
        return self.memory.read(address, size)


def facts(snapshot: Path, name: str) -> Iterator[Any]:
    for fact in json.loads((snapshot / "facts.json").read_text()):
        if name in fact:
            yield fact[name]


def cr3(snapshot: Path) -> int:
    return int(json.loads((snapshot / "registers.json").read_text())["cr3"], 16)


@pytest.mark.bochs
def test_symbols_are_where_the_kernel_itself_said(snapshot: Path, kernel: LinuxKernel) -> None:
    [told] = facts(snapshot, "kallsyms")
    for name, address in told.items():
        found = kernel.symbols.address(name)
        assert found == int(address, 16), name
    assert kernel.symbols.address("vm_list", "kvm") == int(told["vm_list"], 16)
    assert kernel.symbols.name_at(kernel.symbols.address("vm_list")) == "vm_list [kvm]"
    schedule = kernel.symbols.address("schedule")
    assert kernel.symbols.name_at(KernelVirt(schedule + 5)) == "schedule+0x5"
    [modules] = facts(snapshot, "modules")
    assert {each.name: each.base for each in kernel.modules()} == {
        name: int(base, 16) for name, base in modules.items()
    }
    if kernel.release in SYMBOLS:
        assert f"{SYMBOLS[kernel.release]} symbols" in kernel.symbols.origin
    with pytest.raises(SymbolMissing):
        kernel.symbols.address("no_such_symbol")
    with pytest.raises(SymbolMissing, match="not loaded"):
        kernel.symbols.address("no_such_symbol", "kvm_amd")


@pytest.mark.bochs
def test_every_offset_equals_pahole(kernel: LinuxKernel) -> None:
    if kernel.release not in SYMBOLS:
        pytest.skip(f"the tables of offsets are of {', '.join(SYMBOLS)}, not {kernel.release}")
    for name, known in json.loads(OFFSETS.read_text())["structs"].items():
        found = kernel.types.struct(name, known["module"] or None)
        assert found.size == known["size"], name
        for field, (offset, size) in known["fields"].items():
            assert (offset, size) in places(found, field), f"{name}.{field}"
    assert "kvm: module BTF" in kernel.types.origin
    with pytest.raises(TypeMissing):
        kernel.types.struct("no_such", "kvm")


def places(holder: CType, field: str) -> set[tuple[int, int]]:
    """Where `field` lies; the members of anonymous structures are listed without their holder."""
    try:
        found = holder.member(field)
    except MemberMissing:
        assert holder.names
        members = [holder.member(name) for name in holder.names()]
        inner = [m for m in members if m.type.lookup and m.type.has(field)]
        return {(m.offset + at, size) for m in inner for at, size in places(m.type, field)}
    if found.bit_size:  # pahole gives the storage unit
        return {(found.bit_offset // 8 // found.type.size * found.type.size, found.type.size)}
    return {(found.offset, found.type.size)}


@pytest.mark.bochs
def test_arithmetic_equals_the_walk(kernel: LinuxKernel) -> None:
    symbols = [kernel.symbols.address(name) for name in ("init_task", "linux_banner", "schedule")]
    direct = [
        KernelVirt(kernel.layout.page_offset_base + at) for at in (0x1000, 0x1234567, 1 << 28)
    ]
    for address in symbols + direct:
        found = kernel.translate(address)
        assert found.physical == kernel.to_physical(address)
        assert len(found.steps) in (kernel.levels - 1, kernel.levels)
    banner = kernel.read(kernel.symbols.address("linux_banner"), 64)
    assert banner.startswith(f"Linux version {kernel.release} ".encode())
    with pytest.raises(MemoryUnreadable):
        kernel.read(KernelVirt(0xFFFFFFFF00000000), 8)
    with pytest.raises(MemoryUnreadable):
        kernel.read(KernelVirt(8), 8)


@pytest.mark.bochs
def test_module_memory_in_pieces_equals_whole(kernel: LinuxKernel) -> None:
    start, size = kernel.modules()[0].base, 5 * 4096
    whole = kernel.read(start, size)
    assert whole[100:9000] == kernel.read(KernelVirt(start + 100), 8900)
    assert whole == b"".join(kernel.read(KernelVirt(start + at), 512) for at in range(0, size, 512))


@pytest.mark.bochs
def test_search_finds_what_vmcoreinfo_names(
    memory: RawMemory[HostPhys], kernel: LinuxKernel
) -> None:
    located = Search(memory, [range(memory.size)]).find()
    named = linux.named_tables(memory, located)
    table, tables = searched_tables(memory, located)
    if "kallsyms_names" not in located.info.symbols:
        pytest.skip("vmcoreinfo names no tables of kallsyms before 6.0")
    assert named is not None
    assert (tables.names, tables.entries, tables.count) == (named.names, named.entries, named.count)
    assert list(table.addresses) == list(decoded(kernel).addresses)
    assert list(table.names) == list(decoded(kernel).names)


def decoded(kernel: LinuxKernel) -> SymbolTable:
    """Its symbols, which were in no cache."""
    assert isinstance(kernel.symbols.vmlinux, SymbolTable)
    return kernel.symbols.vmlinux


@pytest.mark.bochs
@pytest.mark.parametrize("lost", ["kallsyms", "phys_base", "all"])
def test_kernels_that_tell_less(
    memory: RawMemory[HostPhys],
    kernel: LinuxKernel,
    lost: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """vmcoreinfo as before 6.0, as before 4.10, and none at all."""

    def poorer(data: bytes) -> Vmcoreinfo | None:
        info = parse(data) if lost != "all" else None
        if info is None:
            return None
        symbols = {name: at for name, at in info.symbols.items() if "kallsyms" not in name}
        if lost == "kallsyms":
            return replace(info, symbols=symbols)
        symbols["phys_base"] = kernel.symbols.address("phys_base")
        return replace(info, symbols=symbols, numbers={}, words={"OSRELEASE": info.release})

    monkeypatch.setattr("gdb_nept.target.vmcoreinfo.parse", poorer)
    found = attach(memory, memory.size, cache=None)
    assert (found.release, found.phys_base) == (kernel.release, kernel.phys_base)
    assert list(decoded(found).addresses) == list(decoded(kernel).addresses)
    assert "found by search" in found.symbols.origin
    assert found.symbols.address("vm_list", "kvm") == kernel.symbols.address("vm_list", "kvm")
    assert found.build_id == kernel.build_id or found.build_id.startswith("uts-")
    assert found.kaslr_offset == kernel.kaslr_offset or lost == "phys_base"


@pytest.mark.bochs
def test_a_cr3_spares_the_search(snapshot: Path, memory: RawMemory[HostPhys]) -> None:
    counted = Counted(memory)
    attach(counted, memory.size, cr3s=(0x1234, cr3(snapshot)), cache=None)
    assert counted.bytes_read < 12 << 20


@pytest.mark.bochs
def test_the_second_attach_is_quick_and_the_same(
    snapshot: Path, memory: RawMemory[HostPhys], tmp_path: Path
) -> None:
    first = attach(memory, memory.size, cache=tmp_path)
    size = first.types.struct("kvm").size
    counted = Counted(memory)
    second = attach(counted, memory.size, cr3s=(cr3(snapshot),), cache=tmp_path)
    assert counted.bytes_read < 64 << 10
    assert second.found_by == "its build ID, which the cache knows"
    assert second.types.struct("kvm").size == size
    assert "cache" in second.symbols.origin
    assert "cache" in second.types.origin
    table, kept = decoded(first), second.symbols.vmlinux
    assert len(kept) == len(table)
    for name in table.names[::7]:
        assert kept.address(name) == table.address(name), name
    for address in table.addresses[::7]:
        assert kept.nearest(address + 1) == table.nearest(address + 1)
    assert second.layout == first.layout
    assert second.build_id == first.build_id


@pytest.mark.bochs
def test_users_of_a_process_translate_as_pagemap_says(snapshot: Path, kernel: LinuxKernel) -> None:
    pages = [page for told in facts(snapshot, "pagemap") for page in told]
    pids = {
        fact["pid"] for fact in json.loads((snapshot / "facts.json").read_text()) if "vm" in fact
    }
    if not pages:
        pytest.skip("this snapshot has no VM with a pagemap")
    [pid] = pids
    pgd = task(kernel, pid).member("mm").deref().member("pgd").pointer()
    for page in pages:
        found = kernel.translate_user(pgd, HostVirt(int(page["hva"], 16)))
        frame = int(page["pfn"], 16)
        assert (found.physical or 0) >> 12 == frame, (page, found)
    nothing = kernel.translate_user(pgd, HostVirt(0x1000))
    assert nothing.physical is None
    assert "not present" in nothing.why


def task(kernel: LinuxKernel, pid: int) -> Value:
    first = object_at(kernel, kernel.symbols.address("init_task"), "task_struct")
    each = first
    for _ in range(1000):
        each = container_of(kernel, each.member("tasks.next").pointer(), "task_struct", "tasks")
        if each.member("pid").number() == pid:
            return each
    raise AssertionError(f"no task {pid}")


def test_a_symbol_table_without_modules() -> None:
    symbols = KernelSymbols(
        SymbolTable(("_stext", "_end"), (0xFFFFFFFF81000000, 0xFFFFFFFF82000000)),
        "kallsyms",
        tuple,
        lambda loaded: SymbolTable((), ()),
    )
    with pytest.raises(SymbolMissing, match="KALLSYMS_ALL"):
        symbols.address("modules")
    assert symbols.name_at(KernelVirt(0xFFFFFFFF81000010)) == "_stext+0x10"
    assert symbols.name_at(KernelVirt(0xFFFFFFFF83000000)) is None
    assert symbols.name_at(KernelVirt(0x1000)) is None
