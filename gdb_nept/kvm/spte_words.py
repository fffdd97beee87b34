# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the software bits of KVM's own EPT entries (SPTEs) lie, and those of its MMIO entries.

arch/x86/kvm/mmu/spte.h since 5.10, mmu.c before; which of them a kernel uses: spte_format.py.
"""

from __future__ import annotations

from gdb_nept.arch.bits import Word, bit, bits

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


class SoftwareUserExecute(Word):
    """7.2: bit 10 became the right to execute in user mode, and access tracking saves it too, so
    that the saved rights are bits 10, 2 and 0 moved up by 52 with KVM's own bits in between.

    Read in kvm.ko of 7.2.13 (mark_spte_for_access_track, make_mmio_spte).
    """

    title = "software bits of an SPTE"

    mmu_present = bit(11, "present for KVM, whatever R, W, X say", "MMU-present")
    saved_read = bit(52, "R put aside by access tracking", "saved R")
    host_writable = bit(53, HOST_WRITABLE, "host-writable")
    saved_execute = bit(54, "X put aside by access tracking", "saved X")
    mmu_writable = bit(55, MMU_WRITABLE, "MMU-writable")
    ad_type = bits(61, 60, AD_MEANING, "AD-type")
    saved_user_execute = bit(62, "XU put aside by access tracking", "saved XU")


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


class MmioUserExecute(Word):
    """7.2: bit 10 is no part of the generation any more."""

    title = "MMIO SPTE"

    generation_low = bits(9, 3, "memslot generation, low 7 bits")
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
