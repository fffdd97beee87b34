# SPDX-License-Identifier: GPL-2.0-or-later
"""An entry of KVM's own EPTs in words, with what KVM itself keeps in it."""

from __future__ import annotations

from gdb_nept.kvm.spte import Spte, SpteKind
from gdb_nept.render.text import columns, flags


def spte_in_words(spte: Spte) -> str:
    """read, write, execute; WB; accessed, dirty -- or why it is none of KVM's mappings."""
    if spte.mmio is not None:
        return f"MMIO of {spte.mmio.address:#x}: KVM emulates the access"
    if not spte.present:
        return spte.kind.value
    can = [name for name in ("read", "write", "execute") if getattr(spte, name)]
    used = [name for name in ("accessed", "dirty") if getattr(spte, name)]
    parts = [
        ", ".join(can) or "no rights",
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
    can = "".join(
        letter if right else "-"
        for letter, right in (("R", spte.read), ("W", spte.write), ("X", spte.execute))
    )
    used = flags(spte.accessed, spte.dirty if spte.leaf else None)
    parts = [
        spte.memory_type,
        "access-tracked" if spte.kind is SpteKind.ACCESS_TRACKED else "",
        spte.protection if spte.kind is SpteKind.LEAF else "",
    ]
    return columns(can, used, "; ".join(part for part in parts if part))
