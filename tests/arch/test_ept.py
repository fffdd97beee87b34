# SPDX-License-Identifier: GPL-2.0-or-later
"""EPT entries: presence, leaves and misconfigurations, as SDM 31.3.2 and 31.3.3.1 list them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import EptEntry, Eptp, Misconfiguration, index, misconfigured, page_size

FULL = EptVpidCap(
    EptVpidCap.build(
        execute_only=1, walk_length_4=1, memory_type_wb=1, page_2m=1, page_1g=1, accessed_dirty=1
    )
)
CPU = Capabilities(maxphyaddr=39, ept_vpid_cap=FULL)
BARE = Capabilities(
    maxphyaddr=39, ept_vpid_cap=EptVpidCap(EptVpidCap.build(walk_length_4=1, memory_type_wb=1))
)
WB = 6 << 3


def reason(value: int, level: int, cpu: Capabilities = CPU) -> Misconfiguration | None:
    found = misconfigured(EptEntry(value), level, cpu)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("rights", "expected"),
    [
        (0b001, None),
        (0b010, Misconfiguration.WRITE_WITHOUT_READ),
        (0b011, None),
        (0b100, None),
        (0b101, None),
        (0b110, Misconfiguration.WRITE_WITHOUT_READ),
        (0b111, None),
    ],
)
@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_rights(rights: int, expected: Misconfiguration | None, level: int) -> None:
    assert reason(0x1000 | rights | (WB if level == 1 else 0), level) is expected


def test_execute_only_needs_its_capability() -> None:
    assert reason(0x1000 | WB | 4, 1, BARE) is Misconfiguration.EXECUTE_WITHOUT_READ
    assert reason(0x1000 | WB | 4, 1, CPU) is None


def test_user_execute_counts_only_with_mbec() -> None:
    entry = 0x1000 | WB | 1 << 10
    assert not EptEntry(entry).present(mbec=False)
    assert EptEntry(entry).present(mbec=True)
    mbec = replace(BARE, mbec=True)
    assert reason(entry, 1, mbec) is Misconfiguration.EXECUTE_WITHOUT_READ


@pytest.mark.parametrize("memory_type", range(8))
@pytest.mark.parametrize("level", [1, 2, 3])
def test_memory_types_of_leaves(memory_type: int, level: int) -> None:
    large = 0 if level == 1 else 1 << 7
    bad = memory_type in (2, 3, 7)
    expected = Misconfiguration.MEMORY_TYPE if bad else None
    assert reason(0x40000000 | memory_type << 3 | large | 7, level) is expected


@pytest.mark.parametrize("level", [2, 3, 4, 5])
@pytest.mark.parametrize("place", [3, 4, 5, 6])
def test_bits_6_to_3_of_a_table_entry_are_reserved(level: int, place: int) -> None:
    assert reason(0x1000 | 7 | 1 << place, level) is Misconfiguration.RESERVED_BIT


@pytest.mark.parametrize(("level", "expected"), [(4, True), (5, True), (3, False), (2, False)])
def test_bit_7(level: int, expected: bool) -> None:
    value = 0x40000000 | WB | 1 << 7 | 7
    assert (reason(value, level) is Misconfiguration.RESERVED_BIT) is expected
    assert reason(value, level, BARE) is Misconfiguration.RESERVED_BIT


@pytest.mark.parametrize("place", range(39, 52))
@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_bits_beyond_maxphyaddr(place: int, level: int) -> None:
    value = 7 | 1 << place | (WB if level == 1 else 0)
    assert misconfigured(EptEntry(value), level, CPU) == (
        Misconfiguration.RESERVED_BIT,
        1 << place,
    )


@pytest.mark.parametrize(("level", "top"), [(2, 21), (3, 30)])
def test_low_address_bits_of_a_large_leaf(level: int, top: int) -> None:
    for place in range(12, top):
        assert reason(7 | WB | 1 << 7 | 1 << place, level) is Misconfiguration.RESERVED_BIT
    assert reason(7 | WB | 1 << 7 | 1 << top, level) is None


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_bits_that_the_processor_ignores(level: int) -> None:
    ignored = 0xFFF << 52 | 0xF << 8 | (1 << 7 if level == 1 else 0)
    value = 0x1000 | 7 | (WB if level == 1 else 0)
    assert reason(value | ignored, level) is None


def test_paging_write_without_read_needs_its_control() -> None:
    value = 0x1000 | WB | 4 | 1 << 58
    control = replace(CPU, paging_write=True)
    assert reason(value, 1) is None
    assert reason(value, 1, control) is Misconfiguration.PAGING_WRITE_WITHOUT_READ


def test_sizes_and_indices() -> None:
    assert [page_size(level) for level in (1, 2, 3)] == [1 << 12, 1 << 21, 1 << 30]
    address = 3 << 39 | 5 << 30 | 7 << 21 | 9 << 12 | 0x123
    assert [index(address, level) for level in (4, 3, 2, 1)] == [3, 5, 7, 9]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0x105E, ""),
        (0x1058, "UC is not supported"),
        (0x105D, "memory type 5"),
        (0x1056, "page-walk length 3"),
        (0x1066, "page-walk length 5 is not supported"),
        (1 << 39 | 0x1E, "MAXPHYADDR"),
        (1 << 60 | 0x1E, "MAXPHYADDR"),
    ],
)
def test_why_an_eptp_is_refused(value: int, words: str) -> None:
    problem = Eptp(value).problem(CPU)
    assert words in problem
    assert bool(problem) is bool(words)
