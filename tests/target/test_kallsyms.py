# SPDX-License-Identifier: GPL-2.0-or-later
"""Every order in which kernels keep kallsyms' tables: written, and read back both ways."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.target.fingerprint import Fingerprint, fingerprint
from gdb_nept.target.kallsyms import NotKallsyms, Rule, SymbolTable, Tables, decode, decode_names
from gdb_nept.target.kallsyms_search import digit_runs, search_back, token_table
from gdb_nept.target.symbol_file import pack, unpack
from gdb_nept.target.vmcoreinfo import KERNEL_MAP
from tests.target.kallsyms_writer import STYLES, Style, Symbols, write
from tests.target.memories import Pieces

PHYS_BASE = 0xA000000
STEXT = 0xFFFFFFFF84E00000
TABLES = STEXT + 0x1100000 + 0x18
VARIABLE = STEXT + 0x1A00010


def symbols(style: Style) -> Symbols:
    dice = random.Random(1)
    found: Symbols = [("T", "_stext", STEXT), ("D", "phys_base", VARIABLE)]
    for number in range(600):
        name = dice.choice(("sys_", "kvm_", "vmx_", "nested_", "x.")) + f"{number}"
        found.append((dice.choice("tTdDrRbB"), name, STEXT + dice.randrange(1, 0x1000000)))
    found.append(("t", "long_" + "y" * 300, STEXT + 0x20))
    found.sort(key=lambda symbol: symbol[2])
    percpu: Symbols = [("A", "fixed_percpu_data", 0), ("A", "runqueues", 0x31980)]
    return percpu + found if style.rule is Rule.PERCPU else found


def image(style: Style) -> tuple[Pieces, Tables, Symbols]:
    """Memory with the tables (and noise before them) and the variable phys_base."""
    listed = symbols(style)
    data, where = write(listed, style, TABLES, STEXT)
    noise = random.Random(2).randbytes(0x4000)
    physical = {name: HostPhys(at - KERNEL_MAP + PHYS_BASE) for name, at in where.items()}
    start = TABLES - KERNEL_MAP + PHYS_BASE
    value = PHYS_BASE.to_bytes(8, "little")
    memory = Pieces(
        {start - len(noise): noise + data + bytes(0x8000), VARIABLE - KERNEL_MAP + PHYS_BASE: value}
    )
    tables = Tables(
        len(listed),
        physical["names"],
        physical["token_table"],
        physical["token_index"],
        physical["offsets"],
        physical.get("relative_base"),
        0 if style.rule is Rule.ABSOLUTE else where["offsets"],
    )
    return memory, tables, listed


def check(table: SymbolTable, listed: Symbols) -> None:
    assert list(table.names) == [name for _, name, _ in listed]
    assert list(table.addresses) == [address for _, _, address in listed]


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())
def test_tables_named_by_vmcoreinfo(style: Style) -> None:
    memory, tables, listed = image(style)
    table, rule = decode(memory, tables, STEXT)
    check(table, listed)
    assert rule is style.rule
    assert table.address("_stext") == STEXT
    assert table.address("no_such") is None


@pytest.mark.parametrize("known", [STEXT, None], ids=["stext known", "nothing known"])
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES.keys())
def test_tables_found_by_search(
    style: Style, known: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gdb_nept.target.kallsyms_search.REACHES", (0x1000, 0x4000, 0x8000))
    memory, tables, listed = image(style)
    start = TABLES - KERNEL_MAP + PHYS_BASE
    around = memory.read(HostPhys(start), tables.token_index - start)
    [run] = digit_runs(around)
    found, where, rule = search_back(memory, token_table(memory, HostPhys(start + run)), known)
    check(found, listed)
    assert rule is style.rule
    assert where.names == tables.names
    assert where.entries == tables.entries


def test_damage_is_noticed() -> None:
    memory, tables, _ = image(STYLES["6.1 percpu, seqs"])
    for wrong in (
        replace(tables, count=tables.count - 1),
        replace(tables, count=5),
        replace(tables, names=HostPhys(tables.names + 1)),
        replace(tables, token_index=HostPhys(tables.token_index + 8)),
        replace(tables, names=HostPhys(tables.tokens + 8)),
    ):
        with pytest.raises(NotKallsyms):
            decode(memory, wrong, STEXT)
    with pytest.raises(NotKallsyms):
        decode(memory, tables, STEXT + 0x200000)


def test_a_search_in_vain_reads_no_place_twice_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """num_syms is one too many: each way to read the names fails at their very end."""
    monkeypatch.setattr("gdb_nept.target.kallsyms_search.REACHES", (0x1000, 0x4000, 0x8000))
    memory, tables, _ = image(STYLES["6.1 percpu, seqs"])
    start = TABLES - KERNEL_MAP + PHYS_BASE - 0x8000
    size = tables.token_index + 0x8000 - start
    data = bytearray(0x8000) + memory.read(HostPhys(start + 0x8000), size - 0x8000)
    data[tables.names - start - 8] += 1
    damaged = Pieces({start: bytes(data)})
    [run] = digit_runs(bytes(data))
    table = token_table(damaged, HostPhys(start + run))
    damaged.bytes_read = 0
    looked_at: list[int] = []

    def counted(*given: Any) -> list[str]:
        looked_at.append(given[1])
        return decode_names(*given)

    monkeypatch.setattr("gdb_nept.target.kallsyms_search.decode_names", counted)
    with pytest.raises(NotKallsyms, match="no names before it"):
        search_back(damaged, table, STEXT)
    assert damaged.bytes_read <= 0x8000
    assert len(set(looked_at)) == len(looked_at)
    monkeypatch.setattr("gdb_nept.target.kallsyms_search.MOST_NAMES", 100)
    with pytest.raises(NotKallsyms, match="do not fit"):
        search_back(damaged, table, STEXT)


def test_digits_alone_are_no_token_table() -> None:
    run = b"".join(b"%d\0" % digit for digit in range(10))
    memory = Pieces({0: bytes(64) + run + bytes(0x8000)})
    with pytest.raises(NotKallsyms):
        token_table(memory, HostPhys(64))


def test_nearest_name() -> None:
    table = SymbolTable(("b", "a", "alias", "c"), (0x200, 0x100, 0x100, 0x300))
    assert table.nearest(0x104) == ("a", 4)
    assert table.nearest(0x2FF) == ("b", 0xFF)
    assert table.nearest(0xFF) is None


def test_packed_for_the_cache_and_moved_by_kaslr() -> None:
    names = ("runqueues", "_stext", "naïve", "twice", "alias", "twice")
    fixed = (0x31980, STEXT, STEXT + 16, STEXT + 32, STEXT + 32, STEXT + 48)
    made_of = Fingerprint(((-0x1000, 5000), (64, 1)), (1, 2, 3))
    packed = pack(SymbolTable(names, fixed), 0x3E00000, made_of)
    found = unpack(packed, 0x1000000)
    assert found is not None
    assert found.made_of.extents == made_of.extents
    assert list(found.made_of.checksums) == [1, 2, 3]
    moved = [at - 0x3E00000 + 0x1000000 if at >= STEXT else at for at in fixed]
    again, table = found.symbols, SymbolTable(names, moved)
    assert len(again) == len(table)
    for name in (*names, "", "zzz", "twic"):
        assert again.address(name) == table.address(name), name
    for address in (0, 0x31980, 0x31981, *moved, moved[-1] + 9):
        for each in (address - 1, address, address + 1):
            assert again.nearest(each) == table.nearest(each), hex(each)
    for damaged in (b"", packed[:-1], packed + b"\0", b"\xff" * 40):
        assert unpack(damaged, 0) is None


def test_a_fingerprint_knows_its_memory() -> None:
    held = bytes(range(256)) * 100
    made = fingerprint(lambda offset, size: held[offset : offset + size], [(5, 20000)])
    changed = bytearray(held)
    changed[9000] ^= 1

    def read(offset: int, size: int) -> bytes:
        return bytes(changed[offset : offset + size])

    def cut(offset: int, size: int) -> bytes:
        if offset > 8192:
            raise MemoryUnreadable(offset, size, "cut off")
        return held[offset : offset + size]

    assert made.fits(lambda offset, size: held[offset : offset + size], whole=True)
    assert not made.fits(read, whole=True)
    assert made.fits(cut, whole=True)
