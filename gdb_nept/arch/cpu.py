# SPDX-License-Identifier: GPL-2.0-or-later
"""What the (virtual) processor can do, as far as EPT depends on it."""

from __future__ import annotations

from dataclasses import dataclass

from gdb_nept.arch.bits import Word, bit, bits


class EptVpidCap(Word):
    """IA32_VMX_EPT_VPID_CAP, MSR 48CH (SDM vol. 3, appendix A.10, June 2026)."""

    title = "IA32_VMX_EPT_VPID_CAP"

    execute_only = bit(0, "execute-only translations", "X-only")
    walk_length_4 = bit(6, "page-walk length 4", "PWL4")
    walk_length_5 = bit(7, "page-walk length 5", "PWL5")
    memory_type_uc = bit(8, "EPT structures may be uncacheable", "UC")
    memory_type_wb = bit(14, "EPT structures may be write-back", "WB")
    page_2m = bit(16, "2-MByte pages (PDE bit 7)", "2M")
    page_1g = bit(17, "1-GByte pages (PDPTE bit 7)", "1G")
    invept = bit(20, "INVEPT instruction", "INVEPT")
    accessed_dirty = bit(21, "accessed and dirty flags for EPT", "AD")
    advanced_exit = bit(22, "advanced VM-exit information for EPT violations", "advanced-info")
    shadow_stack = bit(23, "supervisor shadow-stack control", "SSS")
    invept_single = bit(25, "single-context INVEPT", "INVEPT-single")
    invept_all = bit(26, "all-context INVEPT", "INVEPT-all")
    invvpid = bit(32, "INVVPID instruction", "INVVPID")
    invvpid_types = bits(43, 40, "INVVPID types", "INVVPID-types")
    hlat_prefix_size = bits(53, 48, "the largest HLAT prefix size", "HLAT-prefix")


ANY_LARGE_PAGE = EptVpidCap.page_2m.mask | EptVpidCap.page_1g.mask

#: MAXPHYADDR: 32, where a processor does not tell it, to the widest address that there can be.
PHYSICAL_WIDTHS = range(32, 53)


@dataclass(frozen=True)
class Capabilities:
    """The features that decide what an EPT entry means.

    `maxphyaddr` is in bits (CPUID 80000008H:EAX[7:0]).  All others but `ept_vpid_cap` are
    VM-execution controls in force, not mere support for them.
    """

    maxphyaddr: int
    ept_vpid_cap: EptVpidCap
    mbec: bool = False
    paging_write: bool = False
    verify_guest_paging: bool = False
    sub_page: bool = False


#: What L0 itself uses: everything that an entry written by KVM can mean.
HOST = Capabilities(
    52,
    EptVpidCap(
        EptVpidCap.build(
            execute_only=1,
            walk_length_4=1,
            walk_length_5=1,
            memory_type_wb=1,
            page_2m=1,
            page_1g=1,
            accessed_dirty=1,
        )
    ),
)
