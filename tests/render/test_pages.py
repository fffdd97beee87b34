# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages from values made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from gdb_nept.address import HostPhys, L1Phys, L2Phys
from gdb_nept.arch.bits import Word
from gdb_nept.arch.controls import PrimaryControls
from gdb_nept.arch.cpu import HOST, Capabilities
from gdb_nept.arch.ept import EptEntry, Eptp
from gdb_nept.arch.exits import ExitReason
from gdb_nept.arch.paging import Entry
from gdb_nept.arch.vmcs import Encoding
from gdb_nept.kvm.authority import CURRENT, Situation
from gdb_nept.kvm.spte import decode_spte
from gdb_nept.kvm.spte_format import SINCE_5_13
from gdb_nept.kvm.vmcs12 import decode
from gdb_nept.kvm.vmcs12_layout import Layout, Place
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.memory.transport import Refusal
from gdb_nept.nested.journey import Journey
from gdb_nept.nested.listing import Listing, sptes
from gdb_nept.render.ept import ept_page
from gdb_nept.render.journey import journey_page
from gdb_nept.render.meaning import meaning, problem
from gdb_nept.render.page import WIDTH, Page
from gdb_nept.render.spte import spte_in_words
from gdb_nept.render.target import target_page
from gdb_nept.render.text import draw, pieces
from gdb_nept.render.vmcs12 import GROUPS, vmcs12_page
from gdb_nept.render.word import spte_page, word_page
from gdb_nept.target.attachment import Attachment, Missing
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.runs import Run, Unread, with_holes
from gdb_nept.walk.scan import Scan

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


def drawn(page: Page) -> str:
    text = draw(page)
    assert max(map(len, text.splitlines())) <= WIDTH
    return text


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


@pytest.mark.parametrize(
    ("value", "level", "said"),
    [
        (0, 1, "empty"),
        (0x0600000006000BF7, 2, "RWX; WB IPAT; accessed, dirty"),
        (0x0000000005403907, 4, "RWX; accessed"),
    ],
)
def test_sptes_in_words(value: int, level: int, said: str) -> None:
    assert spte_in_words(decode_spte(value, level, SINCE_5_13)) == said


def test_what_is_doubtful_about_the_format_of_sptes_is_told() -> None:
    page = spte_page(decode_spte(0x37, 1, SINCE_5_13), "6.1", ("a mask is strange",))
    assert "note: a mask is strange" in drawn(page)
    assert page.data["notes"] == ["a mask is strange"]


def test_an_spte_decoded() -> None:
    page = spte_page(decode_spte(0x0600000006000BF7, 2, SINCE_5_13), SINCE_5_13.name)
    text = drawn(page)
    assert "found as a PDE" in text
    assert "host_writable" in text
    assert page.data["kind"] == "spte"


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "level", "said"),
    [
        (EptEntry(0x337), 1, "a PTE that leads to the page of 4K at 0x0: RWX;"),
        (EptEntry(0x2000B7), 2, "a PDE that leads to the page of 2M at 0x200000"),
        (EptEntry(0x2107), 3, "a PDPTE that leads to the table at 0x2000"),
        (EptEntry(0x2100), 1, "a PTE, not present"),
        (ExitReason(48), 1, "EPT violation"),
        (Encoding(0x201A), 1, "EPT pointer"),
        (Eptp(0x105E), 1, "leads to an EPT of 4 levels, whose top table is at 0x1000"),
        (EptEntry(0x400), 1, "a PTE, present under mode-based execute control (MBEC) only, that"),
        (ExitReason(79), 1, "WRMSRLIST"),
        (ExitReason(84), 1, "RDMSR with immediate"),
    ],
)
def test_what_a_word_means(word: Word, level: int, said: str) -> None:
    assert meaning(word, level).startswith(said)
    assert bool(meaning(word, level)) == bool(said)


@pytest.mark.parametrize(
    ("word", "level", "width", "said"),
    [
        (EptEntry(6), 1, 52, "W is set without R (bits 0x2)"),
        (EptEntry(0x17), 1, 52, "memory type is reserved"),
        (EptEntry(4), 1, 52, ""),
        (EptEntry(1 << 45 | 0x37), 1, 40, "a reserved bit is set (bits 0x200000000000)"),
        (EptEntry(0), 1, 52, ""),
        (Eptp(0x1059), 1, 52, "memory type 1 is neither"),
        (Eptp(0x1018), 1, 52, ""),
        (PrimaryControls(0), 1, 52, "must be 1"),
        (Encoding(0x201B), 1, 52, ""),
        (Encoding(0x4013), 1, 52, "high half of a 32-bit field: it has none"),
        (Encoding(0xFFFF), 1, 52, "reserved bits are set: 0x9000"),
        (Entry(1 << 36 | 1), 1, 36, "bits beyond MAXPHYADDR (36) are set: 0x1000000000"),
        (Entry(1 << 36), 1, 36, ""),
    ],
)
def test_what_is_wrong_with_a_word(word: Word, level: int, width: int, said: str) -> None:
    assert said in problem(word, level, width)
    assert bool(problem(word, level, width)) == bool(said)


def test_what_is_wrong_leads_nowhere_and_names_nothing() -> None:
    assert "leads" not in meaning(EptEntry(6), 1, wrong=True)
    assert meaning(EptEntry(6), 1, wrong=True).endswith("its bits say: -WX; UC")
    assert meaning(Encoding(0x4013), 1, wrong=True) == ""


def test_flags_of_an_exit_reason_have_names() -> None:
    names = [row.name for row in ExitReason(1 << 25 | 1 << 26 | 48).named()]
    assert names == ["basic", "shadow_stack_busy", "bus_lock"]


def test_a_word_bit_by_bit() -> None:
    page = word_page("ept", EptEntry(6), "meaning", "wrong")
    text = drawn(page)
    assert text.startswith("EPT entry 0x6\nproblem: wrong\nmeaning\n")
    assert [row["name"] for row in fields(page)] == ["write", "execute"]
    everything = word_page("ept", EptEntry(6), zeros=True)
    assert len(fields(everything)) == len(EptEntry.fields())


def fields(page: Page) -> list[Any]:
    found = page.data["fields"]
    assert isinstance(found, list)
    return found


# -- vmcs12 ----------------------------------------------------------------------------------------

PLACES = (
    Place("ept_pointer", 0x201A, 0, 8),
    Place("guest_rip", 0x681E, 8, 8),
    Place("host_rip", 0x6C16, 16, 8),
    Place("vm_exit_reason", 0x4402, 24, 4),
    Place("exit_qualification", 0x6400, 28, 8),
    Place("vm_exit_controls", 0x400C, 36, 4),
    Place("vm_entry_controls", 0x4012, 40, 4),
    Place("brand_new", None, 44, 8),
)
DATA = (
    0x105E.to_bytes(8, "little")
    + 0x1234.to_bytes(8, "little")
    + 0x5678.to_bytes(8, "little")
    + (48).to_bytes(4, "little")
    + 0x181.to_bytes(8, "little")
    + bytes(16)
)
VMCS12 = decode(DATA, Layout("a test", 52, PLACES), Situation(loaded=True, l2_active=True))


def test_all_fields_stand_in_their_groups() -> None:
    text = drawn(vmcs12_page(VMCS12, every=True))
    places = [text.index(f"\n{group}, ") for group in GROUPS]
    assert places == sorted(places)
    assert "layout: a test" in text
    names = [field.name for field in VMCS12.fields]
    assert all(text.count(f"  {name}  ") == 1 for name in names)


def test_an_authority_stands_once_over_its_fields() -> None:
    words = " ".join(drawn(vmcs12_page(VMCS12)).split())
    before = words.partition("0x681e guest_rip 0x1234")[0]
    heading = "Guest-state area, stale: L2 runs: the value is in vmcs02"
    assert heading in before
    assert words.count(heading) == 1


def test_fields_that_are_0_are_counted_or_named() -> None:
    zero = tuple(replace(field, value=0) for field in VMCS12.fields)
    text = drawn(vmcs12_page(replace(VMCS12, fields=zero)))
    assert "all 0 (--all tells of each): ept_pointer" in " ".join(text.split())
    assert "hardware would" in drawn(vmcs12_page(replace(VMCS12, fields=zero), every=True))
    assert "  guest_rip  " not in text
    assert f"{sum(field.authority not in CURRENT for field in zero)} of {len(zero)} fields" in text


def test_chosen_fields_are_decoded() -> None:
    chosen = tuple(VMCS12.field(name) for name in ("ept_pointer", "exit_qualification"))
    text = drawn(vmcs12_page(VMCS12, chosen))
    assert "host_rip" not in text
    assert "enable accessed and dirty flags" in text
    assert "exit qualification of an EPT violation 0x181:" in text


def test_vmcs12_as_data() -> None:
    data: Any = vmcs12_page(VMCS12).data
    first = data["fields"][0]
    assert first["name"] == "ept_pointer"
    assert (first["encoding"], first["value"]) == ("0x201a", "0x105e")
    assert (first["authority"], first["group"]) == ("authoritative", GROUPS[2])
    assert data["fields"][-1]["encoding"] is None


# -- target ----------------------------------------------------------------------------------------


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
