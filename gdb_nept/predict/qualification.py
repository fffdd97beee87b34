# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit qualification of an EPT violation, bit by bit, and which of its bits are defined.

SDM vol. 3, June 2026 (325384-092), table 30-7 "Exit Qualification for EPT Violations".
"""

from __future__ import annotations

from typing import NamedTuple

from gdb_nept.address import Out
from gdb_nept.arch.exits import EptViolation
from gdb_nept.predict.access import Op, Stage
from gdb_nept.predict.case import READ, WRITE, Case, Deviation

EVERYTHING = (1 << 17) - 1  # bits 16:0 are all that the table defines
RIGHTS_LOW = EptViolation.readable.low
USER_EXECUTABLE = EptViolation.user_executable.mask
LINEAR_VALID = EptViolation.linear_valid.mask
TRANSLATED = EptViolation.translated.mask
USER_LINEAR = EptViolation.user_linear.mask
WRITABLE_LINEAR = EptViolation.writable_linear.mask
EXECUTE_DISABLE_LINEAR = EptViolation.execute_disable_linear.mask
ADVANCED = USER_LINEAR | WRITABLE_LINEAR | EXECUTE_DISABLE_LINEAR
NMI_UNBLOCKING = EptViolation.nmi_unblocking.mask
SHADOW_STACK = EptViolation.shadow_stack_access.mask
SUPERVISOR_SHADOW_STACK = EptViolation.supervisor_shadow_stack.mask
GUEST_PAGING = EptViolation.guest_paging.mask
ASYNCHRONOUS = EptViolation.asynchronous.mask


class Qualification(NamedTuple):
    """`mask` has the defined bits; `rules` the deviations of the hardware that took part."""

    value: int
    mask: int
    rules: tuple[str, ...] = ()


def qualify(case: Case[Out]) -> Qualification:
    """The qualification that the processor of `case` reports for a violation."""
    value, mask = 0, EVERYTHING
    rules: tuple[str, ...] = ()
    for part in (kind_of, _rights, _linear, _advanced, _rest):
        bits, defined, by = part(case)
        value |= bits
        mask &= defined
        rules += by
    return Qualification(value, mask, rules)


def kind_of(case: Case[Out]) -> Qualification:
    """Bits 2:0.  Of a read-modify-write, bit 0 is implementation-specific (footnote 1)."""
    kind = case.needed
    if kind != READ | WRITE:
        return Qualification(kind, EVERYTHING)
    forced = case.access.stage is Stage.WALK and bool(case.eptp.accessed_dirty)
    rule = Deviation.WALK_WRITE_ONLY if forced else Deviation.RMW_WRITE_ONLY
    if rule in case.hardware:
        return Qualification(WRITE, EVERYTHING, (rule.name,))
    return Qualification(kind, EVERYTHING if forced else EVERYTHING & ~READ)


def _rights(case: Case[Out]) -> Qualification:
    """Bits 6:3: the AND of the entries used, or 0 if one of them is not present (note 2)."""
    mbec = case.cpu.mbec
    mask = EVERYTHING if mbec else EVERYTHING & ~USER_EXECUTABLE
    if not case.complete:
        return Qualification(0, mask)
    rights = case.walk.rights
    value = (rights.value & 7) << RIGHTS_LOW
    if not (mbec and rights.user_execute):
        return Qualification(value, mask)
    rule = Deviation.USER_EXECUTE_IN_BIT_13
    if rule in case.hardware and case.access.op is not Op.FETCH:
        value |= SHADOW_STACK
        return Qualification(value, mask, (rule.name,))
    return Qualification(value | USER_EXECUTABLE, mask)


def _linear(case: Case[Out]) -> Qualification:
    """Bits 8:7."""
    if case.no_linear_address:
        return Qualification(0, EVERYTHING)
    if case.no_linear_address is None:
        return Qualification(0, EVERYTHING & ~(LINEAR_VALID | TRANSLATED))
    translated = TRANSLATED if case.access.stage is Stage.FINAL else 0
    return Qualification(LINEAR_VALID | translated, EVERYTHING)


def _advanced(case: Case[Out]) -> Qualification:
    """Bits 11:9, about the linear address, where they are offered and it is known."""
    offered = bool(case.cpu.ept_vpid_cap.advanced_exit)
    access = case.access
    if not offered or access.stage is not Stage.FINAL or case.no_linear_address is None:
        return Qualification(0, EVERYTHING & ~ADVANCED)
    if access.unpaged:
        return Qualification(USER_LINEAR | WRITABLE_LINEAR, EVERYTHING)
    value, mask = 0, EVERYTHING
    for bit, known in (
        (USER_LINEAR, access.user),
        (WRITABLE_LINEAR, access.linear_writable),
        (EXECUTE_DISABLE_LINEAR, access.linear_execute_disable),
    ):
        if known is None:
            mask &= ~bit
        elif known:
            value |= bit
    return Qualification(value, mask)


def _rest(case: Case[Out]) -> Qualification:
    """Bits 16:12."""
    value, mask, _ = other_events(case)
    if case.on_shadow_stack:
        value |= SHADOW_STACK
    if not (case.eptp.shadow_stack and case.complete):
        mask &= ~SUPERVISOR_SHADOW_STACK
    elif case.leaf.supervisor_shadow_stack:
        value |= SUPERVISOR_SHADOW_STACK
    if case.complete and case.unverified:
        if case.needed & ~case.allowed:  # refused for its rights, too: either can be the cause
            mask &= ~GUEST_PAGING
        value |= GUEST_PAGING & mask
    return Qualification(value, mask)


def other_events(case: Case[Out]) -> Qualification:
    """Bits 12 and 16, which the exits for a full log and for SPP-related events have, too."""
    value = ASYNCHRONOUS if case.access.asynchronous else 0
    if not case.nmi_unblocking_told:
        return Qualification(value, EVERYTHING & ~NMI_UNBLOCKING)
    return Qualification(value | (NMI_UNBLOCKING if case.access.nmi_unblocking else 0), EVERYTHING)
