# SPDX-License-Identifier: GPL-2.0-or-later
"""A real kernel, out of a snapshot of its memory that was damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdb_nept.address import HostPhys, KernelVirt
from gdb_nept.errors import (
    BadInput,
    NoKernel,
)
from gdb_nept.memory.raw import RawMemory
from gdb_nept.target import linux
from gdb_nept.target.btf_types import BtfReader
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.linux import attach
from gdb_nept.target.locate import Search
from gdb_nept.target.modules import module_symbols
from tests.target.test_linux import decoded


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
def test_a_symbol_whose_name_lies_nowhere_costs_no_other_its_name(
    kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The string table is read as far as the last name: 4 GB, by a word of the module's."""
    loaded = next(each for each in kernel.loaded_modules() if each.module.name == "kvm")
    sound = module_symbols(kernel, loaded)
    table = loaded.value.member("kallsyms").deref()
    last = table.member("symtab").pointer() + 24 * (table.member("num_symtab").number() - 1)
    whole, sizes = kernel.read, []

    def damaged(address: KernelVirt, size: int) -> bytes:
        sizes.append(size)
        data = bytearray(whole(address, size))
        if address <= last < address + size:
            data[last - address : last - address + 4] = (0xF0000000).to_bytes(4, "little")
        return bytes(data)

    monkeypatch.setattr(kernel, "read", damaged)
    assert len(module_symbols(kernel, loaded).names) == len(sound.names) - 1
    assert max(sizes) < 1 << 24


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
