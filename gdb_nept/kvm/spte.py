# SPDX-License-Identifier: GPL-2.0-or-later
"""One SPTE, as KVM means it: an entry of EPT01 or EPT02.

The processor sees an EPT entry; KVM also keeps state of its own in the bits that hardware ignores,
and whole entries that hardware takes as not present or misconfigured.  Read as it stands: whether
it is right is for the audit to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gdb_nept.address import HostPhys, L1Phys
from gdb_nept.arch.bits import Bits, Named, Word
from gdb_nept.arch.ept import MEMORY_TYPES, EptEntry
from gdb_nept.kvm.spte_format import SpteFormat
from gdb_nept.kvm.spte_words import AD_DISABLED, AD_WRPROT_ONLY, Software

L1TF_SHIFT = 5  # SHADOW_NONPRESENT_OR_RSVD_MASK_LEN


class SpteKind(Enum):
    """What an SPTE is to KVM; the value is the name in output and JSON."""

    EMPTY = "empty"
    FROZEN = "frozen"  # another thread is changing it (TDP MMU)
    MMIO = "MMIO"
    ACCESS_TRACKED = "access-tracked"  # a leaf that hardware sees as not present
    LEAF = "leaf"
    TABLE = "table"
    OTHER = "not present"  # neither present nor any of the known values


class AdType(Enum):
    """Who keeps the accessed and dirty state of a present SPTE."""

    ENABLED = "A/D bits"
    DISABLED = "no A/D bits; accesses are tracked by taking the rights away"
    WRPROT_ONLY = "A/D bits, with write-protection instead of PML"


@dataclass(frozen=True)
class Mmio:
    """An access that KVM emulates, remembered in the SPTE: the L1 physical page, and the
    generation of the memslots for which that was true."""

    address: L1Phys
    generation: int
    access: int


@dataclass(frozen=True)
class Spte:
    """`read`, `write`, `execute` are KVM's rights (those put aside, if access-tracked); hardware's
    are in `entry`.  `user_execute` is bit 10, kept since 7.2; hardware heeds it with mode-based
    execution only.  `address` is the page or the table, None where there is none."""

    value: int
    level: int
    kind: SpteKind
    entry: EptEntry
    address: HostPhys | None = None
    mmio: Mmio | None = None
    ad_type: AdType | None = None
    read: bool = False
    write: bool = False
    execute: bool = False
    user_execute: bool = False
    accessed: bool = False
    dirty: bool = False
    host_writable: bool = False
    mmu_writable: bool = False
    parts: tuple[Named, ...] = ()

    @property
    def present(self) -> bool:
        """Present for KVM; an access-tracked one is not present for hardware."""
        return self.leaf or self.kind is SpteKind.TABLE

    @property
    def leaf(self) -> bool:
        return self.kind in (SpteKind.LEAF, SpteKind.ACCESS_TRACKED)

    @property
    def memory_type(self) -> str:
        """Of a leaf: 'WB', and 'WB IPAT' if the guest's PAT is ignored."""
        if not self.leaf:
            return ""
        name = MEMORY_TYPES.get(self.entry.memory_type, f"type {self.entry.memory_type}")
        return f"{name} IPAT" if self.entry.ignore_pat else name

    @property
    def protection(self) -> str:
        """Why a leaf is not writable (spte.h, the valid combinations); '' if it is."""
        if not self.leaf or self.write:
            return ""
        if not self.host_writable:
            return "not writable on the host, or read-only by its memslot"
        if not self.mmu_writable:
            return "not writable for the guest (or its dirty flag is clear), or a shadowed table"
        if self.kind is SpteKind.ACCESS_TRACKED:
            return "access-tracked: rights come back with the next access"
        return "write-protected to notice the next write (dirty log, or emulated dirty flag)"


def decode_spte(value: int, level: int, form: SpteFormat) -> Spte:
    """The SPTE `value` found at `level` (1 is the PTE).

    `form` is from spte_format(); mask tests in the order of mmu.c and spte.h."""
    entry = EptEntry(value)
    if value in (0, form.empty):
        return Spte(value, level, SpteKind.EMPTY, entry, parts=entry.named())
    if form.frozen is not None and value == form.frozen:
        return Spte(value, level, SpteKind.FROZEN, entry)
    if form.caches_mmio and value & form.mmio_mask == form.mmio_value:
        return _mmio(value, level, form)
    if form.has_present_bit and not value & Software.mmu_present.mask:
        return Spte(value, level, SpteKind.OTHER, entry, parts=entry.named())
    return _present(value, level, form)


def _present(value: int, level: int, form: SpteFormat) -> Spte:
    entry, own = EptEntry(value), form.software(value)
    ad_type = _ad_type(own)
    leaf = entry.leaf_at(level)
    tracked = leaf and ad_type is AdType.DISABLED and not value & form.rights
    rights = EptEntry((value & form.saved) >> form.saved_shift if tracked else value & form.rights)
    kind = SpteKind.ACCESS_TRACKED if tracked else SpteKind.LEAF if leaf else SpteKind.TABLE
    by_bits = ad_type is not AdType.DISABLED
    return Spte(
        value=value,
        level=level,
        kind=kind,
        entry=entry,
        address=HostPhys(entry.page(level) if leaf else entry.address),
        ad_type=ad_type,
        read=bool(rights.read),
        write=bool(entry.write),
        execute=bool(rights.execute),
        user_execute=bool(rights.user_execute),
        accessed=bool(entry.accessed) if by_bits else not tracked,
        dirty=leaf and bool(entry.dirty if by_bits else entry.write),
        host_writable=leaf and bool(_number(own, "host_writable")),
        mmu_writable=leaf and bool(_number(own, "mmu_writable")),
        parts=_parts(value, form.software),
    )


def _ad_type(own: Word) -> AdType:
    number = _number(own, "ad_type")
    if number == AD_DISABLED:
        return AdType.DISABLED
    return AdType.WRPROT_ONLY if number == AD_WRPROT_ONLY else AdType.ENABLED


def _number(word: Word, name: str) -> int:
    """Field `name` of the word; 0 if this format has no such field."""
    found = next((field for field in word.fields() if field.name == name), None)
    return 0 if found is None else (word.value & found.mask) >> found.low


def _mmio(value: int, level: int, form: SpteFormat) -> Spte:
    """get_mmio_spte_gfn(), get_mmio_spte_generation(), get_mmio_spte_access() of mmu.c."""
    page = value & form.lower_gfn_mask | value >> L1TF_SHIFT & form.rsvd_mask
    low, high = form.mmio.fields()
    generation = (value & low.mask) >> low.low
    generation |= (value & high.mask) >> high.low << _width(low)
    found = Mmio(L1Phys(EptEntry(page).address), generation, value & form.mmio_access_mask)
    place, meaning = EptEntry.address.place, "physical page whose accesses KVM emulates"
    parts = (
        *form.mmio(value & (low.mask | high.mask)).named(),
        Named("mmio_address", place, found.address, meaning, "MMIO"),
    )
    return Spte(value, level, SpteKind.MMIO, EptEntry(value), mmio=found, parts=parts)


def _width(field: Bits) -> int:
    return field.high - field.low + 1


def _parts(value: int, software: type[Word]) -> tuple[Named, ...]:
    """Hardware's fields, then KVM's own, by the format in force."""
    own = sum(field.mask for field in software.fields())
    return EptEntry(value & ~own).named() + software(value & own).named()
