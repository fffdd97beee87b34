# SPDX-License-Identifier: GPL-2.0-or-later
"""What a number found in the place of an EPT violation's exit qualification says, and whether a
processor can have written it.

SDM vol. 3, June 2026 (325384-092), table 30-7.  What it rules out is worth naming: a hypervisor
that injects the exit itself gets just these things wrong.  Which KVM can write such a value, and
when, is said, and whether it would be an error code of the nested EPT of 2012 (nept_v2.py).  That
is what a number can mean with no tables at hand: whether it is the cause of one that was met is
only to be told from the tables (judge/comparison.py).
"""

from __future__ import annotations

from gdb_nept.arch.exits import EptViolation
from gdb_nept.predict.case import FETCH, KIND, READ, WRITE
from gdb_nept.walk.guest_paging import PageFault

KINDS = {
    READ: "a data read",
    WRITE: "a data write",
    FETCH: "an instruction fetch",
    READ | WRITE: "a read and write",
}
OTHER_RULES = EptViolation.shadow_stack_access.mask | EptViolation.guest_paging.mask
NO_LINEAR = (
    "bit 7 is clear, which only reads that load the PDPTE registers leave so (with bit 16, trace "
    "output and architectural PEBS too)"
)
#: walk_addr_generic() and nested_ept_inject_page_fault() write no other bits, and bits 11:9 from
#: 7.2 on.
KVM_WRITES = 0xFFF
NO_TABLE = (
    "KVM writes it where a table of EPT12 is in no memslot of L1: bits 5:3 are then the rights of "
    "the levels above (mmu/paging_tmpl.h walk_addr_generic(); 111b where that table is the root, "
    "from 6.6 on)"
)
EMULATED_FETCH = (
    "KVM's instruction emulator reports its fetches so, up to 6.12 "
    "(x86.c translate_nested_gpa() adds PFERR_USER_MASK, which counts as a read)"
)
NO_KIND = (
    "KVM up to 6.12 writes bits 2:0 as 0 where the processor left L2 with an EPT misconfiguration "
    "of KVM's own, an MMIO entry that EPT12 no longer allows (mmu/mmu.c kvm_mmu_page_fault(), "
    "PFERR_RSVD_MASK)"
)
MIXED_RIGHTS = (
    "KVM before 4.12 mixes R, W, X in bits 5:3 with flags of its own "
    "(mmu/paging_tmpl.h walk_addr_generic(), until 0780516a18f8)"
)
#: Protection keys and shadow stacks came later than that series.
ERROR_CODE = PageFault.build(present=1, write=1, user=1, reserved=1, fetch=1)


def in_words(value: int) -> str:
    """The access and the rights, in one sentence."""
    bits = EptViolation(value)
    kind = KINDS.get(value & KIND, "an access of no possible kind")
    where = ", while loading the PDPTE registers or with no linear address"
    if bits.asynchronous:
        where = " of trace output or architectural PEBS, with no linear address"
    if bits.linear_valid:
        where = " at the translation of a linear address"
        if not bits.translated:
            where = " to a guest paging-structure entry, in the walk of a linear address"
        if bits.asynchronous:
            where += ", asynchronous to instruction execution"
    granted = _rights(value)
    allowed = f"the entries used allow {granted}" if granted else "no right, or not present"
    if value & FETCH and bits.executable and not bits.user_executable:
        allowed += ": a user-mode fetch under mode-based execute control, or no table could be read"
    return f"{kind}{where}; {allowed}"


def impossible(value: int) -> tuple[str, ...]:
    """Why no processor writes `value` for an EPT violation; () if one can."""
    kind, bits = value & KIND, EptViolation(value)
    found = []
    if not kind:
        found.append(
            "bits 2:0 are 0: neither read, nor write, nor fetch"
            + ("" if value else " (of an EPT misconfiguration, 0 is right)")
        )
    elif kind not in KINDS:
        found.append("bits 2:0 name a fetch together with data")
    if bits.translated and not bits.linear_valid:
        found.append("bit 8 says more about a linear address that bit 7 says is not there")
    if not bits.linear_valid and kind & (FETCH if bits.asynchronous else WRITE | FETCH):
        found.append(NO_LINEAR)
    if value & FETCH and bits.linear_valid and not bits.translated:
        found.append(
            "bit 8 is clear: a paging-structure entry, which is read or written, not fetched"
        )
    if value & FETCH and bits.shadow_stack_access:
        found.append("bit 13 is set: a shadow-stack access, which is no fetch")
    if bits.writable and not bits.readable:
        found.append("bits 4:3 are W without R: an entry with that is a misconfiguration")
    if kind in KINDS and _granted(value):
        found.append("bits 5:3 allow the very access that bits 2:0 name")
    return tuple(found)


def written_by_kvm(value: int) -> str:
    """When a KVM gives L1 this `value`, which no processor writes; '' if none is known to."""
    kind, bits = value & KIND, EptViolation(value)
    if value & ~KVM_WRITES or (bits.translated and not bits.linear_valid):
        return ""
    if not kind and value:
        return NO_KIND
    if kind == READ | FETCH:
        return EMULATED_FETCH
    if bits.writable and not bits.readable:
        return MIXED_RIGHTS
    return NO_TABLE if kind in KINDS and bits.linear_valid and _granted(value) else ""


def error_code(value: int) -> str:
    """What `value` says if it is a page fault's error code in the wrong place; '' if that series
    writes no such one, or it reads well as a qualification."""
    if not _of_2012(value) or not (impossible(value) or value == PageFault.present.mask):
        return ""
    code = PageFault(value)
    names = ", ".join(row.short for row in code.named()) or "no bit"
    kind = "fetch" if code.fetch else "write" if code.write else "read"
    if kind == "read" and code.present:
        kind = "read (or fetch, where L2 uses neither NX nor SMEP)"
    cause = "an entry is not present"
    if code.present:
        cause = "a reserved bit is set" if code.reserved else "a right is missing"
    return (
        f"as the error code of a page fault ({names}) it would say: {kind}, {cause}; model v2-2012 "
        "(KVM's nested EPT series of 2012) puts it in this place, and nept-check tells whether the "
        "tables lead to it"
    )


def _of_2012(value: int) -> bool:
    """Reserved bits are those of a present entry, and no access is a fetch and a write."""
    code = PageFault(value)
    if value & ~ERROR_CODE or (code.reserved and not code.present):
        return False
    return not (code.fetch and code.write)


def _granted(value: int) -> bool:
    """Whether the rights suffice, as far as bits 6:3 decide it."""
    bits = EptViolation(value)
    if value & OTHER_RULES:
        return False
    rights = value >> EptViolation.readable.low & KIND
    if value & FETCH and not bits.user_executable:
        return False  # with MBEC it may be a user-mode fetch, which needs bit 6
    return not value & KIND & ~rights


def _rights(value: int) -> str:
    """R-X, with u where bit 6 grants execution in user mode; '' for none."""
    bits = EptViolation(value)
    letters = (("R", bits.readable), ("W", bits.writable), ("X", bits.executable))
    said = "".join(letter if granted else "-" for letter, granted in letters)
    said += "u" if bits.user_executable else ""
    return said if said.strip("-") else ""
