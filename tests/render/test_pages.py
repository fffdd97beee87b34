# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages of EPTs, walks and targets, from values made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from gdb_nept.address import HostPhys, L1Phys, L2Phys
from gdb_nept.arch.cpu import HOST, Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.kvm.spte_format import SINCE_5_13
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.memory.transport import Refusal
from gdb_nept.nested.journey import Journey
from gdb_nept.nested.listing import Listing, sptes
from gdb_nept.render.ept import ept_page
from gdb_nept.render.journey import journey_page
from gdb_nept.render.target import target_page
from gdb_nept.render.text import pieces
from gdb_nept.target.attachment import Attachment, Missing
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.runs import Run, Unread, with_holes
from gdb_nept.walk.scan import Scan
from tests.render.drawn import drawn

EPTP = Eptp(0x105E)
TABLES = {
    0x1000: 0x2107,
    0x2000: 0x3107,
    0x3000: 0x4107,
    0x3008: 0x200000 | 0xB7,  # 2M at 0x200000
    0x4000: 0x10000 | 0x337,
    0x4008: 0x11000 | 0x137,
    0x4020: 0x20000 | 0x32,  # W without R
}
MEMORY: SparseMemory[L1Phys] = SparseMemory(TABLES)


def listing(merged: bool = True) -> Listing:
    scan: Scan[L2Phys, L1Phys] = Scan(MEMORY, EPTP, HOST, 0, 1 << 48)
    rows = tuple(with_holes(scan.found() if merged else scan.entries(), 0, 1 << 48))
    return Listing("EPT12 of VM 0", "EPT12", EPTP, HOST, rows, 1 << 48, ("a note",))


def test_ept_shows_runs_holes_and_what_is_wrong() -> None:
    lines = drawn(ept_page(listing())).splitlines()
    assert lines[:2] == [
        "EPT12 of VM 0: 3 pages, 2056K mapped, in 2 runs; 1 misconfigured entry",
        "EPTP 0x105e: table at 0x1000, 4 levels, WB, A/D flags on",
    ]
    assert [line.split() for line in lines[5:7]] == [
        ["0x000000000000", "0x000000001fff", "8K", "RWX", "WB", "Ad", "2x4K", "0x0000010000"],
        ["0x000000002000", "0x000000003fff", "8K", "hole"],
    ]
    assert " ".join(" ".join(lines[7:9]).split()).startswith(
        "0x000000004000 0x000000004fff 4K -W- - -- 1x4K misconfig (1)"
    )
    assert "(1) misconfigured: W is set without R (bits 0x2); 0x20032" in lines
    assert lines[-3].startswith("a, d: accessed or dirty is set in some")
    assert lines[-1] == "note: a note"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_row_is_broken_and_the_entries_of_a_reason_are_named(width: int) -> None:
    """However many reasons there are, and wherever they lie."""
    tables = {0x1000 + 8 * 511: 0x2107, 0x2000 + 8 * 511: 0x3107, 0x3000 + 8 * 511: 0x4107}
    tables.update({0x4000 + 8 * n: 1 << 46 | n << 12 | 0x32 for n in range(6)})
    tables.update({0x4000 + 8 * n: 1 << (40 + n % 11) | 0x37 for n in range(8, 19)})
    scan: Scan[L2Phys, L1Phys] = Scan(
        SparseMemory(tables), EPTP, Capabilities(36, HOST.ept_vpid_cap)
    )
    found = replace(listing(), rows=scan.entries(), high=1 << 48)
    lines = "".join(pieces(ept_page(found), width=width)).splitlines()
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith("0x")]
    assert len(rows) > 11
    assert all(line.split()[1].startswith("0x") for line in rows), "no row goes on below"
    assert lines[lines.index(rows[-1]) + 1] == ""
    words = " ".join("\n".join(lines).split())
    assert (
        "(1) misconfigured: W is set without R (bits 0x2); 0x400000000032, 0x400000001032, "
        in words
    )
    assert "0x400000002032, ..." in words


def test_what_cannot_be_read_is_named_once_with_the_tables() -> None:
    """A row says that it is unread; the reason stands below, with the first places."""
    rows = [
        Unread(
            place << 21, place + 1 << 21, f"table of PTEs: cannot read 8 bytes at {word:#x}: cut"
        )
        for place, word in enumerate((0x5000, 0x6000, 0x7000, 0x8000, 0x9000))
    ]
    rows.append(Unread(5 << 21, 6 << 21, "not looked at: 4096 entries of tables", given_up=True))
    found = replace(listing(), rows=iter(rows), high=6 << 21)
    lines = drawn(ept_page(found)).splitlines()
    shown = [line for line in lines if line.startswith("0x")]
    assert [line.split("?")[1].strip() for line in shown] == ["unread (1)"] * 5 + [
        "not looked at (2)"
    ]
    words = " ".join(" ".join(lines).split())
    assert "(1) table of PTEs: cannot read 8 bytes: cut; 0x5000, 0x6000, 0x7000, ..." in words
    assert "(2) not looked at: 4096 entries of tables" in words


def test_flags_without_bit_6_of_the_eptp_stand_in_brackets() -> None:
    page = ept_page(replace(listing(), eptp=Eptp(EPTP.value & ~Eptp.accessed_dirty.mask)))
    text = drawn(page)
    assert "  [Ad]  " in text
    assert "[]: set, but ignored by the processor" in text
    assert page.data["accessed_dirty"] is False


def test_what_kvm_means_is_told_once_and_numbered() -> None:
    found = listing(merged=False)
    spte = sptes(replace(SINCE_5_13, mmio_value=0, caches_mmio=False))
    values = iter((0x0200000010000835, 0x0600000011000835, 0x0200000012000835))
    rows = tuple(
        row._replace(word=next(values), level=1)
        if isinstance(row, Run) and row.stop is None
        else row
        for row in found.rows
    )
    text = drawn(ept_page(replace(found, rows=rows, spte=spte)))
    assert [text.count(f" ({number})\n") for number in (1, 2, 3)] == [2, 1, 1]
    assert "(3) misconfigured: W is set without R" in text
    assert text.count("(1) not writable for the guest") == 1
    assert "(2) write-protected to notice the next write" in text


def test_short_names_of_flags_are_explained_where_they_are_shown() -> None:
    memory: SparseMemory[L1Phys] = SparseMemory({**TABLES, 0x4000: 0x8200000000010377 | 1 << 58})
    scan: Scan[L2Phys, L1Phys] = Scan(memory, EPTP, HOST, 0, 0x1000)
    text = drawn(ept_page(Listing("", "EPT12", EPTP, HOST, scan.found(), 0x1000)))
    assert "1 page, 4K mapped, in 1 run" in text
    words = " ".join(text.split())
    assert "0x0000010000 IPAT SVE " in words
    assert "IPAT: ignore PAT memory type; SVE: suppress #VE set in some leaves" in words
    assert "and ignored by the processor" in words
    assert "may use: bit 57, 58" in words


def test_the_mark_of_a_kvm_as_l1_for_memory_that_it_emulates_is_named() -> None:
    memory: SparseMemory[L1Phys] = SparseMemory({**TABLES, 0x4000: 0xFEE0_0000_0006})
    scan: Scan[L2Phys, L1Phys] = Scan(memory, EPTP, HOST, 0, 0x1000)
    page = ept_page(Listing("", "EPT12", EPTP, HOST, scan.found(), 0x1000))
    words = " ".join(drawn(page).split())
    assert "W is set without R (bits 0x2); so a KVM as L1 marks a page that it emulates" in words


def test_every_entry_by_itself() -> None:
    assert len(list(listing(merged=False).rows)) == len(list(listing().rows)) + 1


def test_ept_as_data() -> None:
    runs: Any = list(cast(Any, ept_page(listing()).data["runs"]))
    assert runs[0] == {
        "start": "0x0",
        "end": "0x2000",
        "size": 8192,
        "page_size": 4096,
        "count": 2,
        "leads_to": "0x10000",
        "rights": "RWX",
        "memory_type": "WB",
        "accessed": 2,
        "dirty": 1,
        "flags": [],
        "misconfigured": None,
        "kvm": None,
        "entry": "0x10337",
        "entry_address": "0x4000",
        "how": "read",
    }
    hole = {"hole": True, "start": "0x2000", "end": "0x4000", "size": 8192, "how": "read"}
    assert runs[1] == hole
    assert runs[2]["leads_to"] is None
    assert runs[2]["misconfigured"].endswith("W is set without R (bits 0x2)")


def journey(asked: int) -> Journey:
    walk = walk_ept(MEMORY, EPTP, L2Phys(asked), HOST)
    missing = "KVM has no root now"
    nothing: dict[str, Any] = dict.fromkeys(
        ("slot", "host_virtual", "host", "tracking", "table", "shadow", "ept01")
    )
    return Journey(
        asked=L2Phys(asked),
        vm=0,
        vcpu=1,
        eptp=EPTP,
        ept12=walk,
        shadow_missing=missing,
        notes=("a note",),
        **nothing,
    )


def test_a_walk_begins_with_the_verdict_and_is_a_line_an_entry() -> None:
    lines = drawn(journey_page(journey(0x1234))).splitlines()
    assert lines[0] == "L2 0x1234 -> L1 0x11234 -> nothing   EPT12 RWX   no memslot"
    assert lines[1].startswith("L1 physical 0x11234 lies in no memslot")
    at = lines.index("EPT12, L1's tables, in L1 physical memory:") + 1
    entries = lines[at : at + 4]
    assert [line.split()[0] for line in entries] == ["PML4E", "PDPTE", "PDE", "PTE"]
    assert entries[3] == "  PTE   0x0000004000[  1]  0x0000000000011137  RWX  A-  WB"
    assert lines[at + 4] == "  -> L1 physical 0x11234, in a page of 4K"
    assert lines[-1] == "note: a note"


def test_half_a_walk_is_shown_too() -> None:
    text = drawn(journey_page(journey(0x4000)))
    assert "-W-  --  WB\n  stops: the PTE is misconfigured: W is set without R (bits 0x2)" in text
    assert text.startswith("L2 0x4000 -> nothing   misconfigured by L1\n")


def test_a_walk_as_data() -> None:
    data: Any = journey_page(journey(0x1234)).data
    assert (data["asked"], data["vm"], data["vcpu"]) == ("0x1234", 0, 1)
    assert data["ept12"]["address"] == "0x11234"
    assert data["ept12"]["steps"][3] == {
        "level": 1,
        "name": "PTE",
        "table": "0x4000",
        "index": 1,
        "entry_address": "0x4008",
        "entry": "0x11137",
        "leaf": True,
        "rights": "RWX",
        "meaning": "RWX; WB; accessed",
    }
    assert data["ept02"] is None
    assert data["ept02_missing"]
    stopped: Any = journey_page(journey(0x4000)).data
    assert stopped["ept12"]["stop"]["cause"] == "misconfigured"


def test_a_missing_target_says_what_to_do() -> None:
    page = target_page(Attachment("", "", None, (Missing("not attached", "Attach it."),)))
    assert drawn(page).splitlines()[-2:] == ["missing:  not attached", "  Attach it."]
    assert page.data["missing"] == [{"what": "not attached", "advice": "Attach it."}]


def test_the_faster_ways_to_read_memory_say_why_they_are_not_used() -> None:
    refused = (
        Refusal("process", "it is not visible", "Run gdb as root."),
        Refusal("file", "there is none"),
    )
    found = Attachment("remote :1", "QEMU's mode", None, (), (), "phymem", refused)
    page = target_page(found)
    assert drawn(page).splitlines()[-3:] == [
        "note:     memory is not read through the emulator's process: it is not visible",
        "  Run gdb as root.",
        "note:     memory is not read through a shared memory-backend-file: there is none",
    ]
    assert page.data["transport"] == "phymem"
    assert page.data["not_used"] == [
        {"transport": "process", "why": "it is not visible", "advice": "Run gdb as root."},
        {"transport": "file", "why": "there is none", "advice": None},
    ]


def test_capabilities_add_a_fourth_letter() -> None:
    cpu = Capabilities(46, HOST.ept_vpid_cap, mbec=True)
    memory: SparseMemory[HostPhys] = SparseMemory({0x1000: 0x2407, 0x2000: 0x4000_0487})
    scan: Scan[L2Phys, HostPhys] = Scan(memory, EPTP, cpu)
    assert " RWXu " in drawn(ept_page(Listing("", "EPT12", EPTP, cpu, scan.found(), 1 << 48)))
