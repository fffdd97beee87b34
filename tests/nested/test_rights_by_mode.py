# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts under mode-based execute control: bit 10 of EPT12's entries is a right of its own, which
KVM shadows since 7.2 (mmu/spte.c make_spte(): shadow_xu_mask)."""

from __future__ import annotations

from typing import Any

import pytest

from gdb_nept.address import HostPhys, L2Phys
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import EptEntry
from gdb_nept.kvm.spte import SpteKind, decode_spte
from gdb_nept.kvm.spte_format import SINCE_7_2
from gdb_nept.nested.agreement import Agreement, Verdict
from gdb_nept.nested.epts import ept02_cpu
from gdb_nept.nested.journey import Journey, ShadowWalk
from gdb_nept.nested.shadowed import compared
from gdb_nept.nested.wording import allowed_by, either
from gdb_nept.walk.ept import walk_ept
from tests.predict.tables import CPU, GPA, MBEC, PAGE, RWX, XU, Path, R, W, X

HOST_PAGE = HostPhys(PAGE | GPA & 0xFFF)
EVERY = RWX | XU
PRESENT = 1 << 11  # SPTE_MMU_PRESENT_MASK


def walked(rights: int, cpu: Capabilities, extra: int = 0) -> Any:
    path = Path(
        rights={4: EVERY, 3: EVERY, 2: EVERY, 1: rights}, extra=dict.fromkeys((4, 3, 2, 1), extra)
    )
    return walk_ept(path.memory, path.eptp, L2Phys(GPA), cpu), path.eptp


def judged(l1: int, kvm: int, mbec: bool = True) -> Verdict:
    """EPT12's leaf and KVM's with these rights, to one page."""
    cpu = MBEC if mbec else CPU
    ept12, eptp = walked(l1, cpu)
    own, _ = walked(kvm, ept02_cpu(cpu, SINCE_7_2), PRESENT)
    sptes = tuple(decode_spte(step.entry.value, step.level, SINCE_7_2) for step in own.steps)
    assert sptes[-1].kind is SpteKind.LEAF
    nothing: dict[str, Any] = dict.fromkeys(("slot", "host_virtual", "host", "tracking", "table"))
    shadow = ShadowWalk(own, sptes, ())
    journey = Journey(
        *(L2Phys(GPA), 0, 0, eptp, ept12),
        **nothing,
        shadow=shadow,
        shadow_missing="",
        ept01=None,
        notes=(),
        mbec=mbec,
        cpu=cpu,
    )
    return compared(journey, HOST_PAGE)


@pytest.mark.parametrize(
    ("l1", "kvm", "agreement", "says"),
    [
        (R | X | XU, R | X | XU, Agreement.AGREE, "a write is an EPT violation"),
        (R | X, R | X, Agreement.AGREE, "a write or user fetch is an EPT violation"),
        (R | XU, R | XU, Agreement.AGREE, "a write or supervisor fetch is an EPT violation"),
        (R | X, R | X | XU, Agreement.STALE, "allows user fetch, which EPT12 does not"),
        (R | XU, R | X | XU, Agreement.STALE, "allows supervisor fetch, which EPT12 does not"),
        (R, R | X | XU, Agreement.STALE, "allows fetch, which EPT12 does not"),
        (R | X | XU, R | X, Agreement.AGREE, "L1 allows user fetch and KVM's shadow does not"),
        (XU, XU, Agreement.AGREE, "a read or write or supervisor fetch is an EPT violation"),
    ],
)
def test_each_mode_has_its_right_to_fetch(
    l1: int, kvm: int, agreement: Agreement, says: str
) -> None:
    found = judged(l1, kvm)
    assert found.agreement is agreement, found
    assert says in found.sentence


@pytest.mark.parametrize("bit_10", [0, XU])
def test_without_it_bit_10_is_no_right(bit_10: int) -> None:
    """KVM mirrors it all the same (gpte_access())."""
    for l1, kvm in ((R | X, R | X | bit_10), (R | X | bit_10, R | X)):
        found = judged(l1, kvm, mbec=False)
        assert found.agreement is Agreement.AGREE
        assert "; a write is an EPT violation" in found.sentence


def test_rights_in_words() -> None:
    assert allowed_by(EptEntry(R | X)) == {"read", "fetch"}
    assert allowed_by(EptEntry(EVERY & ~W), mbec=True) == {"read", "supervisor fetch", "user fetch"}
    assert either(allowed_by(EptEntry(EVERY), mbec=True)) == "read or write or fetch"
    assert either({"user fetch", "read"}) == "read or user fetch"
