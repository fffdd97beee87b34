# SPDX-License-Identifier: GPL-2.0-or-later
"""Where released versions of Bochs depart from the SDM."""

from __future__ import annotations

from tests.features.cases import (
    IRET,
    MBEC,
    NMI_BLOCKED,
    PATCH_OTHER,
    PML,
    PML_FULL,
    SWITCH,
    VE,
)
from tests.findings.finding import Finding, one
from tests.guests.generate import LARGE_PAGE, SMALL_PAGE, WALKED
from tests.guests.scenarios import (
    EVERYTHING,
    GA,
    GD,
    PDE,
    PML4E,
    PTE,
    READ,
    RWX,
    WRITE,
    XU_BIT,
    Patch,
    W,
    X,
    ept,
    paging,
    walk,
)

BOTH = ("2.7", "3.0")


#: An EPT switched to in which the page's PML4E is not present.
_ABSENT_THERE = (Patch(EVERYTHING & ~RWX, 0, PATCH_OTHER, PML4E),)

FINDINGS = (
    Finding(
        "WALK_WRITE_ONLY",
        BOTH,
        "a violation on a guest paging-structure entry, EPT A/D on, does not report the read",
        "SDM vol. 3, 31.3.3.2 and table 30-7: with EPTP bit 6 such an access is a read and a "
        "write, and sets both bits 0 and 1 of the exit qualification",
        "cpu/paging.cc translate_guest_physical(): rw = BX_WRITE loses the read",
        "exit 48 with bits 1:0 of the qualification both 1",
        one("WALK_WRITE_ONLY", READ, WALKED, [walk(PTE, PTE, W)]),
    ),
    Finding(
        "WALK_UPDATE_UNCHECKED",
        BOTH,
        "the guest's accessed and dirty flags are written to a page that EPT write-protects",
        "SDM vol. 3, 31.3.3.2: with EPTP bit 6 clear, the update of a paging-structure entry is a "
        "data write, which EPT must allow",
        "cpu/paging.cc update_access_dirty(): writes the address that the read had translated",
        "exit 48 with bits 1:0 of the qualification both 1",
        one(
            *("WALK_UPDATE_UNCHECKED", WRITE, WALKED, [walk(PTE, PTE, W), paging(PTE, GA | GD)]),
            flags=0,
        ),
    ),
    Finding(
        "LARGE_BIT_12_IGNORED",
        BOTH,
        "bit 12 of a 2-MByte or 1-GByte EPT leaf is no misconfiguration",
        "SDM vol. 3, tables 31-3 and 31-5, 31.3.3.1: bits 20:12 (29:12) are reserved",
        "cpu/paging.cc translate_guest_physical(): masks with 0x000fffffffffe000 before the test",
        "exit 49",
        one("LARGE_BIT_12_IGNORED", READ, LARGE_PAGE, [ept(PDE, 0, 1 << 12)]),
    ),
    Finding(
        "PML_CHECKED_ALWAYS",
        BOTH,
        "a full page-modification log stops accesses that set no flag",
        "SDM vol. 3, 31.3.6: the PML index is looked at when an accessed or dirty flag for EPT is "
        "to be set",
        "cpu/vmexit.cc vmx_page_modification_logging(): tests the index before `dirty_update`",
        "no exit: all flags are set already",
        one("PML_CHECKED_ALWAYS", READ, SMALL_PAGE, [], features=PML | PML_FULL),
    ),
    Finding(
        "USER_EXECUTE_IN_BIT_13",
        ("3.0",),
        "with mode-based execute control, a violation by a data access reports XU in bit 13",
        "SDM vol. 3, table 30-7: bit 6 is the AND of bit 10 of the entries; bit 13 is for shadow "
        "stacks",
        "cpu/paging.cc translate_guest_physical(): combined_access << 3 is masked for fetches only",
        "exit 48 with bit 6 of the qualification 1, and bit 13 0",
        one(
            *("USER_EXECUTE_IN_BIT_13", READ, SMALL_PAGE, [ept(PTE, RWX, X | XU_BIT)]),
            features=MBEC,
        ),
    ),
    Finding(
        "EPTP_INDEX_KEPT",
        BOTH,
        "the EPTP index in the #VE information area is that of the last VMFUNC of any guest",
        "SDM vol. 3, 28.5.8.2: it is the EPTP-index field of the VMCS, here 0",
        "cpu/vmfunc.cc vmfunc_eptp_switching() alone sets vm->eptp_index, VM entry does not",
        "#VE with EPTP index 0 in its information area",
        one("EPTP_INDEX_KEPT", READ, SMALL_PAGE, [ept(PTE, RWX)], features=VE),
        before=(one("EPTP_INDEX_KEPT", READ, SMALL_PAGE, _ABSENT_THERE, features=SWITCH | VE),),
    ),
    Finding(
        "NMI_BLOCKING_KEPT",
        ("2.7",),
        "NMIs that VM entry has blocked stay blocked in a guest entered without such blocking",
        "SDM vol. 3, 29.7.1 and table 27-3: VM entry establishes the blocking by NMI that the "
        "interruptibility state has, here none; so an IRET unblocks none (30.2.3, bit 12)",
        "cpu/vmx.cc VMenterLoadCheckGuestState(): mask_event(), and no unmask_event() before it",
        "exit 48 with bit 12 of the qualification 0",
        one("NMI_BLOCKING_KEPT", READ, SMALL_PAGE, [ept(PTE, RWX)], features=IRET),
        before=(one("NMI_BLOCKING_KEPT", READ, SMALL_PAGE, [], features=NMI_BLOCKED),),
    ),
)
