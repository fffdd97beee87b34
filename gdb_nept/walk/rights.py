# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a guest's own tables allow an access, and the error code of the page fault if not.

SDM vol. 3, June 2026 (325384-092): 5.6 "Access Rights" (5.6.1 U/S, R/W, XD, CR0.WP, SMEP, SMAP and
shadow stacks; 5.6.2 protection keys), 5.7 "Page-Fault Exceptions".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gdb_nept.arch.paging import Entry
from gdb_nept.walk.guest_paging import GuestPaging, GuestStep, PageFault, Reference

BITS_A_KEY = 2  # of PKRU and IA32_PKRS
ACCESS_DISABLE, WRITE_DISABLE = 1, 2


@dataclass(frozen=True)
class Rights:
    """What all entries of a translation say together; PDPTE registers have no say.

    `shadow_stack`: it is a shadow-stack page: R/W clear and dirty set in the leaf, R/W set in all
    above (5.6.1).  `key` is the leaf's protection key, None where the mode has none."""

    user: bool
    writable: bool
    execute_disable: bool
    shadow_stack: bool
    key: int | None


@dataclass(frozen=True)
class Fault:
    """L2's own page fault: no exit to anybody because of EPT."""

    code: PageFault
    why: str


def rights_of(steps: Sequence[GuestStep]) -> Rights:
    """Of the entries used so far; of `shadow_stack` and `key` only with the leaf among them."""
    entries = [step.entry for step in steps if step.gpa is not None]
    user = all(entry.user for entry in entries)
    writable = all(entry.write for entry in entries)
    disabled = any(entry.execute_disable for entry in entries if isinstance(entry, Entry))
    leaf = entries[-1] if entries and steps[-1].leaf else None
    stack = leaf is not None and bool(leaf.dirty and not leaf.write)
    stack = stack and all(entry.write for entry in entries[:-1])
    key = leaf.protection_key if isinstance(leaf, Entry) else None
    return Rights(user, writable, disabled, stack, key)


def fault_of_entry(
    paging: GuestPaging, reference: Reference, why: str, reserved: bool = False
) -> Fault:
    """An entry is not present, or has reserved bits set: there is no translation."""
    code = _of_access(paging, reference)
    if reserved:
        code |= PageFault.build(present=1, reserved=1)
    return Fault(PageFault(code), why)


def refused(rights: Rights, paging: GuestPaging, reference: Reference) -> Fault | None:
    """The fault if a translation does not allow the access.  Its PK bit tells that the key forbids
    it, whether or not something else does too (5.7)."""
    why = _by_mode(rights, paging, reference)
    by_key = _by_key(rights, paging, reference)
    if not why and not by_key:
        return None
    code = _of_access(paging, reference) | PageFault.present.mask
    if by_key:
        code |= PageFault.protection_key.mask
    return Fault(PageFault(code), why or by_key)


def not_known(rights: Rights, paging: GuestPaging, reference: Reference) -> str:
    """What the answer hangs on and nobody told; '' if nothing is missing."""
    for name, value, _ in _key_registers(rights, paging, reference):
        if value is None:
            return (
                f"the page has protection key {rights.key}, and {name} is not known: it is taken "
                "to allow the access"
            )
    return ""


def _of_access(paging: GuestPaging, reference: Reference) -> int:
    """The bits that are about the access, not about the tables (5.7)."""
    tells_fetch = paging.execute_disable or paging.cr4.smep
    return PageFault.build(
        write=int(reference.write),
        user=int(reference.user_mode),
        fetch=int(bool(reference.fetch and tells_fetch)),
        shadow_stack=int(reference.shadow_stack),
    )


def _by_mode(rights: Rights, paging: GuestPaging, reference: Reference) -> str:
    """Why 5.6.1 refuses the access, or ''."""
    by_user = reference.user_mode
    if by_user and not rights.user:
        return "a user-mode access to a supervisor page"
    if reference.shadow_stack:
        return _on_shadow_stack(rights, by_user)
    if reference.write and not rights.writable and (by_user or paging.cr0.write_protect):
        stack = " (a shadow-stack page)" if rights.shadow_stack and paging.cr4.cet else ""
        return f"a write to a page that L2 maps read-only{stack}"
    if reference.fetch:
        if rights.execute_disable and paging.execute_disable:
            return "a fetch from a page that L2 maps execute-disable"
        if rights.user and not by_user and paging.cr4.smep:
            return "a supervisor fetch from a user page (SMEP)"
    elif rights.user and not by_user and paging.cr4.smap:
        if reference.implicit:
            return "an implicit supervisor access to a user page (SMAP, which AC does not lift)"
        if not paging.ac:
            return "a supervisor access to a user page (SMAP)"
    return ""


def _on_shadow_stack(rights: Rights, by_user: bool) -> str:
    if not rights.shadow_stack:
        return "a shadow-stack access to a page that is no shadow stack"
    if rights.user and not by_user:
        return "a supervisor shadow-stack access to a user page"
    return ""


# -- protection keys (5.6.2) ---------------------------------------------------------------------


def _key_registers(
    rights: Rights, paging: GuestPaging, reference: Reference
) -> list[tuple[str, int | None, int]]:
    """The registers with a say, and what each may forbid: PKRU for user pages, IA32_PKRS for
    supervisor ones; none outside IA-32e mode, of a fetch, and where CR4 does not switch it on."""
    if rights.key is None or reference.fetch or not paging.efer.long_mode_active:
        return []
    user, supervisor = paging.cr4.user_keys, paging.cr4.supervisor_keys
    everything = ACCESS_DISABLE | WRITE_DISABLE
    of_user = ("PKRU", paging.pkru, everything)
    of_supervisor = ("IA32_PKRS", paging.pkrs, everything)
    if not paging.keys_by_access:
        counts = user if rights.user else supervisor
        return [of_user if rights.user else of_supervisor] if counts else []
    if reference.user_mode:
        return [of_user] if user else []
    found = [("PKRU", paging.pkru, WRITE_DISABLE)] if user else []
    return found + ([of_supervisor] if supervisor else [])


def _by_key(rights: Rights, paging: GuestPaging, reference: Reference) -> str:
    for name, value, may_forbid in _key_registers(rights, paging, reference):
        if value is None or rights.key is None:
            continue
        forbidden = value >> BITS_A_KEY * rights.key & may_forbid
        page = f"pages with protection key {rights.key}"
        if forbidden & ACCESS_DISABLE:
            return f"{name} {value:#x} disables accesses to {page}"
        checked = reference.user_mode or paging.cr0.write_protect
        if forbidden & WRITE_DISABLE and reference.write and checked:
            return f"{name} {value:#x} disables writes to {page}"
    return ""
