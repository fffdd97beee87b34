# SPDX-License-Identifier: GPL-2.0-or-later
"""KVM's models against a second telling of its walk: the same steps in the same order, on bare
integers, with none of the project's own notions of entries, rights or misconfigurations.

arch/x86/kvm of Linux: mmu/mmu.c __reset_rsvds_bits_mask_ept(), mmu/paging_tmpl.h
walk_addr_generic(), vmx/vmx.c handle_ept_violation(), vmx/nested.c nested_ept_inject_page_fault().
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from gdb_nept.address import L1Phys
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.predict.access import Access, Op, Stage
from gdb_nept.predict.kvm import KERNELS, Feature
from gdb_nept.predict.outcome import Prediction
from tests.predict.tables import CPU, GPA, RWX, Path, R, ask, to, with_cap

WRITE, USER, RSVD, FETCH = 2, 4, 8, 16  # PFERR_*; of an EPT, USER asks for R
WHOLE = (1 << 64) - 1
CASES = 4000  # of each test; evenly spread, which hypothesis does not care for
FLAGS = (0, 1 << 8, 1 << 9, 1 << 10, 1 << 10, 1 << 11, 1 << 57, 1 << 58, 1 << 60, 1 << 63)
RESERVED = (1 << 3, 1 << 4, 1 << 6, 1 << 7, 1 << 12, 1 << 39, 1 << 51)


def some_path(draw: Random) -> Path:
    """One entry, mostly, is other than it should be."""
    leaf, levels = draw.choice((1, 1, 2, 3)), draw.choice((4, 4, 4, 5))
    at = draw.randint(leaf, levels)
    reserved = draw.choice(RESERVED) if draw.random() < 0.2 else 0
    rights = dict.fromkeys(range(leaf, levels + 1), RWX)
    rights[at] = draw.choice((draw.randrange(8), R, RWX))
    return Path(
        leaf,
        levels,
        rights,
        {at: draw.choice(FLAGS) | reserved},
        ad=draw.random() < 0.5,
    )


def some_access(draw: Random) -> Access:
    user = draw.random() < 0.5
    return to(draw.choice(tuple(Op)), draw.choice(tuple(Stage)), user=user)


def some_processor(draw: Random) -> Capabilities:
    names = ("execute_only", "advanced_exit", "page_1g", "page_2m")
    cpu = with_cap(CPU, **{name: draw.randrange(2) for name in names})
    return replace(cpu, mbec=draw.random() < 0.5)


@dataclass(frozen=True)
class Walker:
    """What the walk of one kernel depends on."""

    features: frozenset[Feature]
    cpu: Capabilities
    ad: bool
    mbec: bool

    def rsvd(self, level: int, large: bool) -> int:
        high = ((1 << 52) - 1) & ~((1 << self.cpu.maxphyaddr) - 1)
        if level == 1:
            return high
        if level >= 4:
            return high | 0xF8
        cap = self.cpu.ept_vpid_cap.value
        offered = cap >> (16 if level == 2 else 17) & 1
        checked = Feature.LARGE_PAGES_CHECKED in self.features
        bit_7 = 0 if offered or not checked else 1 << 7
        return high | bit_7 | ((0x1FF000 if level == 2 else 0x3FFFF000) if large else 0x78)

    def bad_mt_xwr(self, entry: int) -> bool:
        if self.mbec and entry >> 10 & 1:
            entry |= 4
        kind, xwr = entry >> 3 & 7, entry & 7
        execute_only = self.cpu.ept_vpid_cap.value & 1
        return kind in (2, 3, 7) or xwr in (2, 6) or (xwr == 4 and not execute_only)

    def walk(self, words: Mapping[int, int], eptp: int, access: int, user: bool) -> tuple[int, int]:
        """The error code, 0 for a page; and the AND of the entries read."""
        level = (eptp >> 3 & 7) + 1 if Feature.FIVE_LEVELS in self.features else 4
        table, both = eptp, (1 << 64) - 1
        while True:
            index = GPA >> 12 + 9 * (level - 1) & 511
            entry = words.get((table & 0xF_FFFF_FFFF_F000) + index * 8, 0)
            both &= entry
            if not entry & (0x407 if self.mbec else 7):
                return access | 1 << 9, both
            if entry & self.rsvd(level, bool(entry >> 7 & 1)) or self.bad_mt_xwr(entry):
                return access | RSVD, both
            if level == 1 or entry >> 7 & 1:
                return (access | 1 << 9 if self.fault(access, both, user) else 0), both
            table, level = entry, level - 1

    def fault(self, access: int, both: int, user: bool) -> bool:
        """permission_fault(), from update_permission_bitmask()."""
        if access & WRITE and not both & 2:
            return True
        if access & FETCH and not both & (1 << 10 if self.mbec and user else 4):
            return True
        if Feature.READ_TRACKED not in self.features:
            return False
        reads = not access & (WRITE | FETCH) if Feature.ONE_KIND in self.features else access & USER
        return bool(reads and not both & 1)


def reported(walker: Walker, access: Access, raw: int) -> int:
    """error_code, of handle_ept_violation(), for an access of the processor."""
    has = Feature.ACCESSED_DIRTY in walker.features, Feature.WALK_AS_MADE in walker.features
    if has == (True, False) and not raw >> 8 & 1 and not walker.ad:
        raw &= ~2
    return (USER if raw & 1 else 0) | (WRITE if raw & 2 else 0) | (FETCH if raw & 4 else 0)


def injected(walker: Walker, code: int, both: int, raw: int) -> tuple[int, int]:
    """Reason and qualification, for kernels from 4.17 on (before, see test_kvm.py)."""
    if code & RSVD:
        return 49, 0 if Feature.MISCONFIG_CLEARED in walker.features else raw
    told = (both & 7) << 3 | raw & 0x180
    if Feature.ONE_KIND in walker.features:
        told |= 2 if code & WRITE else 4 if code & FETCH else 1
        told |= 1 if raw & 0x180 == 0x80 else 0
        told |= 0x40 if walker.mbec and both >> 10 & 1 else 0
        if Feature.ADVANCED in walker.features and walker.cpu.ept_vpid_cap.value >> 22 & 1:
            told |= raw & 0xE00
        return 48, told
    return 48, told | (code >> 2 & 1) | (code & WRITE) | (code >> 2 & 4)


def as_seen(access: Access, raw: int, ad: bool) -> int:
    """A qualification that a processor can leave such an access with, and `raw` in the bits that
    say nothing of the kind of access."""
    kind = {Op.READ: 1, Op.WRITE: 2, Op.FETCH: 4, Op.RMW: 2 | raw & 1}[access.op]
    linear = 0x180
    if access.stage is Stage.WALK:
        kind, linear = 3 if ad or access.op in (Op.WRITE, Op.RMW) else 1, 0x80
    if access.stage is Stage.PDPTE:
        kind, linear = 1, 0
    user = 0x200 if access.user else 0
    return raw & ~0x387 | kind | linear | user


MODERN = [name for name, features in KERNELS.items() if Feature.KIND_OF_WALK in features]
OLD = [name for name in KERNELS if name not in MODERN]


def test_the_walk_by_its_steps() -> None:
    draw = Random(48)
    for _ in range(CASES):
        name, path, access = draw.choice(MODERN), some_path(draw), some_access(draw)
        cpu, features = some_processor(draw), KERNELS[name]
        walker = Walker(features, cpu, path.ad, cpu.mbec and Feature.MBEC in features)
        seen = as_seen(access, draw.randrange(1 << 17), path.ad)
        kind = reported(walker, access, seen)
        code, both = walker.walk(path.words, path.eptp.value, kind, access.user)
        found = ask(path, replace(access, raw=seen), cpu, name)
        expected = injected(walker, code, both, seen) if code else (None, 0)
        assert (found.reason, found.qualification) == expected, (name, path, access, cpu)
        assert found.mask == (WHOLE if code else 0)
        assert fits(ask(path, access, cpu, name), found), (name, path, access, cpu)


def test_the_outcome_by_its_steps() -> None:
    draw = Random(49)
    for _ in range(CASES):
        name, path, access = draw.choice(OLD), some_path(draw), some_access(draw)
        cpu, features = some_processor(draw), KERNELS[name]
        on_ept02 = path.ad or Feature.WALK_AS_MADE not in features  # construct_eptp() sets bit 6
        walker = Walker(features, cpu, path.ad and Feature.ACCESSED_DIRTY in features, False)
        seen = as_seen(access, draw.randrange(1 << 17), on_ept02)
        kind = reported(walker, access, seen)
        code, _ = walker.walk(path.words, path.eptp.value, kind, access.user)
        found = ask(path, replace(access, raw=seen), cpu, name)
        expected = None if not code else 49 if code & RSVD else 48
        assert found.reason == expected, (name, path, access, cpu)
        assert fits(ask(path, access, cpu, name), found), (name, path, access, cpu)


def fits(unseen: Prediction[L1Phys], seen: Prediction[L1Phys]) -> bool:
    """Whether what is claimed without the processor's qualification is true with it."""
    differing = (unseen.qualification ^ seen.qualification) & unseen.mask
    return unseen.reason == seen.reason and not differing
