# SPDX-License-Identifier: GPL-2.0-or-later
"""Where L0's own kernel addresses lead, held against QEMU's translation of them.

The processor of a replayed snapshot is fresh from reset; with the paging registers of the snapshot
its monitor and its stub translate by the tables in memory, with QEMU's code and none of ours.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bochs_lab.replay import Replay

from gdb_nept.address import HostPhys, KernelVirt
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.memory.raw import RawMemory
from gdb_nept.target.kallsyms import SymbolTable
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.kernel_symbols import KernelSymbols
from gdb_nept.target.linux import attach
from tests.dumps.machine import CONTROL
from tests.lab.rsp_client import Client

pytestmark = [pytest.mark.bochs, pytest.mark.qemu]

ADDRESSES = 1000
PAGE = 4096
USER_PCID = 1 << 11


@pytest.fixture(scope="module")
def kernel(snapshot: Path) -> LinuxKernel:
    raw: RawMemory[HostPhys] = RawMemory(snapshot / "memory.raw")
    return attach(raw, ram=raw.size, cache=None)  # its symbols are all listed then


@pytest.fixture(scope="module")
def paged(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """With L0's paging registers, as they were when the VMM was in user mode.  With KPTI that has
    top tables of its own beside the kernel's, told by PCID bit 11 (asm/processor-flags.h)."""
    told = json.loads((snapshot / "registers.json").read_text())
    cr3 = int(told["cr3"], 0)
    if cr3 & USER_PCID:
        told["cr3"] = hex(cr3 & ~(USER_PCID | PAGE))
    with Replay(snapshot, tmp_path_factory.mktemp("paged")) as machine:
        with Client(machine.port) as stub:
            stub.ask("qXfer:features:read:target.xml:0,ff8")
            for name, number in CONTROL.items():
                value = int(told[name], 0).to_bytes(8, "little").hex()
                assert stub.ask(f"P{number:x}={value}") == "OK"
        yield machine


def chosen(kernel: LinuxKernel, ram: int) -> list[int]:
    """Of symbols, of the direct map, of KVM's modules, and of anywhere in the kernel's half."""
    chance = random.Random(12)
    assert isinstance(kernel.symbols, KernelSymbols)
    table = kernel.symbols.vmlinux
    assert isinstance(table, SymbolTable)
    symbols = sorted({each for each in table.addresses if each >> 63})
    found = chance.sample(symbols, ADDRESSES * 4 // 10)
    found += [
        kernel.layout.page_offset_base + chance.randrange(ram) for _ in range(ADDRESSES * 3 // 10)
    ]
    for name in ("vmx_vcpu_run", "kvm_mmu_page_fault"):
        start = kernel.symbols.address(name)
        found += [start + chance.randrange(-16 * PAGE, 16 * PAGE) for _ in range(100)]
    found += [(0xFFFF << 48) | chance.randrange(1 << 47, 1 << 48) for _ in range(50)]
    found += [symbols[0] + chance.randrange(1 << 26) for _ in range(50)]
    return found


def test_a_thousand_kernel_addresses_lead_where_qemu_says(
    kernel: LinuxKernel, paged: Replay, snapshot: Path
) -> None:
    ram = (snapshot / "memory.raw").stat().st_size
    start, end = (kernel.symbols.address(name) for name in ("_text", "_end"))
    layout = kernel.layout
    computed = (range(start, end), range(layout.page_offset_base, layout.vmalloc_base))
    walked, read = 0, 0
    with Client(paged.port) as stub:
        for place in chosen(kernel, ram):
            said = stub.monitor(f"gva2gpa {place:#x}")
            match = re.search(r"gpa: (0x[0-9a-f]+)", said)
            by_tables = kernel.page_tables.walk(KernelVirt(place)).physical
            if match is None:
                assert "Unmapped" in said
                assert by_tables is None, hex(place)
                if not any(place in each for each in computed):
                    with pytest.raises(MemoryUnreadable):
                        kernel.to_physical(KernelVirt(place))
                continue
            assert by_tables == int(match[1], 16), hex(place)
            assert kernel.to_physical(KernelVirt(place)) == by_tables, hex(place)
            walked += 1
            if by_tables < ram:
                answer = stub.ask(f"m{place:x},1")
                assert bytes.fromhex(answer) == kernel.read(KernelVirt(place), 1), hex(place)
                read += 1
    assert read > ADDRESSES * 7 // 10
    assert walked >= read
