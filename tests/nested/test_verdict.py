# SPDX-License-Identifier: GPL-2.0-or-later
"""Every verdict, on the memory of a real nested host with a few words changed."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import pytest

from gdb_nept.address import HostPhys, L1Phys, L2Phys
from gdb_nept.arch.ept import EptEntry
from gdb_nept.errors import BadInput, MemoryUnreadable, NoGuest
from gdb_nept.judge.oracle import oracle
from gdb_nept.memory.raw import RawMemory
from gdb_nept.memory.reader import PhysicalMemory
from gdb_nept.nested.agreement import Agreement, Fault
from gdb_nept.nested.journey import Journey
from gdb_nept.nested.session import Session
from gdb_nept.nested.verdict import verdict
from gdb_nept.predict.access import Access
from gdb_nept.target.linux import attach
from tests.conftest import facts, kernel_cache
from tests.kernels import facts_of

pytestmark = pytest.mark.bochs

ADDRESS = EptEntry.address.mask
W, X = EptEntry.write.mask, EptEntry.execute.mask
RWX = 7
MMU_PRESENT = 1 << 11
MMIO_TYPE_3 = 3 << 3


class Changed:
    """A memory with some of its 64-bit words replaced."""

    def __init__(self, memory: PhysicalMemory[HostPhys], words: dict[int, int]) -> None:
        self.memory, self.words = memory, words

    def read(self, address: HostPhys, size: int) -> bytes:
        data = bytearray(self.memory.read(address, size))
        for place, word in self.words.items():
            offset = place - address
            if 0 <= offset <= size - 8:
                data[offset : offset + 8] = word.to_bytes(8, "little")
        return bytes(data)


@lru_cache
def raw(snapshot: Path) -> RawMemory[HostPhys]:
    return RawMemory(snapshot / "memory.raw")


def walked(snapshot: Path, address: int, words: dict[int, int] | None = None) -> Journey:
    memory = Changed(raw(snapshot), words or {})
    session = Session(attach(memory, ram=raw(snapshot).size, cache=kernel_cache()))
    return session.journey(session.pick(None, None), L2Phys(address))


class Places:
    """Where the entries of one mapped page lie in the host's memory, and what they hold."""

    def __init__(self, snapshot: Path) -> None:
        page = next(page for page in facts(snapshot, "page") if page["by"] == "l2")
        self.address = int(page["l2gpa"], 16)
        journey = walked(snapshot, self.address)
        assert verdict(journey).agreement is Agreement.AGREE
        assert journey.shadow is not None
        assert journey.ept01 is not None
        assert journey.host is not None
        assert journey.host_physical is not None
        memory = raw(snapshot)
        session = Session(attach(memory, ram=memory.size, cache=kernel_cache()))
        l1 = session.l1_memory(session.pick(None, None))
        leaf = journey.ept12.steps[-1]
        self.ept12 = l1.host_physical(L1Phys(leaf.address)), leaf.entry.value
        shadow = journey.shadow.walk.steps[-1]
        self.ept02 = shadow.address, shadow.entry.value
        own = journey.ept01.walk.steps[-1]
        self.ept01 = own.address, own.entry.value
        step = journey.host.steps[-1]
        self.host = step.address, step.entry.value
        self.page = journey.host_physical


@lru_cache
def places(snapshot: Path) -> Places:
    return Places(snapshot)


def judged(snapshot: Path, **words: int) -> tuple[Agreement, str]:
    """The verdict for the page with the entries called ept12, ept02, ept01, host replaced."""
    where = places(snapshot)
    changed = {getattr(where, name)[0]: word for name, word in words.items()}
    found = verdict(walked(snapshot, where.address, changed))
    return found.agreement, found.sentence


def test_stale_where_the_shadow_leads_elsewhere(plain_snapshot: Path) -> None:
    ept02 = places(plain_snapshot).ept02[1] & ~ADDRESS | 0x5800000
    agreement, sentence = judged(plain_snapshot, ept02=ept02)
    assert agreement is Agreement.STALE
    assert "0x5800000" in sentence
    assert "INVEPT" in sentence


def test_stale_where_ept01_leads_elsewhere(plain_snapshot: Path) -> None:
    ept01 = places(plain_snapshot).ept01[1] & ~ADDRESS | 0x5800000
    agreement, sentence = judged(plain_snapshot, ept01=ept01)
    assert agreement is Agreement.STALE
    assert "EPT01" in sentence


def test_agreement_without_ept01_says_so(plain_snapshot: Path) -> None:
    agreement, sentence = judged(plain_snapshot, ept01=0)
    assert agreement is Agreement.AGREE
    assert "EPT01 does not map it yet" in sentence
    assert "all ways" not in sentence


def test_not_shadowed_yet(plain_snapshot: Path) -> None:
    agreement, sentence = judged(plain_snapshot, ept02=0)
    assert agreement is Agreement.NOT_SHADOWED
    assert "the next read or write or fetch makes L0 fill it in" in sentence


def test_not_shadowed_names_what_l1_refuses(plain_snapshot: Path) -> None:
    ept12 = places(plain_snapshot).ept12[1] & ~(W | X)
    _, sentence = judged(plain_snapshot, ept02=0, ept12=ept12)
    assert "the next read makes L0 fill it in" in sentence
    assert "a write or fetch is an EPT violation that L1 must see" in sentence


def test_an_entry_that_kvm_never_writes_is_broken(plain_snapshot: Path) -> None:
    ept02 = places(plain_snapshot).ept02[1]
    reserved = ept02 & ~EptEntry.memory_type.mask | MMIO_TYPE_3
    for word in (reserved, 0x1234_5000):
        agreement, sentence = judged(plain_snapshot, ept02=word)
        assert agreement is Agreement.BROKEN, sentence
        assert f"{word:#x}" in sentence


def test_an_entry_that_is_being_changed(plain_snapshot: Path) -> None:
    frozen = facts_of(plain_snapshot).frozen
    if frozen is None:  # nobody freezes entries there
        assert judged(plain_snapshot, ept02=0x5A0)[0] is Agreement.BROKEN
        return
    agreement, sentence = judged(plain_snapshot, ept02=frozen)
    assert agreement is Agreement.NOT_SHADOWED
    assert "another thread" in sentence


def test_stale_where_l1_took_the_page_away(plain_snapshot: Path) -> None:
    agreement, sentence = judged(plain_snapshot, ept12=0)
    assert agreement is Agreement.STALE
    assert "EPT12 does not translate it" in sentence


def test_stale_where_the_shadow_allows_more(plain_snapshot: Path) -> None:
    agreement, sentence = judged(plain_snapshot, ept12=places(plain_snapshot).ept12[1] & ~W)
    assert agreement is Agreement.STALE
    assert "allows write, which EPT12 does not" in sentence


def test_stale_where_the_shadow_has_a_larger_page(plain_snapshot: Path) -> None:
    """EPT12 made to lead to a page of L1's that lies in its 2 MBytes of the host as L2's page does
    in its own, and KVM's PDE to those 2 MBytes: as if L1 had just divided a large page."""
    where = places(plain_snapshot)
    within = where.address & 0x1FF000
    session = Session(
        attach(raw(plain_snapshot), ram=raw(plain_snapshot).size, cache=kernel_cache())
    )
    chosen = session.pick(None, None)
    journey = session.journey(chosen, L2Phys(where.address))
    assert journey.shadow is not None
    pde = journey.shadow.walk.steps[-2]
    l1 = session.l1_memory(chosen)
    for page in range(within, 32 << 20, 2 << 20):
        try:
            host = l1.host_physical(L1Phys(page))
        except MemoryUnreadable:
            continue
        if host & 0x1FF000 == within:
            break
    else:
        pytest.fail("no page of L1's lies so")
    words: dict[int, int] = {
        where.ept12[0]: where.ept12[1] & ~ADDRESS | page,
        pde.address: where.ept02[1] & ~ADDRESS | 0x80 | host & ~0x1FFFFF,
    }
    found = verdict(walked(plain_snapshot, where.address, words))
    assert (found.agreement, found.fault) == (Agreement.STALE, Fault.KVM), found.sentence
    assert "by a PDE of KVM's shadow, where EPT12 has smaller pages (PTEs)" in found.sentence


def test_stale_where_the_page_left_all_memslots(plain_snapshot: Path) -> None:
    ept12 = places(plain_snapshot).ept12[1] & ~ADDRESS | 48 << 20
    agreement, sentence = judged(plain_snapshot, ept12=ept12)
    assert agreement is Agreement.STALE
    assert "no memslot" in sentence
    assert judged(plain_snapshot, ept12=ept12, ept02=0)[0] is Agreement.NO_SLOT


def test_stale_where_the_host_took_the_page_away(plain_snapshot: Path) -> None:
    agreement, sentence = judged(plain_snapshot, host=0)
    assert agreement is Agreement.STALE
    assert "KVM's shadow still leads" in sentence
    assert "EPT01 still leads" in sentence
    gone = judged(plain_snapshot, host=0, ept02=0, ept01=0)
    assert gone[0] is Agreement.NOT_BACKED
    assert "bring it in" in gone[1]


def test_rights_that_kvm_withholds(plain_snapshot: Path) -> None:
    ept02 = places(plain_snapshot).ept02[1]
    agreement, sentence = judged(plain_snapshot, ept02=ept02 & ~X)
    assert agreement is Agreement.AGREE
    assert "L1 allows fetch and KVM's shadow does not" in sentence
    agreement, sentence = judged(plain_snapshot, ept02=ept02 & ~W)
    assert agreement is Agreement.AGREE
    assert "L1 allows write and KVM's shadow does not" in sentence


def test_a_read_only_memslot(plain_snapshot: Path) -> None:
    page = next(page for page in facts(plain_snapshot, "page") if page["l1gpa"] == "0xfff00000")
    journey = walked(plain_snapshot, int(page["l2gpa"], 16))
    assert "memslot is read-only" in verdict(journey).sentence


def test_a_page_that_holds_a_table_of_l1s(plain_snapshot: Path) -> None:
    """EPT12 made to lead to one of its own tables, and KVM's shadow likewise, read-only."""
    where = places(plain_snapshot)
    tables = [line for line in facts(plain_snapshot, "entry_at_park") if line["level"] in (1, 2)]
    seen = set()
    for line in tables:
        table = int(line["address"], 16) & ~0xFFF
        memory = raw(plain_snapshot)
        session = Session(attach(memory, ram=memory.size, cache=kernel_cache()))
        host = session.l1_memory(session.pick(None, None)).host_physical(L1Phys(table))
        words: dict[int, int] = {
            where.ept12[0]: where.ept12[1] & ~ADDRESS | table,
            where.ept02[0]: where.ept02[1] & ~ADDRESS & ~W | host,
        }
        found = verdict(walked(plain_snapshot, where.address, words))
        assert found.agreement is Agreement.WRITE_TRACKED, found.sentence
        seen.add(line["level"])
        if seen == {1, 2}:
            return
    pytest.fail("no table of level 1 and of level 2 was tried")


def test_holes_and_misconfigured_entries(plain_snapshot: Path) -> None:
    exits = {line["case"]: line for line in all_exits(plain_snapshot)}
    hole = verdict(walked(plain_snapshot, int(exits["4k-hole/read"]["gpa"], 16)))
    assert hole.agreement is Agreement.NOT_MAPPED
    bad = verdict(walked(plain_snapshot, int(exits["4k-type-2/read"]["gpa"], 16)))
    assert bad.agreement is Agreement.MISCONFIGURED


def all_exits(snapshot: Path) -> list[dict[str, str]]:
    said = json.loads((snapshot / "facts.json").read_text())
    return [line for line in said if "exit" in line and "gpa" in line]


def test_addresses_that_l2_cannot_form(plain_snapshot: Path) -> None:
    assert "MAXPHYADDR" in walked(plain_snapshot, 1 << 45).notes[0]
    with pytest.raises(BadInput, match="no physical address"):
        walked(plain_snapshot, 1 << 52)
    session = Session(attach(raw(plain_snapshot), raw(plain_snapshot).size, cache=kernel_cache()))
    asked = oracle(session, session.pick(None, None), "sdm")
    with pytest.raises(BadInput, match="no physical address"):  # as the walk says
        asked.physical(Access(L2Phys(1 << 52)))


def test_a_vcpu_that_there_is_not(plain_snapshot: Path) -> None:
    session = Session(
        attach(raw(plain_snapshot), ram=raw(plain_snapshot).size, cache=kernel_cache())
    )
    with pytest.raises(NoGuest, match="no VM has a vCPU 7"):
        session.pick(None, 7)
    with pytest.raises(NoGuest, match="VM 1 has no vCPU 7"):
        session.pick(1, 7)
    with pytest.raises(NoGuest, match="no VM 9"):
        session.pick(9, None)
