# SPDX-License-Identifier: GPL-2.0-or-later
"""The VM exit of an access to the APIC-access page.

SDM vol. 3, June 2026, "Virtualizing Memory-Mapped APIC Accesses" in the chapter on APIC
virtualization, and table "Exit Qualification for APIC-Access VM Exits"; edition of 2016: 29.4 and
table 27-6.  The access is translated first, with all that EPT has against it, its accessed and
dirty flags and the log; only where it then goes decides.

Under KVM the page is the one of L1's that vmcs12 names (vmx/nested.c nested_get_vmcs12_pages()),
and the processor's exit is L1's as it is (nested_vmx_l1_wants_exit(), once
nested_vmx_exit_reflected(); nested_vmx_reflect_vmexit()).
Xen does the same (hvm/vmx/vvmx.c nvmx_n2_vmexit_handler(), EXIT_REASON_APIC_ACCESS).
"""

from __future__ import annotations

from gdb_nept.address import Out
from gdb_nept.arch.exits import ApicAccess
from gdb_nept.memory.reader import PAGE_MASK
from gdb_nept.predict.access import Apic, Op, Stage
from gdb_nept.predict.case import Case
from gdb_nept.predict.outcome import Outcome, Prediction

REGISTER = 0xF  # an APIC register has the low 4 of 16 bytes
WIDTH = 4
LINEAR = {Op.READ: 0, Op.WRITE: 1, Op.FETCH: 2, Op.RMW: 1}
LINEAR_BY_EVENT, PHYSICAL_BY_EVENT, PHYSICAL = 3, 10, 15

#: Offsets that may be virtualized: always, with virtual-interrupt delivery, and with APIC-register
#: virtualization, where writes are virtualized at fewer of them than reads.
TASK_PRIORITY = frozenset({0x80})
DELIVERY = frozenset({0x80, 0xB0, 0x300})
WRITTEN = frozenset((0x20, 0x80, 0xB0, 0xD0, 0xE0, 0xF0, 0x280, *range(0x300, 0x390, 0x10), 0x3E0))
READ = WRITTEN | {0x30, *range(0x100, 0x280, 0x10)}


def apic_access(case: Case[Out]) -> Prediction[Out] | None:
    """The exit instead of an access that EPT lets through; None if it goes elsewhere."""
    apic = case.controls.apic
    address = case.walk.address
    if apic is None or address is None or address & ~PAGE_MASK != apic.address:
        return None
    final = case.access.stage is Stage.FINAL
    if final and case.walk.steps[-1].level > 1:
        why = "a large page of EPT's leads to the APIC-access page: there need not be an exit"
        return Prediction(Outcome.UNKNOWN, case.walk, why, change="map it by a page of 4 KBytes")
    if final and _may_be_virtualized(apic, case.access.op, address & PAGE_MASK):
        why = (
            f"offset {address & PAGE_MASK:#x} of the APIC-access page is virtualized for an "
            "access of at most 4 bytes, which then makes no APIC-access exit"
        )
        return Prediction(Outcome.UNKNOWN, case.walk, why)
    why = f"every entry on the path allows it, and {address:#x} is on the APIC-access page"
    value, mask = _qualification(case, address & PAGE_MASK)
    change = "map another page there, or do not virtualize APIC accesses"
    return Prediction(Outcome.APIC_ACCESS, case.walk, why, value, mask, change=change)


def _may_be_virtualized(apic: Apic, op: Op, offset: int) -> bool:
    if not apic.tpr_shadow or op is Op.FETCH or offset & REGISTER >= WIDTH:
        return False
    offsets = DELIVERY if apic.interrupt_delivery else TASK_PRIORITY
    if apic.registers:
        offsets = READ if op is Op.READ else WRITTEN
    return offset & ~REGISTER in offsets


def _qualification(case: Case[Out], offset: int) -> tuple[int, int]:
    """The qualification and its defined bits: the offset is that of a linear access alone; of a
    read-modify-write either kind may be told."""
    access = case.access
    kind = ApicAccess.kind.mask
    other = ApicAccess.asynchronous.mask
    asynchronous = other if access.asynchronous else 0
    if asynchronous and (access.stage is not Stage.FINAL or case.no_linear_address is None):
        return asynchronous, other  # of trace it is 11, and linear of PEBS: not told which
    if access.stage is not Stage.FINAL:
        told = PHYSICAL_BY_EVENT if access.event_delivery else PHYSICAL
        return ApicAccess.build(kind=told) | asynchronous, kind | other
    if access.event_delivery:
        told, open_ = LINEAR_BY_EVENT, 0
    else:
        told, open_ = LINEAR[access.op], ApicAccess.build(kind=1) if access.op is Op.RMW else 0
    value = ApicAccess.build(kind=told, offset=offset) | asynchronous
    mask = (kind | other | ApicAccess.offset.mask) & ~open_
    return value & mask, mask
