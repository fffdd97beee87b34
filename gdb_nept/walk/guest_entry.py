# SPDX-License-Identifier: GPL-2.0-or-later
"""What VM entry refuses of the registers by which a guest translates linear addresses.

SDM vol. 3, June 2026 (325384-092): 29.3.1.1 control registers and IA32_EFER, 29.3.1.2 the CPL,
29.3.1.6 the PDPTE registers.  No instruction of the guest's leads to such registers either.  What
hangs on a processor's features alone (the bits that IA32_VMX_CR0_FIXED0 and its like want, as NE
and VMXE, which a guest does not see) is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from gdb_nept.arch.ept import reserved_above
from gdb_nept.arch.paging import PAGING_PAE, Cr3, Entry
from gdb_nept.walk.guest_paging import Cr0, Cr4, Efer, GuestPaging, GuestStep
from gdb_nept.walk.reserved_bits import reserved_bits

CR0_RESERVED = ~0 << 32
#: 2.5: 15, 26, 31:29 and 63:33; bit 32 is FRED.
CR4_RESERVED = ~0 << 33 | 0b111 << 29 | 1 << 26 | 1 << 15
#: 2.2.1: all but SCE (bit 0) and those of Efer.
EFER_RESERVED = ~(1 | Efer.long_mode.mask | Efer.long_mode_active.mask | Efer.no_execute.mask)
LAM = Cr3.lam_u57.mask | Cr3.lam_u48.mask


def refusal(paging: GuestPaging, user: bool = False) -> str:
    """Why VM entry refuses a guest with these registers, at CPL 3 if `user`; '' if it does not."""
    return next(_refusals(paging, user), "")


def _refusals(paging: GuestPaging, user: bool) -> Iterator[str]:
    cr0, cr4, efer = paging.cr0, paging.cr4, paging.efer
    yield from _reserved("CR0", cr0.value, CR0_RESERVED)
    if cr0.paging and not cr0.protection:
        yield "L2's CR0 has PG (bit 31) without PE (bit 0)"
    yield from _reserved("CR4", cr4.value, CR4_RESERVED)
    if cr4.cet and not cr0.write_protect:
        yield "L2's CR4 has CET (bit 23) without CR0.WP (bit 16)"
    cr3_reserved = reserved_above(paging.maxphyaddr) | ~0 << 52
    yield from _reserved("CR3", paging.cr3, cr3_reserved & ~LAM)
    yield from _reserved("IA32_EFER", efer.value, EFER_RESERVED)
    yield from _modes(cr0, cr4, efer)
    if user and not cr0.protection:
        yield "L2 is at CPL 3 without CR0.PE (bit 0)"
    if paging.mode is PAGING_PAE:
        yield from _pdptes(paging)


def _modes(cr0: Cr0, cr4: Cr4, efer: Efer) -> Iterator[str]:
    """LMA is the VM-entry control "IA-32e mode guest": one cannot differ from the other."""
    if efer.long_mode_active and not cr0.paging:
        yield "L2's IA32_EFER has LMA (bit 10) without CR0.PG (bit 31)"
    if efer.long_mode_active and not cr4.physical_address_extension:
        yield "L2's IA32_EFER has LMA (bit 10) without CR4.PAE (bit 5)"
    if cr0.paging and efer.long_mode_active != efer.long_mode:
        has, lacks = ("LMA (bit 10)", "LME (bit 8)")
        if efer.long_mode:
            has, lacks = f"{lacks} and CR0.PG (bit 31)", has
        yield f"L2's IA32_EFER has {has} without {lacks}"
    if cr4.pcids and not efer.long_mode_active:
        yield "L2's CR4 has PCIDE (bit 17) without IA32_EFER.LMA (bit 10)"


def _reserved(name: str, value: int, reserved: int) -> Iterator[str]:
    if value & reserved:
        yield f"L2's {name} has reserved bits set ({value & reserved:#x})"


def _pdptes(paging: GuestPaging) -> Iterator[str]:
    for number, value in enumerate(paging.pdptrs):
        step = GuestStep(PAGING_PAE.levels, None, Entry(value), False, number)
        if step.entry.present:
            reserved = reserved_bits(step, paging, PAGING_PAE)
            yield from _reserved(f"PDPTE register {number}", value, reserved)
