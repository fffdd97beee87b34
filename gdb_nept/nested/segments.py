# SPDX-License-Identifier: GPL-2.0-or-later
"""SEG:OFFSET: the linear address that L2 makes of it.

SDM vol. 3, June 2026 (325384-092): 3.4 (logical and linear addresses; 64-bit mode takes the bases
of CS, DS, ES and SS as 0), 22.1.1 (real-address mode and virtual-8086 mode: 16 times the selector).
"""

from __future__ import annotations

from gdb_nept.address import L2Virt
from gdb_nept.errors import BadInput
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.guest_registers import GuestRegisters
from gdb_nept.nested.session import Session
from gdb_nept.walk.linear_address import wrapped

SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
WITH_BASE = ("fs", "gs")  # in 64-bit mode too
CODE_64 = 1 << 13  # L, of CS's access rights
VIRTUAL_8086 = 1 << 17  # RFLAGS.VM


def linear_of(
    session: Session, chosen: Chosen, registers: GuestRegisters, segment: str, offset: int
) -> L2Virt:
    """Raises BadInput for a selector that only L2's descriptor tables could explain."""
    paging, name = registers.paging, segment.lower()
    if name in SEGMENTS:
        vmcs12 = session.vmcs12(chosen)
        long = paging.efer.long_mode_active and vmcs12.number("guest_cs_ar_bytes") & CODE_64
        flat = bool(long) and name not in WITH_BASE
        base = 0 if flat else vmcs12.number(f"guest_{name}_base")
        return wrapped(paging, base + offset)
    flags = next((one.number for one in registers.registers if one.name == "rflags"), 0)
    if paging.cr0.protection and not flags & VIRTUAL_8086:
        raise BadInput(
            f"'{segment}' is a selector of protected mode, whose base is in L2's descriptor tables",
            f"Name a segment register ({', '.join(SEGMENTS)}), or give the linear address.",
        )
    return wrapped(paging, (int(segment, 16) << 4) + offset)
