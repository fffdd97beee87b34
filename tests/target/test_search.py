# SPDX-License-Identifier: GPL-2.0-or-later
"""The search for a kernel in memories that hold none, or much that looks like one."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from gdb_nept.errors import (
    NoKernel,
)
from gdb_nept.target import kallsyms
from gdb_nept.target.kallsyms import NotKallsyms
from gdb_nept.target.linux import attach
from gdb_nept.target.locate import Search
from gdb_nept.target.recent import placements
from gdb_nept.target.scan import each_once, image_of, readable
from tests.target.kallsyms_writer import STYLES, write
from tests.target.memories import Pieces


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


def test_memory_in_very_many_stretches_is_put_in_order_at_once() -> None:
    stretches = [range(2 * number, 2 * number + 1) for number in range(1 << 16)]
    start = time.process_time()
    found = list(each_once([range(5, 8), *stretches]))
    assert time.process_time() - start < 5
    assert found == [range(5, 8), *stretches[:3], *stretches[4:]]


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
