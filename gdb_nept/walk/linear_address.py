# SPDX-License-Identifier: GPL-2.0-or-later
"""What the processor does with a linear address before it walks any table.

Canonical addresses: SDM vol. 1, 3.3.7.1.  Linear-address masking (LAM): bits of a pointer that are
not translated are replaced by its highest translated one, but for bit 63, which tells a user
pointer from a supervisor one.  KVM does the same for its emulator: vmx/vmx.c,
vmx_get_untagged_addr(), 6.8 (whose rules for what it applies to are the ones here).

Linear-address-space separation (LASS): in IA-32e mode bit 63 tells supervisor addresses from user
ones, whatever the tables say; an access to the other half is refused.  Up to 7.2 KVM lets no guest
set CR4.LASS.
"""

from __future__ import annotations

from gdb_nept.address import L2Virt
from gdb_nept.arch.paging import PAGING_5, Cr3
from gdb_nept.walk.guest_paging import GuestPaging, Reference

WIDE, NARROW = 64, 32  # bits of a linear address in IA-32e mode, and outside
TOP = 1 << 63
LAM48, LAM57 = 48, 57  # bits of a pointer that are translated


def unmasked(paging: GuestPaging, linear: L2Virt, fetch: bool) -> L2Virt:
    """The address that is translated: without what LAM lets L2 keep in its upper bits.  A fetch
    and an implicit access to a system structure, told alike, know no LAM."""
    width = _lam_width(paging, bool(linear & TOP))
    if fetch or width is None:
        return linear
    low = linear & ((1 << width) - 1)
    extended = low | (~((1 << width) - 1) if low >> (width - 1) else 0)
    return L2Virt((extended & (TOP - 1)) | (linear & TOP))


def _lam_width(paging: GuestPaging, supervisor: bool) -> int | None:
    """How many bits of such a pointer count; None without LAM for it."""
    if not paging.efer.long_mode_active:
        return None
    if supervisor:
        if not paging.cr4.lam_supervisor:
            return None
        return LAM57 if paging.mode is PAGING_5 else LAM48
    cr3 = Cr3(paging.cr3)
    return LAM57 if cr3.lam_u57 else LAM48 if cr3.lam_u48 else None


def not_canonical(paging: GuestPaging, linear: L2Virt) -> str:
    """Why the processor refuses the address, as it is after unmasked(); '' if it does not."""
    mode = paging.mode
    if mode is None or mode.levels < 4 or mode.canonical(linear):
        return ""
    return (
        f"{linear:#x} is not canonical with L2's {mode.name} paging: a general-protection fault in "
        "L2 (a stack fault for an access to its stack), before any table is walked"
    )


def lass_violation(paging: GuestPaging, access: Reference) -> str:
    """Why LASS refuses the access, at the address that is translated; '' if it does not.  SMAP and
    RFLAGS.AC decide on a supervisor's data accesses, but not on its fetches."""
    if not (paging.cr4.lass and paging.efer.long_mode_active):
        return ""
    of_supervisor = bool(access.linear & TOP)
    if access.user_mode:
        if not of_supervisor:
            return ""
        what = "a user-mode access to a supervisor address"
    else:
        guarded = paging.cr4.smap and (access.implicit or not paging.ac)
        if of_supervisor or not (access.fetch or guarded):
            return ""
        kind = "fetch from" if access.fetch else "data access to"
        what = f"a supervisor-mode {kind} a user address"
    return (
        f"{access.linear:#x}: {what}, which LASS (CR4 bit 27) refuses by bit 63: a "
        "general-protection fault in L2 (a stack fault for an access to its stack), before any "
        "table is walked"
    )


def too_wide(paging: GuestPaging, linear: L2Virt) -> bool:
    """Whether L2, in the mode it is in, cannot form the address at all."""
    return not paging.efer.long_mode_active and bool(linear >> NARROW)


def wrapped(paging: GuestPaging, address: int) -> L2Virt:
    """Behind the last address L2 comes back to 0."""
    width = WIDE if paging.efer.long_mode_active else NARROW
    return L2Virt(address & ((1 << width) - 1))
