# SPDX-License-Identifier: GPL-2.0-or-later
"""An entry of KVM's own EPTs in words, with what KVM itself keeps in it."""

from __future__ import annotations

from gdb_nept.kvm.spte import Spte, SpteKind
from gdb_nept.render.text import columns, flags


def spte_in_words(spte: Spte) -> str:
    """RWX; WB; accessed, dirty -- or why it is none of KVM's mappings."""
    if spte.mmio is not None:
        return f"MMIO of {spte.mmio.address:#x}: KVM emulates the access"
    if not spte.present:
        return spte.kind.value
    used = [name for name in ("accessed", "dirty") if getattr(spte, name)]
    parts = [
        _rights(spte),
        spte.memory_type,
        ", ".join(used),
        "access-tracked" if spte.kind is SpteKind.ACCESS_TRACKED else "",
        spte.protection if spte.kind is SpteKind.LEAF else "",
    ]
    return "; ".join(part for part in parts if part)


def spte_marks(spte: Spte) -> str:
    """RWX  AD  WB IPAT -- or why it is none of KVM's mappings."""
    if spte.mmio is not None or not spte.present:
        return spte_in_words(spte)
    used = flags(spte.accessed, spte.dirty if spte.leaf else None)
    parts = [
        spte.memory_type,
        "access-tracked" if spte.kind is SpteKind.ACCESS_TRACKED else "",
        spte.protection if spte.kind is SpteKind.LEAF else "",
    ]
    return columns(_rights(spte), used, "; ".join(part for part in parts if part))


def _rights(spte: Spte) -> str:
    letters = (("R", spte.read), ("W", spte.write), ("X", spte.execute))
    return "".join(letter if right else "-" for letter, right in letters)
