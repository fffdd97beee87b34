# SPDX-License-Identifier: GPL-2.0-or-later
"""A real kernel, out of a snapshot of its memory; and memories that hold none."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.errors import (
    BadInput,
    MemberMissing,
    MemoryUnreadable,
    NoKernel,
    SymbolMissing,
    TypeMissing,
)
from gdb_nept.memory.raw import RawMemory
from gdb_nept.target import kallsyms, linux
from gdb_nept.target.btf_types import BtfReader
from gdb_nept.target.kallsyms import NotKallsyms, SymbolTable
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.kernel_symbols import KernelSymbols
from gdb_nept.target.linux import attach, searched_tables
from gdb_nept.target.locate import Search
from gdb_nept.target.ports import CType, Value, container_of, object_at
from gdb_nept.target.recent import placements
from gdb_nept.target.scan import each_once, image_of, readable
from gdb_nept.target.vmcoreinfo import Vmcoreinfo, parse
from tests.target.kallsyms_writer import STYLES, write
from tests.target.memories import Pieces

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


@pytest.fixture
def memory(snapshot: Path) -> RawMemory[HostPhys]:
    return RawMemory(snapshot / "memory.raw")


@pytest.fixture
def kernel(memory: RawMemory[HostPhys], tmp_path: Path) -> LinuxKernel:
    return attach(memory, memory.size, cache=tmp_path)


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


@pytest.mark.bochs
def test_a_damaged_module_list_gives_what_was_found(
    kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_them = kernel.modules()
    last = kernel.loaded_modules()[-1].value.member("list").address
    whole = kernel.read

    def circle(address: KernelVirt, size: int) -> bytes:
        return last.to_bytes(8, "little") if address == last else whole(address, size)

    def nowhere(address: KernelVirt, size: int) -> bytes:
        return bytes(8) if address == last else whole(address, size)

    for damage, words in ((circle, "circle"), (nowhere, "cannot be followed")):
        kernel.forget()
        monkeypatch.setattr(kernel, "read", damage)
        assert kernel.modules() == all_of_them
        assert [note for note in kernel.notes if words in note.message]


@pytest.mark.bochs
def test_btf_of_a_wrong_file_is_refused(
    memory: RawMemory[HostPhys], kernel: LinuxKernel, tmp_path: Path
) -> None:
    base = kernel.types.vmlinux()
    assert isinstance(base, BtfReader)
    assert base.btf.end > 50_000
    wrong = tmp_path / "vmlinux"
    wrong.write_bytes(b"\x9f\xeb" + bytes(100))
    other = attach(memory, memory.size, btf_files=(wrong,), cache=None)
    with pytest.raises(BadInput, match="another build"):
        other.types.struct("kvm")


@pytest.mark.bochs
def test_a_truncated_image_holds_no_kernel(snapshot: Path, tmp_path: Path) -> None:
    with (snapshot / "memory.raw").open("rb") as file:
        (tmp_path / "cut.raw").write_bytes(file.read(17 << 20))
    cut: RawMemory[HostPhys] = RawMemory(tmp_path / "cut.raw")
    with pytest.raises(NoKernel) as caught:
        attach(cut, cut.size, cache=None)
    assert caught.value.advice


def test_random_memory_holds_no_kernel() -> None:
    noise = Pieces(
        {0: random.Random(3).randbytes(1 << 20), 1 << 24: b"OSRELEASE=%s\n".ljust(1 << 16)}
    )
    steps: list[tuple[str, int, int]] = []
    with pytest.raises(NoKernel, match="damaged vmcoreinfo") as caught:
        attach(
            noise,
            [range(1 << 20), range(1 << 24, 1 << 25)],
            cr3s=(0x1000, 0xFFFFFFFFFFFFFFFF),
            progress=lambda *step: steps.append(step),
            cache=None,
        )
    assert "boot" in caught.value.advice
    assert steps[-1][1] == steps[-1][2]


def test_no_place_is_searched_twice() -> None:
    ranges = [range(16, 24), range(8, 32), range(0, 8), range(4, 40), range(40, 40)]
    found = list(each_once(ranges))
    assert sorted(place for each in found for place in each) == list(range(40))


def test_memory_full_of_texts_like_vmcoreinfo_does_not_hold_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A guest's memory lies in its host's."""
    text = b"OSRELEASE=6.1\nSYMBOL(_stext)=ffffffff81000000\nSYMBOL(phys_base)=ffffffff81e0f010\n"
    memory = Pieces({0: text.ljust(4096, b"\0") * 8192})
    monkeypatch.setattr("gdb_nept.target.locate.MOST_TEXTS", 100)
    monkeypatch.setattr("gdb_nept.target.locate.MOST_BASES", 1000)
    with pytest.raises(NoKernel, match="more texts"):
        attach(memory, 8192 << 12, cache=None)
    assert memory.bytes_read < 3 * 8192 << 12


def test_memory_full_of_tables_like_kallsyms_does_not_hold_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has a count that is one too large: its names are all looked at, and do not fit."""
    looked: list[int] = []
    decode = kallsyms.decode_names

    def counted(blob: bytes, start: int, count: int, tokens: Sequence[bytes]) -> list[str]:
        try:
            return decode(blob, start, count, tokens)
        except NotKallsyms as error:
            looked.append(error.names)
            raise

    symbols = [("T", f"name_{number}", number) for number in range(20_000)]
    data, where = write(symbols, STYLES["6.12 percpu"], 0, 0)
    spoiled = bytearray(data)
    spoiled[where["num_syms"] : where["num_syms"] + 4] = (20_001).to_bytes(4, "little")
    one = bytes(spoiled).ljust(1 << 20, b"\0")
    monkeypatch.setattr("gdb_nept.target.kallsyms_search.decode_names", counted)
    monkeypatch.setattr("gdb_nept.target.locate.MOST_NAMES", 100_000)
    with pytest.raises(NoKernel, match="more tables that look like kallsyms'"):
        attach(Pieces({0: one * 24}), 24 << 20, cache=None)
    assert 100_000 <= sum(looked) < 200_000


def test_where_nothing_tells_the_size_of_memory_the_search_over_a_link_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stub without a monitor, of a machine that answers zeros at every address."""
    monkeypatch.setattr("gdb_nept.target.locate.MOST_BLIND", 64 << 20)
    memory = Pieces({0: bytes(128 << 20)})
    with pytest.raises(NoKernel, match="nothing tells where that ends") as caught:
        attach(memory, cache=None)
    assert memory.bytes_read < 80 << 20
    assert "Stop a CPU in the host's kernel" in caught.value.advice


def test_where_nothing_can_be_read_the_search_ends() -> None:
    with pytest.raises(NoKernel):
        attach(Pieces({}), cache=None)


class Flipped:
    """A memory with some bytes replaced."""

    def __init__(self, below: RawMemory[HostPhys], places: dict[int, int]) -> None:
        self.below, self.places = below, places

    def read(self, address: HostPhys, size: int) -> bytes:
        data = bytearray(self.below.read(address, size))
        for place, byte in self.places.items():
            if address <= place < address + size:
                data[place - address] ^= byte
        return bytes(data)


@pytest.mark.bochs
def test_a_damaged_dump_does_not_poison_the_cache(
    memory: RawMemory[HostPhys], kernel: LinuxKernel, tmp_path: Path
) -> None:
    """The offset of `struct kvm.vm_list`, and a character of the symbol `vm_list`'s neighbour."""
    good = kernel.types.struct("kvm").member("vm_list").offset
    place = place_of_member(kernel, "kvm", "vm_list")
    damaged = attach(
        Flipped(memory, {place: 0x40}), memory.size, cache=tmp_path / "fresh", near=True
    )
    assert damaged.types.struct("kvm").member("vm_list").offset == good ^ 8
    sound = attach(memory, memory.size, cache=tmp_path / "fresh", near=True)
    assert sound.types.struct("kvm").member("vm_list").offset == good
    assert "does not fit this memory" in sound.types.origin
    again = attach(memory, memory.size, cache=tmp_path / "fresh", near=True)
    assert again.types.struct("kvm").member("vm_list").offset == good
    assert again.types.origin == "BTF (from the cache of this build)"
    once_more = attach(
        Flipped(memory, {place: 0x40}), memory.size, cache=tmp_path / "fresh", near=True
    )
    assert once_more.types.struct("kvm").member("vm_list").offset == good ^ 8


def place_of_member(kernel: LinuxKernel, struct: str, member: str) -> int:
    """The physical address of the BTF word with a member's offset."""
    reader = kernel.types.vmlinux()
    assert isinstance(reader, BtfReader)
    (record, *_) = reader.btf.named(struct)
    words = reader.btf.trailer(record, 3 * record.count)
    names = [reader.btf.string(words[at]) for at in range(0, len(words), 3)]
    word = record.trailer + 3 * names.index(member) + 2
    types_at = 24  # behind BTF's header, where its types begin
    start = kernel.symbols.address("__start_BTF")
    return kernel.to_physical(KernelVirt(start + types_at + 4 * word))


@pytest.mark.bochs
def test_damaged_symbols_do_not_reach_a_sound_dump(
    memory: RawMemory[HostPhys], kernel: LinuxKernel, tmp_path: Path
) -> None:
    """One bit of a symbol's offset, where the kernel keeps it."""
    located = Search(memory, [range(memory.size)]).find()
    tables = linux.named_tables(memory, located)
    if tables is None:
        pytest.skip("vmcoreinfo names no tables of kallsyms before 6.0")
    number = decoded(kernel).names.index("init_task")
    broken = Flipped(memory, {tables.entries + 4 * number: 0x40})
    told = attach(broken, memory.size, cache=tmp_path / "fresh", near=True)
    right = kernel.symbols.address("init_task")
    assert told.symbols.address("init_task") != right
    for words in ("does not fit this memory", "from the cache of this build"):
        sound = attach(memory, memory.size, cache=tmp_path / "fresh", near=True)
        assert sound.symbols.address("init_task") == right
        assert words in sound.symbols.origin


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


def test_where_an_image_lies_is_read_off_the_page_tables() -> None:
    """KASLR moved this one by 64 MiB virtually; the second page is .rodata."""
    pdes = [0] * 512
    pdes[40] = 0xEE00000 | 0xE3
    pdes[41] = 1 << 63 | 0xF000000 | 0xE1
    tables = {
        0x1000: {511: 0x2067},
        0x2000: {510: 0x3067},
        0x3000: {number: entry for number, entry in enumerate(pdes) if entry},
    }
    memory = Pieces({place: page(entries) for place, entries in tables.items()})
    assert image_of(memory, 0x1000 | 0x1804) == [
        range(0xF000000, 0xF200000),
        range(0xEE00000, 0xF200000),
    ]
    assert list(placements(Search(memory, [], [0x1804]))) == [
        (64 << 20, 0xEE00000 - (80 << 20)),
        (0, 0),
    ]
    assert image_of(memory, 0x3000) == []


def page(entries: dict[int, int]) -> bytes:
    return b"".join(entries.get(number, 0).to_bytes(8, "little") for number in range(512))


def test_holes_are_read_around() -> None:
    memory = Pieces({0x3000: bytes(0x5000), 0x20000: bytes(0x1000)})
    found = list(readable(memory, 0x3000, 0x1E000))
    assert sum(len(data) for _, data in found) == 0x6000
    assert list(readable(memory, 0x40000, 0x100000)) == []
