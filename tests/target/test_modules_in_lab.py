# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the sections of real modules lie, by their files and by kallsyms."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bochs_lab import packages
from bochs_lab.initramfs import module_content
from bochs_lab.kernels import KERNELS
from bochs_lab.progress import Silent

from gdb_nept.address import HostPhys
from gdb_nept.memory.raw import RawMemory
from gdb_nept.target.debugged import SECTIONS
from gdb_nept.target.linux import attach
from gdb_nept.target.modules import module_sections
from tests.conftest import kernel_cache

pytestmark = pytest.mark.bochs

SECTION = re.compile(r"^ *\[ *(\d+)\] (\S+) ", re.MULTILINE)
SYMBOL = re.compile(r"^ *\d+: ([0-9a-f]{16}) +\d+ (?:FUNC|OBJECT) +\S+ +\S+ +(\d+) (\S+)$", re.M)


def read_elf(option: str, file: Path) -> str:
    command = ["readelf", "--wide", option, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def symbols_of(file: Path) -> Iterator[tuple[str, str, int]]:
    """Each symbol of a module's file, its section, and its place in that."""
    sections = dict(SECTION.findall(read_elf("--sections", file)))
    for value, number, name in SYMBOL.findall(read_elf("--syms", file)):
        yield name, sections[number], int(value, 16)


@pytest.mark.parametrize("name", ["kvm", "kvm_intel"])
def test_each_symbol_lies_in_its_section(
    plain_snapshot: Path, kernel_line: str, name: str, tmp_path: Path
) -> None:
    memory: RawMemory[HostPhys] = RawMemory(plain_snapshot / "memory.raw")
    kernel = attach(memory, ram=memory.size, cache=kernel_cache())
    loaded = next(each for each in kernel.loaded_modules() if each.module.name == name)
    found = module_sections(loaded)
    packed = packages.kernel(KERNELS[kernel_line], Silent()).module(name.replace("_", "-"))
    assert packed is not None
    file = tmp_path / "module.ko"
    file.write_bytes(module_content(packed))
    symbols = list(symbols_of(file))
    times = Counter(symbol for symbol, _, _ in symbols)
    compared: Counter[str] = Counter()
    for symbol, section, place in symbols:
        if times[symbol] == 1 and section in SECTIONS:
            compared[section] += 1
            assert kernel.symbols.address(symbol, name) == found[section] + place, symbol
    assert compared[".text"] > 100
    assert set(compared) == set(SECTIONS) & set(found)
