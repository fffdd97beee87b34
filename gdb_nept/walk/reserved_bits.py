# SPDX-License-Identifier: GPL-2.0-or-later
"""Which bits of a guest's paging-structure entries must be 0, by paging mode.

SDM vol. 3, June 2026 (325384-092): 5.3 (32-bit; 4-MByte pages with PSE-36), 5.4.1 and 5.4.2 (PAE,
the PDPTE registers and the tables), 5.5.4 (4- and 5-level).  PAT and PSE-36 are taken as supported,
as by every processor with VMX.  Bits of an entry that is not present are never looked at (5.7).
"""

from __future__ import annotations

from gdb_nept.arch.ept import reserved_above
from gdb_nept.arch.paging import PAGING_32, PAGING_PAE, Entry, Mode
from gdb_nept.walk.guest_paging import GuestPaging, GuestStep

PSE36_WIDEST = 40  # bits of a physical address that a 4-MByte page can have
PSE36_LOW, PSE36_HIGH = 13, 21  # where its entry has address bits from 32 on; above, reserved
HIGH_OF_PAE = 0x7FF << 52  # 62:52, which the longer modes ignore
OF_PDPTE_REGISTER = Entry.execute_disable.mask | 0x1E6  # 63, 8:5 and 2:1


def reserved_bits(step: GuestStep, paging: GuestPaging, mode: Mode) -> int:
    """The bits that must be 0 in this present entry."""
    if mode is PAGING_32:
        return _of_4m_page(paging.maxphyaddr) if step.leaf and step.level == 2 else 0
    reserved = reserved_above(paging.maxphyaddr)
    if not paging.efer.no_execute:
        reserved |= Entry.execute_disable.mask
    if mode is PAGING_PAE:
        reserved |= HIGH_OF_PAE
        if step.level == mode.levels:
            return reserved | OF_PDPTE_REGISTER
    if step.level >= 4 or (step.level == 3 and not paging.pages_1g):
        reserved |= Entry.large.mask
    if step.leaf and step.level > 1:
        reserved |= (mode.page_size(step.level) - 1) & ~0x1FFF  # bit 12 is PAT
    return reserved


def _of_4m_page(maxphyaddr: int) -> int:
    """Bits 21:(M-19), where M is the lesser of 40 and MAXPHYADDR (5.3, table 5-4)."""
    low = PSE36_LOW + max(min(maxphyaddr, PSE36_WIDEST) - 32, 0)
    return (1 << (PSE36_HIGH + 1)) - (1 << low)
