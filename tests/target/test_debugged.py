# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that only a debugger sees: a vmlinux and a stub, both made by hand."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from gdb_nept.address import HostPhys, HostVirt, KernelVirt
from gdb_nept.errors import MemberMissing, MemoryUnreadable, SymbolMissing, TypeMissing
from gdb_nept.memory.direct import DirectMapMemory
from gdb_nept.memory.reader import PageCache, read_u64
from gdb_nept.target import debugged
from gdb_nept.target.debugged import SECTIONS, DebuggedKernel, OtherKernel
from gdb_nept.target.modules import LoadedModule, ModuleList
from gdb_nept.target.ports import Module
from tests.target.test_dwarf import U64, FakeDebugger, FakeField, FakeType

DIRECT_MAP = 0xFFFF900000000000  # RANDOMIZE_MEMORY moved it
TEXT, END = 0xFFFFFFFF81000000, 0xFFFFFFFF81010000
PHYS_BASE = 0x2000000
VMALLOC_PAGE = 0xFFFFC90000042000
TOP, PDPT, PD, PT = 0x3008000, 0x4000, 0x5000, 0x6000  # physical; the first is in the image
PAGE = 0x7000
ENTRY = 0x63  # present, writable, accessed, dirty

CHARS = FakeType("array", 65, inner=FakeType("int", 1, "char"), count=65)
NAMES = FakeType("struct", 390, tag="new_utsname", members=[FakeField("release", CHARS, 130 * 8)])
UTS = FakeType("struct", 400, tag="uts_namespace", members=[FakeField("name", NAMES)])
LIST = FakeType("struct", 16, tag="list_head", members=[FakeField("next", U64)])
MODULE = FakeType("struct", 64, tag="module", members=[])
MODULE.members = [FakeField("list", LIST, 64), FakeField("name", CHARS, 192)]
SYMBOLS = {
    "_text": TEXT,
    "_end": END,
    "linux_banner": TEXT + 0x1000,
    "init_uts_ns": TEXT + 0x2000,
    "page_offset_base": TEXT + 0x3000,
    "vmalloc_base": TEXT + 0x3008,
    "phys_base": TEXT + 0x3010,
    "modules": TEXT + 0x3018,
    "init_top_pgt": TEXT + 0x8000,
}

LOADED = {**SYMBOLS, "vmx_vcpu_run": 0xFFFFFFFFC0010100}  # with the symbols of kvm_intel
STRUCT_MODULE: Any = None  # no test looks into one


class Vmlinux(FakeDebugger):
    def struct(self, name: str) -> FakeType | None:
        return {"uts_namespace": UTS, "module": MODULE}.get(name)


class Kgdb:
    """Kernel addresses alone: the image, and all of memory in the direct map."""

    def __init__(self) -> None:
        self.image = bytearray(END - TEXT)
        self.ram = bytearray(0x8000)
        self.reads: list[int] = []
        self.put("linux_banner", b"Linux version 6.1.99-kgdb (lab@lab) #1\n")
        self.put("init_uts_ns", b"Linux".ljust(130, b"\0") + b"6.1.99-kgdb\0")
        self.put("page_offset_base", struct.pack("<Q", DIRECT_MAP))
        self.put("vmalloc_base", struct.pack("<Q", 0xFFFFC90000000000))
        self.put("phys_base", struct.pack("<Q", PHYS_BASE))
        self.put("modules", struct.pack("<Q", SYMBOLS["modules"]))
        for table, shift, target in ((PDPT, 30, PD), (PD, 21, PT), (PT, 12, PAGE)):
            place = table + 8 * (VMALLOC_PAGE >> shift & 511)
            self.ram[place : place + 8] = struct.pack("<Q", target | ENTRY)
        place = SYMBOLS["init_top_pgt"] - TEXT + 8 * (VMALLOC_PAGE >> 39 & 511)
        self.image[place : place + 8] = struct.pack("<Q", PDPT | ENTRY)

    def put(self, name: str, data: bytes) -> None:
        place = SYMBOLS[name] - TEXT
        self.image[place : place + len(data)] = data

    def read(self, address: int, size: int) -> bytes:
        self.reads.append(size)
        in_map = address - DIRECT_MAP
        image = range(PHYS_BASE + 0x1000000, PHYS_BASE + 0x1000000 + len(self.image))
        if in_map in image:
            return bytes(self.image[in_map - image.start :][:size])
        for memory, start in ((self.ram, DIRECT_MAP), (self.image, TEXT)):
            if 0 <= address - start <= len(memory) - size:
                return bytes(memory[address - start :][:size])
        raise MemoryUnreadable(address, size, "E14")

    def packet(self, text: str) -> str:
        return ""

    def monitor(self, text: str) -> str:
        return ""

    def forget(self) -> None:
        pass


def kernel(stub: Kgdb, symbols: dict[str, int] | None = None) -> DebuggedKernel:
    physical: PageCache[Any] = PageCache(DirectMapMemory(stub, DIRECT_MAP))
    return DebuggedKernel(Vmlinux(symbols or SYMBOLS), stub, physical)


def test_the_kernel_is_known_by_a_few_small_reads() -> None:
    stub = Kgdb()
    found = kernel(stub)
    assert (found.release, found.levels) == ("6.1.99-kgdb", 4)
    assert sum(stub.reads) <= 512
    assert found.symbols.origin == "vmlinux"
    assert found.types.origin == "DWARF of vmlinux"


@pytest.mark.parametrize("symbol", ["linux_banner", "init_uts_ns"])
def test_a_vmlinux_of_another_build_or_place_is_refused(symbol: str) -> None:
    with pytest.raises(OtherKernel, match="not the vmlinux of the running kernel"):
        kernel(Kgdb(), {**SYMBOLS, symbol: SYMBOLS[symbol] + 0x40})
    with pytest.raises(OtherKernel, match="E14") as caught:
        kernel(Kgdb(), {name: place + 0x4000000 for name, place in SYMBOLS.items()})
    assert "KASLR" in caught.value.advice


def test_kernel_addresses_lead_to_physical_ones() -> None:
    found = kernel(Kgdb())
    assert found.to_physical(KernelVirt(DIRECT_MAP + 0x1234)) == 0x1234
    assert found.to_physical(KernelVirt(TEXT + 0x8000)) == TOP
    assert found.to_physical(KernelVirt(VMALLOC_PAGE + 0x21)) == PAGE + 0x21
    with pytest.raises(MemoryUnreadable):
        found.to_physical(KernelVirt(VMALLOC_PAGE + 0x1000))


def test_a_process_is_walked_from_its_page_table() -> None:
    found = kernel(Kgdb())
    walked = found.translate_user(KernelVirt(TEXT + 0x8000), HostVirt(VMALLOC_PAGE))
    assert walked.physical == PAGE
    assert [step.table for step in walked.steps] == [TOP, PDPT, PD, PT]


def test_what_was_read_is_kept_until_the_kernel_ran() -> None:
    stub = Kgdb()
    found = kernel(stub)
    stub.reads.clear()
    for _ in range(2):
        assert found.read(KernelVirt(DIRECT_MAP + PAGE), 8) == bytes(8)
    assert stub.reads == [32]
    stub.ram[PAGE] = 7
    found.forget()
    assert found.read(KernelVirt(DIRECT_MAP + PAGE), 8)[0] == 7
    assert read_u64(found.physical, HostPhys(PAGE)) == 7


def test_no_module_is_loaded() -> None:
    found = kernel(Kgdb())
    assert found.modules() == ()
    assert (found.module_problem, found.notes) == ("", ())


def test_a_list_of_modules_that_cannot_be_followed_is_told() -> None:
    stub = Kgdb()
    stub.put("modules", struct.pack("<Q", 0xDEAD0000))
    found = kernel(stub)
    assert "cannot be followed" in found.module_problem
    assert found.notes[0].message == found.module_problem


@pytest.fixture
def two_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """kvm, whose symbols the debugger has not, and kvm_intel, whose symbols it has."""
    there = [
        LoadedModule(Module(name, KernelVirt(base), 0x1000), STRUCT_MODULE, ())
        for name, base in (("kvm_intel", 0xFFFFFFFFC0010000), ("kvm", 0xFFFFFFFFC0000000))
    ]
    monkeypatch.setattr(debugged, "list_modules", lambda kernel: ModuleList(tuple(there)))


def test_how_to_load_a_modules_symbols_is_told_to_paste(
    two_modules: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = 0xFFFFFFFFC0000000
    sections = {name: KernelVirt(place + 16 * number) for number, name in enumerate(SECTIONS)}
    monkeypatch.setattr(
        debugged, "module_sections", lambda loaded: {".init.text": KernelVirt(0), **sections}
    )
    found = kernel(Kgdb(), LOADED)
    assert len(found.modules()) == 2
    (note,) = found.notes
    assert note.message == "gdb has no symbols of the module kvm"
    assert note.advice.count("-s ") == len(SECTIONS)
    assert max(map(len, note.advice.splitlines())) <= 96, "nept-target indents it"
    whole = note.advice.replace(" \\\n", " ")
    assert whole.startswith("add-symbol-file kvm.ko -s .text 0xffffffffc0000000 -s .text.unlikely ")
    assert "\n" not in whole


def test_without_the_kernels_list_of_sections_sysfs_is_named(
    two_modules: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(loaded: LoadedModule) -> None:
        raise MemberMissing("module", "sect_attrs")

    monkeypatch.setattr(debugged, "module_sections", missing)
    found = kernel(Kgdb(), LOADED)
    found.modules()
    assert "/sys/module/kvm/sections" in found.notes[0].advice


def test_what_the_debugger_does_not_know_is_named_with_what_to_load() -> None:
    found = kernel(Kgdb())
    with pytest.raises(TypeMissing, match="DWARF of vmlinux") as no_type:
        found.types.struct("vcpu_vmx", "kvm_intel")
    assert "CONFIG_DEBUG_INFO" in no_type.value.advice
    with pytest.raises(SymbolMissing) as no_symbol:
        found.symbols.address("vm_list", "kvm")
    assert "nept-target tells how" in no_symbol.value.advice
    assert found.symbols.name_at(KernelVirt(TEXT)) == "_text"
