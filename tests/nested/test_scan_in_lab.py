# SPDX-License-Identifier: GPL-2.0-or-later
"""nept-scan over real memories, against what the VMM had from KVM_GET_NESTED_STATE and pagemap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gdb_nept.commands.dump_context import DumpContext
from gdb_nept.commands.scan import scan
from gdb_nept.memory.reader import PAGE_SIZE
from tests.conftest import facts

pytestmark = pytest.mark.bochs


def scanned(memory: Path, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        scan.answer(DumpContext(memory, ()), [*words, "--json"], False)
    )
    return answer


def whose(answer: dict[str, Any]) -> dict[str, str]:
    return {page["whose"]: page["address"] for page in answer["pages"] if page["whose"]}


def test_what_kvm_says_is_current_is_found_and_told(snapshot: Path) -> None:
    state = facts(snapshot, "nested_state")[-1]
    pages = {
        int(one["gpa"], 16): int(one["pfn"], 16) * PAGE_SIZE
        for told in facts(snapshot, "pagemap")
        for one in told
    }
    found = whose(scanned(snapshot / "memory.raw"))
    for name, words in (("vmxon_pa", "VMXON region"), ("vmcs12_pa", "current vmcs12")):
        place = int(state[name], 16)
        address = int(found[f"{words} (L1 physical {state[name]}) of VM 0, vCPU 0"], 16)
        assert pages.get(place, address) == address
    assert "KVM's copy of the vmcs12 of VM 0, vCPU 0" in found


def test_the_copy_is_decoded_without_types(snapshot: Path) -> None:
    """L1's VMREADs at its last exit."""
    vmcs = facts(snapshot, "vmcs")[-1]
    found = scanned(snapshot / "memory.raw")["pages"]
    (copy,) = (page for page in found if (page["whose"] or "").startswith("KVM's copy"))
    assert copy["doubts"] == []
    assert int(copy["eptp"], 16) & ~0xFFF == int(vmcs["0x201a"], 16) & ~0xFFF
    assert copy["guest_cr3"] == vmcs["0x6802"]


def test_without_a_kernel_pages_are_found_all_the_same(snapshot: Path, tmp_path: Path) -> None:
    whole = scanned(snapshot / "memory.raw")["pages"]
    (copy,) = (page for page in whole if (page["whose"] or "").startswith("KVM's copy"))
    place = int(copy["address"], 16)
    part = tmp_path / "part.raw"
    with (snapshot / "memory.raw").open("rb") as memory, part.open("wb") as file:
        memory.seek(place)
        file.seek(PAGE_SIZE)
        file.write(memory.read(PAGE_SIZE))
        file.truncate(1 << 24)  # no file of a few pages is taken for a dump
    answer = scanned(part)
    assert answer["owners_unknown"]
    assert answer["pages"] == [{**copy, "address": hex(PAGE_SIZE), "whose": None}]


def test_a_range_is_looked_at_alone(snapshot: Path) -> None:
    whole = scanned(snapshot / "memory.raw")["pages"]
    last = whole[-1]["address"]
    assert scanned(snapshot / "memory.raw", last)["pages"] == whole[-1:]
    assert scanned(snapshot / "memory.raw", f"0..{last}")["pages"] == whole[:-1]
