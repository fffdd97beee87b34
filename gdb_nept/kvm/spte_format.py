# SPDX-License-Identifier: GPL-2.0-or-later
"""How this kernel's KVM writes its own EPT entries (SPTEs): which software bits lie where.

arch/x86/kvm/mmu/spte.h and spte.c since 5.10, mmu.c before.  The format is found by members and by
variables of kvm.ko that came with it, never by version.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gdb_nept.arch.bits import Word, bit, bits
from gdb_nept.arch.ept import EptEntry
from gdb_nept.errors import TypeMissing
from gdb_nept.kvm.variables import variable
from gdb_nept.target.ports import Kernel, Value

AD_DISABLED, AD_WRPROT_ONLY = 1, 2
AD_MEANING = "A/D bits: 0 used, 1 not used, 2 used with write-protection"
HOST_WRITABLE, MMU_WRITABLE = "the host's page is writable", "KVM may make it writable at any time"
SAVED = "W, X, R put aside by access tracking (in the order of bits 2:0)"


class Software(Word):
    """KVM's own bits in an SPTE since 5.13."""

    title = "software bits of an SPTE"

    mmu_present = bit(11, "present for KVM, whatever R, W, X say", "MMU-present")
    ad_type = bits(53, 52, AD_MEANING, "AD-type")
    saved_rights = bits(56, 54, SAVED, "saved")
    host_writable = bit(57, HOST_WRITABLE, "host-writable")
    mmu_writable = bit(58, MMU_WRITABLE, "MMU-writable")


class SoftwareTyped(Word):
    """5.4 to 5.12: type 3 of the A/D bits marks MMIO."""

    title = "software bits of an SPTE"

    host_writable = bit(10, HOST_WRITABLE, "host-writable")
    mmu_writable = bit(11, MMU_WRITABLE, "MMU-writable")
    ad_type = bits(53, 52, f"{AD_MEANING}, 3 MMIO", "AD-type")
    saved_rights = bits(56, 54, SAVED, "saved")


class SoftwareMarked(Word):
    """4.12 to 5.3: one bit says that A/D bits are not used; `ad_type` is that bit here."""

    title = "software bits of an SPTE"

    host_writable = bit(10, HOST_WRITABLE, "host-writable")
    mmu_writable = bit(11, MMU_WRITABLE, "MMU-writable")
    saved_rights = bits(54, 52, SAVED, "saved")
    ad_type = bit(62, "A/D bits are not used", "special")


class SoftwareOldest(Word):
    """Up to 4.10: no access tracking."""

    title = "software bits of an SPTE"

    host_writable = bit(10, HOST_WRITABLE, "host-writable")
    mmu_writable = bit(11, MMU_WRITABLE, "MMU-writable")


class MmioWord(Word):
    """An MMIO SPTE since 5.13."""

    title = "MMIO SPTE"

    generation_low = bits(10, 3, "memslot generation, low 8 bits")
    generation_high = bits(62, 52, "memslot generation, high 11 bits")


class MmioTyped(Word):
    """5.4 to 5.12."""

    title = "MMIO SPTE"

    generation_low = bits(11, 3, "memslot generation, low 9 bits")
    generation_high = bits(62, 54, "memslot generation, high 9 bits")


class MmioOld(Word):
    """Up to 5.3."""

    title = "MMIO SPTE"

    generation_low = bits(11, 3, "memslot generation, low 9 bits")
    generation_high = bits(61, 52, "memslot generation, high 10 bits")


RIGHTS = EptEntry.read.mask | EptEntry.write.mask | EptEntry.execute.mask
WX = EptEntry.write.mask | EptEntry.execute.mask  # a misconfiguration on purpose: MMIO
SUPPRESS_VE = EptEntry.suppress_ve.mask
FROZEN = 0x5A0  # REMOVED_SPTE (5.13+), FROZEN_SPTE (6.12+)


@dataclass(frozen=True)
class SpteFormat:
    """`software` and `mmio` name the bits; an MMIO SPTE is one with mask and value as here."""

    name: str
    software: type[Word]
    mmio: type[Word]
    mmio_mask: int
    mmio_value: int
    empty: int = 0
    frozen: int | None = None
    mmio_access_mask: int = 0
    rsvd_mask: int = 0  # shadow_nonpresent_or_rsvd_mask: set in MMIO SPTEs against L1TF
    lower_gfn_mask: int = EptEntry.address.mask
    caches_mmio: bool = True
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def has_present_bit(self) -> bool:
        return self.software is Software


SINCE_6_10 = SpteFormat(
    "6.10 and later", Software, MmioWord, RIGHTS | SUPPRESS_VE, WX | SUPPRESS_VE,
    SUPPRESS_VE, SUPPRESS_VE | FROZEN,
)  # fmt: skip
SINCE_5_13 = SpteFormat("5.13 to 6.9", Software, MmioWord, RIGHTS, WX, 0, FROZEN)
SINCE_5_4 = SpteFormat("5.4 to 5.12", SoftwareTyped, MmioTyped, 3 << 52, 3 << 52)
SINCE_4_12 = SpteFormat("4.12 to 5.3", SoftwareMarked, MmioOld, 1 << 62 | RIGHTS, 1 << 62 | WX)
OLDEST = SpteFormat("up to 4.10", SoftwareOldest, MmioOld, 3 << 62 | WX, 3 << 62 | WX)


def spte_format(kernel: Kernel, vm: Value) -> SpteFormat:
    """The format in force for EPTs of this VM (a struct kvm).  Raises MemoryUnreadable."""
    masks = _Masks(kernel)
    base = _base(kernel, vm, masks)
    mask, value = _mmio_mask_and_value(base, vm, masks)
    notes = []
    host_writable = masks.number("shadow_host_writable_mask", 0)
    if host_writable and host_writable != Software.host_writable.mask:
        notes.append(f"shadow_host_writable_mask is {host_writable:#x}: does KVM use EPT at all?")
    return SpteFormat(
        name=base.name,
        software=base.software,
        mmio=base.mmio,
        mmio_mask=mask,
        mmio_value=value,
        empty=base.empty,
        frozen=base.frozen,
        mmio_access_mask=masks.number("shadow_mmio_access_mask", 0),
        rsvd_mask=masks.number("shadow_nonpresent_or_rsvd_mask", 0),
        lower_gfn_mask=masks.number(
            "shadow_nonpresent_or_rsvd_lower_gfn_mask", EptEntry.address.mask
        ),
        caches_mmio=value != 0 and masks.number("enable_mmio_caching", 1, 1) != 0,
        notes=tuple(notes),
    )


def _mmio_mask_and_value(base: SpteFormat, vm: Value, masks: _Masks) -> tuple[int, int]:
    if base is SINCE_5_4:
        return base.mmio_mask, base.mmio_value  # the type alone decides
    mask = masks.number("shadow_mmio_mask", base.mmio_mask)
    if vm.member("arch").has("shadow_mmio_value"):  # 6.10+: each VM has its own
        return mask, vm.member("arch.shadow_mmio_value").number()
    # Up to 4.13 there is no value of its own: (spte & mask) == mask.
    alone = mask if masks.has("shadow_mmio_mask") else base.mmio_value
    return mask, masks.number("shadow_mmio_value", alone)


class _Masks:
    """Variables of kvm.ko that hold 64-bit masks."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def has(self, name: str) -> bool:
        return variable(self.kernel, name, 8, "kvm") is not None

    def number(self, name: str, otherwise: int, size: int = 8) -> int:
        found = variable(self.kernel, name, size, "kvm")
        return otherwise if found is None else found


def _base(kernel: Kernel, vm: Value, masks: _Masks) -> SpteFormat:
    if vm.member("arch").has("shadow_mmio_value"):
        return SINCE_6_10
    if masks.has("shadow_host_writable_mask"):
        return SINCE_5_13
    try:
        page = kernel.types.struct("kvm_mmu_page", "kvm")
    except TypeMissing:
        return SINCE_5_13
    if page.has("mmu_valid_gen") and page.member("mmu_valid_gen").type.size == 1:
        # Without symbols of variables: tdp_mmu_root_count came in the same release as bit 11.
        return SINCE_5_13 if page.has("tdp_mmu_root_count") else SINCE_5_4
    return SINCE_4_12 if masks.has("shadow_acc_track_mask") else OLDEST
