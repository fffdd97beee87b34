# SPDX-License-Identifier: GPL-2.0-or-later
"""Each class of known bug, in a real memory: what that bug would have written is put into vmcs12,
and nept-check must name it, and no other.

L1 stands in its exit handler: L2 has written to 0x2004108, a page that EPT12 maps R-X (0x1AA).
What a bug writes is worked out here by hand from the entries that a test puts there: bits 2:0 the
access, 5:3 the rights, 8:7 the guest-linear address (SDM vol. 3, June 2026, table 30-7), and the
error code of a page fault (P 1, W 2, U 4, RSVD 8).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from gdb_nept.address import L2Phys, L2Virt
from gdb_nept.arch.exits import ExitReason
from gdb_nept.judge.candidates import link_of, place_of
from gdb_nept.judge.check import Check, Finding, check, foretell
from gdb_nept.judge.comparison import Case, Told
from gdb_nept.judge.features import named_model
from gdb_nept.judge.ground import ground
from gdb_nept.judge.slips import Slip
from gdb_nept.judge.suspects import KVM_ITSELF, suspects_for
from gdb_nept.nested.guest_registers import guest_registers
from gdb_nept.predict.access import Access, Op, Stage
from gdb_nept.predict.kvm import Feature
from gdb_nept.render.check import verdict
from tests.kernels import facts_of
from tests.overlay import opened

pytestmark = pytest.mark.bochs

REASON, QUALIFICATION, PHYSICAL, LINEAR = (
    "vm_exit_reason",
    "exit_qualification",
    "guest_physical_address",
    "guest_linear_address",
)
GONE = {1: 0}  # the PTE is not present
W_ALONE = {1: 0x1024032}  # W without R: misconfigured
V2 = "the nested EPT series of 2012"
BARE = Slip.LINEAR_BITS_LOST  # 0x182 without them is 2, and 0x184 is 4: bits alone tell no more
STALE = Feature.LINEAR_COPIED.value  # a linear address that is another's may be any
LATEST = "kvm-7.2"
LINEAR_BITS = 0x180
ADVANCED_BITS = 0xE00


def as_here(snapshot: Path, wrote: Mapping[str, int]) -> dict[str, int]:
    """With bits 11:9 of the exit that L1 saw, where bits 8:7 are told as well: a processor with
    advanced exit information sets them together."""
    said = json.loads((snapshot / "facts.json").read_text())
    seen = next(int(one["qualification"], 16) for one in said if one.get("case") == "park")
    found = dict(wrote)
    if found.get(QUALIFICATION, 0) & LINEAR_BITS == LINEAR_BITS:
        found[QUALIFICATION] |= seen & ADVANCED_BITS
    return found


def checked(
    snapshot: Path,
    poison: Mapping[str, int],
    entries: Mapping[int, int] | None = None,
    by: str = LATEST,
) -> Check:
    session, chosen = opened(snapshot, poison, entries)
    return check(session, chosen, named_model(session, chosen, by))


@dataclass(frozen=True)
class Bug:
    """What it wrote, over which entries, and how it is named: by the first of `says`, and by the
    others where they lead to the same."""

    wrote: Mapping[str, int]
    says: tuple[str, ...]
    entries: Mapping[int, int] = field(default_factory=dict)
    by: str = LATEST


BUGS = {
    "2012: write, not present": Bug({QUALIFICATION: 0x2}, (V2, BARE), GONE),
    "2012: read or fetch, not present": Bug({QUALIFICATION: 0x0}, (V2,), GONE),
    "2012: write to R-X": Bug({QUALIFICATION: 0x3}, (V2,)),
    "2012: misconfigured, read": Bug({QUALIFICATION: 0x9}, (V2,), W_ALONE),
    "2012: misconfigured, write": Bug({QUALIFICATION: 0xB}, (V2,), W_ALONE),
    "2012: no linear address either": Bug({QUALIFICATION: 0x2, LINEAR: 0}, (V2, BARE), GONE),
    "KVM's error code: read, not present": Bug({QUALIFICATION: 0x4}, (Slip.ERROR_CODE, BARE), GONE),
    "KVM's error code: misconfigured, 49": Bug(
        {REASON: 49, QUALIFICATION: 0xB}, (Slip.ERROR_CODE,), W_ALONE
    ),
    "48 where 49 is due, as if not present": Bug({QUALIFICATION: 0x182}, (Slip.TOLD_48,), W_ALONE),
    "48 where 49 is due, with W": Bug({QUALIFICATION: 0x192}, (Slip.TOLD_48,), W_ALONE),
    "49 where 48 is due": Bug({REASON: 49, QUALIFICATION: 0}, (Slip.TOLD_49,)),
    "49 where 48 is due, not cleared": Bug({REASON: 49}, (Slip.TOLD_49,), by="sdm"),
    "no table": Bug({QUALIFICATION: 0x1BA}, (Slip.NO_TABLE,)),
    "no table, PTE gone": Bug({QUALIFICATION: 0x1BA}, (Slip.NO_TABLE,), GONE),
    "no table below R--": Bug({QUALIFICATION: 0x18A}, (Slip.NO_TABLE,), {2: 0xDF8101, 1: 0}),
    "raw bit 6": Bug({QUALIFICATION: 0x1EA}, (Slip.RAW_BITS,)),
    "raw bit 12": Bug({QUALIFICATION: 0x11AA}, (Slip.RAW_BITS,)),
    "raw bits 11:9": Bug({QUALIFICATION: 0x7AA}, (Slip.RAW_BITS, Feature.ADVANCED.value)),
    "page offset lost": Bug({PHYSICAL: 0x2004000}, (Slip.OFFSET_LOST, STALE), by="sdm"),
    "bits 8:7 lost": Bug({QUALIFICATION: 0x2A}, (Slip.LINEAR_BITS_LOST,)),
    "linear address never set": Bug({LINEAR: 0}, (Feature.LINEAR_COPIED.value,)),
    "misconfiguration's qualification stale": Bug(
        {REASON: 49, QUALIFICATION: 0x182}, (Feature.MISCONFIG_CLEARED.value,), W_ALONE
    ),
    "L0 emulated, bits 8:7 of another exit": Bug(
        {PHYSICAL: 0x2004000, QUALIFICATION: 0x2A}, (Feature.LINEAR_SYNTHESISED.value,)
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_known_bug_is_named_and_no_other(exit_snapshot: Path, name: str) -> None:
    bug = BUGS[name]
    if name == "raw bits 11:9" and Feature.ADVANCED in facts_of(exit_snapshot).features:
        pytest.skip("here they are told to L1 rightly")
    found = checked(exit_snapshot, as_here(exit_snapshot, bug.wrote), bug.entries, bug.by)
    assert found.finding in (Finding.DIFFER, Finding.NO_EXIT)
    assert any(bug.says[0] in text for text in found.explanations)
    for text in found.explanations:
        assert any(says in text for says in bug.says), found.explanations


def test_a_table_in_no_memory_is_kvms_rule_and_no_bug(exit_snapshot: Path) -> None:
    """The manual's processor reads something there: only KVM makes a violation of it, with every
    rule that it has."""
    entries = {2: 0x40000107}
    wrote = as_here(exit_snapshot, {QUALIFICATION: 0x1BA})
    by_kvm = checked(exit_snapshot, wrote, entries)
    assert by_kvm.finding is Finding.AGREE
    by_sdm = checked(exit_snapshot, wrote, entries, "sdm")
    assert by_sdm.finding is Finding.UNKNOWN
    assert by_sdm.explanations == (KVM_ITSELF,)
    assert "0x40000000" in by_sdm.unknown
    assert "does not say what an access to 0x2004108 leads to" in verdict(by_sdm)


def test_a_page_walk_told_as_a_read(exit_snapshot: Path) -> None:
    """An entry of L2's own paging, where it is used for the linear address that vmcs12 has."""
    session, chosen = opened(exit_snapshot)
    base, registers = ground(session, chosen), guest_registers(session, chosen)
    assert base.eptp.accessed_dirty
    top = registers.paging.cr3 & ~0xFFF
    linear = session.vmcs12(chosen).field(LINEAR).value
    entry = top + (linear >> 39 & 511) * 8
    walked = base.predict(Access(L2Phys(entry)), named_model(session, chosen, "sdm")).walk
    leaf = walked.steps[-1]
    assert leaf.leaf
    assert leaf.entry.value & 7 == 7
    poison = {PHYSICAL: entry, QUALIFICATION: 0x83 | 0x28}
    executable = _leaf_of(exit_snapshot, poison, leaf.level, leaf.entry.value & ~2)
    assert executable.finding is Finding.AGREE
    told = {**poison, QUALIFICATION: 0x81 | 0x28}
    found = _leaf_of(exit_snapshot, told, leaf.level, leaf.entry.value & ~2)
    assert found.finding is Finding.DIFFER
    assert found.explanations == (Slip.WALK_READS,)


def _leaf_of(snapshot: Path, poison: Mapping[str, int], level: int, entry: int) -> Check:
    """vmcs12 first: the entries replaced are those on the way of the address in it."""
    session, chosen = opened(snapshot, poison, {level: entry}, at=poison[PHYSICAL])
    return check(session, chosen, named_model(session, chosen, LATEST))


WRONG_SHAPES = (0x0, 0x2, 0x5, 0x9, 0x13, 0x1, 0x8, 0xB, 0x11)


@pytest.mark.parametrize("value", WRONG_SHAPES)
def test_a_shape_is_not_enough_for_the_series_of_2012(exit_snapshot: Path, value: int) -> None:
    """Over a page R-X no access of the processor gives 0, 2, 5, 9, 0x13 in that series: a read is
    let through, and of a write the code is P and W."""
    found = checked(exit_snapshot, {QUALIFICATION: value})
    assert found.finding is Finding.DIFFER
    assert not any("2012" in text for text in found.explanations)


SCENES: tuple[Mapping[int, int], ...] = ({}, GONE, W_ALONE, {1: 0x1024031}, {2: 0xDF8103})


@pytest.mark.parametrize("gpa", [0x2004108, 0x2004000])
@pytest.mark.parametrize("scene", range(len(SCENES)))
def test_no_cause_is_named_that_does_not_give_the_value(
    exit_snapshot: Path, scene: int, gpa: int
) -> None:
    """The models are asked anew, one access at a time; 300 exits are drawn."""
    session, chosen = opened(exit_snapshot, {PHYSICAL: gpa}, SCENES[scene], at=gpa)
    asked, base = named_model(session, chosen, LATEST), ground(session, chosen)
    place = place_of(session.vmcs12(chosen))
    link = link_of(base, place, guest_registers(session, chosen).paging)
    foretold = foretell(session, chosen, base, place, link, asked)
    given = [
        (suspect.says or suspect.release, base.predict(access, suspect.model))
        for suspect in suspects_for(asked)
        for access in _accesses(gpa)
    ]
    random, named = Random(gpa + scene), 0
    for _ in range(300):
        bits = random.choice((0x1F, 0xFF, 0x1BF, 0x1FF, 0x1FFF, (1 << 64) - 1))
        reason, value = random.choice((48, 48, 49)), random.getrandbits(64) & bits
        told = Told(ExitReason(reason), value)
        case = Case(place, link, foretold.foresight, told, foretold.suspects)
        right = {
            says
            for says, made in given
            if made.reason == reason and not (made.qualification ^ value) & made.mask
        }
        for text in case.explanations():
            named += 1
            releases = text[len(TOGETHER[0]) : -len(TOGETHER[1])].split(", ")
            assert text in right or set(releases) <= right, (hex(value), reason, text)
    assert named


TOGETHER = ("the rules of KVM in Linux ", ", together")


def _accesses(gpa: int) -> list[Access]:
    """All kinds, whatever L2's page tables tell."""
    return [
        Access(
            L2Phys(gpa),
            op,
            user,
            stage,
            gla=L2Virt(0x500002004108),
            linear_writable=rights and True,
            linear_execute_disable=rights and False,
            emulated=emulated,
        )
        for op in Op
        for stage in Stage
        for user in (False, True)
        for emulated in (False, True)
        for rights in (None, True)
    ]
