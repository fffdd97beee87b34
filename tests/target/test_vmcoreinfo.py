# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from gdb_nept.target import vmcoreinfo
from gdb_nept.target.vmcoreinfo import parse, starts

TEXT = """OSRELEASE=6.1.0-52-cloud-amd64
BUILD-ID=9195989c83d911cb7bb7a4028be250f1d874c740
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffff869f9ba0
OFFSET(uts_namespace.name)=0
SYMBOL(swapper_pg_dir)=ffffffff86810000
SYMBOL(_stext)=ffffffff84e00000
LENGTH(mem_section)=2048
SIZE(page)=64
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(phys_base)=-167772160
SYMBOL(init_top_pgt)=ffffffff86810000
NUMBER(pgtable_l5_enabled)=1
KERNELOFFSET=3e00000
NUMBER(KERNEL_IMAGE_SIZE)=1073741824
NUMBER(sme_mask)=800000000000
"""


def test_what_it_tells() -> None:
    info = parse(TEXT.encode() + bytes(100))
    assert info is not None
    assert info.release == "6.1.0-52-cloud-amd64"
    assert info.build_id == "9195989c83d911cb7bb7a4028be250f1d874c740"
    assert info.kaslr_offset == 0x3E00000
    assert info.phys_base == -167772160
    assert info.top_table == 0xFFFFFFFF86810000
    assert info.levels == 5
    assert info.symbols["_stext"] == 0xFFFFFFFF84E00000


def test_old_kernels_tell_less() -> None:
    old = (
        "OSRELEASE=4.9.0\nSYMBOL(_stext)=ffffffff81000000\nSYMBOL(phys_base)=ffffffff81e0f010\n"
        "SYMBOL(init_level4_pgt)=ffffffff81e09000\n"
    )
    info = parse(old.encode())
    assert info is not None
    assert info.phys_base is None
    assert (info.build_id, info.kaslr_offset, info.levels) == ("", 0, 4)
    assert info.top_table == 0xFFFFFFFF81E09000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OSRELEASE=%s\n",
        "OSRELEASE=6.1\n",
        TEXT.replace("KERNELOFFSET=3e00000", "KERNELOFFSET=3e00010"),
        TEXT.replace("KERNELOFFSET=3e00000", "KERNELOFFSET=z"),
        TEXT.replace("_stext)=ffffffff84e00000", "_stext)=ffffffff84f10000"),
        TEXT.replace("_stext)=ffffffff84e00000", "_stext)=ffff800010000000"),
        TEXT.replace("_stext)=ffffffff84e00000", "_stext)=zz"),
        "OSRELEASE=\xff\n" + TEXT,
        "x" + TEXT,
    ],
)
def test_what_is_none(text: str) -> None:
    assert parse(text.encode("latin-1")) is None


def test_copies_start_a_page_or_stand_behind_a_note_header() -> None:
    page = vmcoreinfo.MAGIC.ljust(4096, b"\0")
    note = bytes(24) + page[:-24]
    other = bytes(100) + page[:-100]
    assert list(starts(page + note + other + page)) == [0, 4096 + 24, 3 * 4096]
    assert list(starts(b"tail" + page, 4092)) == [4]
