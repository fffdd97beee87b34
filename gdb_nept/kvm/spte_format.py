# SPDX-License-Identifier: GPL-2.0-or-later
"""How this kernel's KVM writes its own EPT entries (SPTEs): which of the words it uses.

arch/x86/kvm/mmu/spte.h and spte.c since 5.10, mmu.c before.  The format is found by members and
variables of kvm.ko that came with it; none is assumed where they do not tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from gdb_nept.arch.bits import Word
from gdb_nept.arch.ept import RIGHTS, EptEntry
from gdb_nept.errors import NeptError, TypeMissing
from gdb_nept.kvm.spte_words import (
    MmioOld,
    MmioTyped,
    MmioUserExecute,
    MmioWord,
    Software,
    SoftwareMarked,
    SoftwareOldest,
    SoftwareTyped,
    SoftwareUserExecute,
)
from gdb_nept.kvm.variables import variable
from gdb_nept.target.ports import Kernel, Value

WX = EptEntry.write.mask | EptEntry.execute.mask  # a misconfiguration on purpose: MMIO
SUPPRESS_VE = EptEntry.suppress_ve.mask
USER_EXECUTE = EptEntry.user_execute.mask
FROZEN = 0x5A0  # REMOVED_SPTE (5.13+), FROZEN_SPTE (6.12+)
FROZEN_7_2 = 0x1A0  # the same without bit 10


@dataclass(frozen=True)
class SpteFormat:
    """`software` and `mmio` name the bits; an MMIO SPTE is one with mask and value as here.

    `rights` are what access tracking takes away; it keeps them in `saved` bits, moved up by
    `saved_shift`.  `notes` say what the user should know of how the format was found.
    """

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
    rights: int = RIGHTS
    saved: int = 7 << 54
    saved_shift: int = 54
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def has_present_bit(self) -> bool:
        return self.software in (Software, SoftwareUserExecute)

    @property
    def keeps_user_execute(self) -> bool:
        """Whether bit 10 is a right that KVM shadows."""
        return bool(self.rights & USER_EXECUTE)

    @property
    def generation_mask(self) -> int:
        """MMIO_SPTE_GEN_MASK: how much of the memslots' generation an MMIO SPTE has room for."""
        return (1 << sum(part.high - part.low + 1 for part in self.mmio.fields())) - 1

    @property
    def writable_masks(self) -> tuple[int, int]:
        """shadow_host_writable_mask and shadow_mmu_writable_mask of this format."""
        places = {field.name: field.mask for field in self.software.fields()}
        return places["host_writable"], places["mmu_writable"]


SINCE_7_2 = SpteFormat(
    "7.2", SoftwareUserExecute, MmioUserExecute, RIGHTS | SUPPRESS_VE, WX | SUPPRESS_VE,
    SUPPRESS_VE, SUPPRESS_VE | FROZEN_7_2,
    rights=RIGHTS | USER_EXECUTE, saved=0x405 << 52, saved_shift=52,
)  # fmt: skip
SINCE_6_10 = SpteFormat(
    "6.10 and later", Software, MmioWord, RIGHTS | SUPPRESS_VE, WX | SUPPRESS_VE,
    SUPPRESS_VE, SUPPRESS_VE | FROZEN,
)  # fmt: skip
SINCE_5_13 = SpteFormat("5.13 to 6.9", Software, MmioWord, RIGHTS, WX, 0, FROZEN)
SINCE_5_4 = SpteFormat("5.4 to 5.12", SoftwareTyped, MmioTyped, 3 << 52, 3 << 52)
SINCE_4_12 = SpteFormat(
    "4.12 to 5.3", SoftwareMarked, MmioOld, 1 << 62 | RIGHTS, 1 << 62 | WX,
    saved=7 << 52, saved_shift=52,
)  # fmt: skip
OLDEST = SpteFormat("up to 4.10", SoftwareOldest, MmioOld, 3 << 62 | WX, 3 << 62 | WX, saved=0)

NO_EPT = 1 << 9, 1 << 10  # the two masks where KVM writes ordinary page tables (ept=0)


class SpteFormatUnknown(NeptError):
    """Neither symbols nor types tell how this KVM writes its SPTEs."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"SPTE format unknown: {why}",
            "What L1 itself wrote (EPT12) can be decoded all the same.",
        )


def spte_format(kernel: Kernel, vm: Value) -> SpteFormat:
    """The format in force for EPTs of this VM (a struct kvm).

    Raises SpteFormatUnknown, MemoryUnreadable.
    """
    masks = _Masks(kernel)
    base, note = _base(kernel, vm, masks)
    mask, value = _mmio_mask_and_value(base, vm, masks)
    return replace(
        base,
        mmio_mask=mask,
        mmio_value=value,
        mmio_access_mask=masks.number("shadow_mmio_access_mask", 0),
        rsvd_mask=masks.number("shadow_nonpresent_or_rsvd_mask", 0),
        lower_gfn_mask=masks.number(
            "shadow_nonpresent_or_rsvd_lower_gfn_mask", EptEntry.address.mask
        ),
        caches_mmio=value != 0 and masks.number("enable_mmio_caching", 1, 1) != 0,
        notes=(*filter(None, (note,)), *_not_told(base, vm, masks)),
    )


def _not_told(base: SpteFormat, vm: Value, masks: _Masks) -> Iterator[str]:
    """What a kernel of 5.13 or later has a variable for, and this one not."""
    if base in (SINCE_5_4, SINCE_4_12, OLDEST) or base.notes:
        return
    wanted = ["shadow_mmio_mask", "enable_mmio_caching"]
    if not vm.member("arch").has("shadow_mmio_value"):
        wanted.append("shadow_mmio_value")
    for name in wanted:
        if not masks.has(name):
            yield f"kvm has no symbol '{name}': MMIO entries are told by what such a kernel writes"


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


def _base(kernel: Kernel, vm: Value, masks: _Masks) -> tuple[SpteFormat, str]:
    """The format, and a note where it is deduced and not said."""
    per_vm = vm.member("arch").has("shadow_mmio_value")
    if masks.has("shadow_host_writable_mask"):  # 5.13+
        return _by_writable_masks(masks, SINCE_6_10 if per_vm else SINCE_5_13), ""
    if per_vm or masks.has("shadow_mmu_writable_mask"):
        raise SpteFormatUnknown("kvm has no symbol 'shadow_host_writable_mask'")
    return _by_mmio_value(masks) or _by_shadow_page(kernel, masks)


def _by_writable_masks(masks: _Masks, expected: SpteFormat) -> SpteFormat:
    """Since 5.13 two masks of KVM tell where the software bits lie; the bits that no mask tells
    are known for the positions below only.  The rights that are tracked must fit as well."""
    host = masks.number("shadow_host_writable_mask", 0)
    mmu = masks.number("shadow_mmu_writable_mask", 0)
    if (host, mmu) == NO_EPT:
        raise SpteFormatUnknown(
            f"KVM uses no EPT at all (ept=0), as shadow_host_writable_mask, {host:#x}, shows"
        )
    tracked = masks.number("shadow_acc_track_mask", 0)
    for form in (SINCE_7_2, expected):
        if (host, mmu) == form.writable_masks and tracked in (0, form.rights):
            return form
    raise SpteFormatUnknown(
        f"shadow_host_writable_mask {host:#x}, shadow_mmu_writable_mask {mmu:#x}, "
        f"shadow_acc_track_mask {tracked:#x} are of no kernel that we know"
    )


def _by_mmio_value(masks: _Masks) -> tuple[SpteFormat, str] | None:
    """4.14 to 5.12: shadow_mmio_value has the mark of a special SPTE, wherever that was."""
    value = masks.number("shadow_mmio_value", 0)
    for form, mark in ((SINCE_5_4, 3 << 52), (SINCE_4_12, 1 << 62)):
        if value and value & (3 << 52 | 1 << 62) == mark:
            return form, ""
    return None


def _by_shadow_page(kernel: Kernel, masks: _Masks) -> tuple[SpteFormat, str]:
    """By struct kvm_mmu_page, whose members changed along with the formats."""
    try:
        page = kernel.types.struct("kvm_mmu_page", "kvm")
    except TypeMissing:
        why = "kvm has neither symbols of its masks nor the type kvm_mmu_page"
        raise SpteFormatUnknown(why) from None
    note = (
        "the SPTE format is deduced from struct kvm_mmu_page: kvm has no symbol "
        "'shadow_host_writable_mask' (5.13+), and none of 'shadow_mmio_value' (4.14+) that tells it"
    )
    if page.has("tdp_mmu_root_count"):  # came in the same release as bit 11
        return SINCE_5_13, note
    if page.has("mmu_valid_gen") and page.member("mmu_valid_gen").type.size == 1:
        return SINCE_5_4, note
    if masks.has("shadow_acc_track_mask"):
        return SINCE_4_12, ""
    if masks.has("shadow_mmio_mask"):
        return OLDEST, ""
    raise SpteFormatUnknown("kvm has no symbols of its masks: it is 5.3 or older, or changed")
