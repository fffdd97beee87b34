# SPDX-License-Identifier: GPL-2.0-or-later
"""What a hypervisor reports of the access that the processor met under its own EPT for L2.

The processor runs L2 on EPT02, the hypervisor's shadow, and leaves L2 with a qualification of its
own.  Some bits of that are passed on to L1 as they are.  Where the qualification was seen
(`Access.raw`), they are taken from it; else what the access tells is known of them, and the rest
is left out of the mask.  A hypervisor writes every bit of the field: those that it makes itself are
all known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic

from gdb_nept.address import L2Phys, L2Virt, Out
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.ept import Eptp
from gdb_nept.arch.exits import EptViolation
from gdb_nept.memory.reader import PAGE_MASK
from gdb_nept.predict.access import Op, Stage
from gdb_nept.predict.case import FETCH, KIND, READ, WRITE, Case
from gdb_nept.predict.kvm import Feature, Habit, Kvm
from gdb_nept.predict.qualification import ADVANCED, NMI_UNBLOCKING, kind_of, qualify
from gdb_nept.walk.result import Cause

LINEAR = EptViolation.linear_valid.mask | EptViolation.translated.mask
NAMED = sum(field.mask for field in EptViolation.fields())
ALL_RIGHTS = 7


@dataclass(frozen=True)
class Known:
    """Bits of the qualification, and the mask of those that are known."""

    value: int
    mask: int


def passed_on(case: Case[Out], bits: int) -> Known:
    """`bits` of the qualification with which the processor of `case` leaves L2."""
    if case.access.raw is not None:
        return Known(case.access.raw & bits, bits)
    told = qualify(case)
    mask = told.mask & bits
    return Known(told.value & mask, mask)


@dataclass(frozen=True)
class Met(Generic[Out]):
    """An access as KVM meets it: `case` is L1's, under EPT12 and what KVM offers."""

    case: Case[Out]
    kvm: Kvm

    @property
    def emulated(self) -> bool:
        return self.case.access.emulated

    @property
    def processor(self) -> Case[Out]:
        """The same access as the processor makes it under EPT02, in all but the entries."""
        eptp = self.case.eptp
        if Feature.WALK_AS_MADE in self.kvm or eptp.accessed_dirty:
            return self.case
        return replace(self.case, eptp=Eptp(eptp.value | Eptp.accessed_dirty.mask))

    @property
    def fixed_up(self) -> int:
        """Bits that handle_ept_violation() clears before anything else looks at them: W of a page
        walk, in 4.12 and 4.13, if EPTP12 has no accessed and dirty flags."""
        made_up = Feature.ACCESSED_DIRTY in self.kvm and Feature.WALK_AS_MADE not in self.kvm
        walking = self.case.access.stage is not Stage.FINAL
        return WRITE if made_up and walking and not self.case.eptp.accessed_dirty else 0

    @property
    def kind(self) -> int:
        """Bits 2:0 of the access with which KVM walks EPT12."""
        if not self.emulated:
            raw = self.case.access.raw
            return (kind_of(self.processor).value if raw is None else raw & KIND) & ~self.fixed_up
        if self.case.access.stage is not Stage.FINAL:
            return READ | WRITE  # Habit.EMULATED_WALK_WRITES, Habit.EMULATED_PDPTES
        kind = READ if self.reads_first else EMULATED[self.case.access.op]
        return kind | (0 if Feature.ONE_KIND in self.kvm else READ)

    @property
    def reads_first(self) -> bool:
        """Whether it is the read of the emulator's read-modify-write that fails
        (Habit.EMULATED_RMW_IN_TWO): it gets to the write only if that goes through."""
        case = self.case
        if (
            not self.emulated
            or case.access.op is not Op.RMW
            or case.access.stage is not Stage.FINAL
        ):
            return False
        readable = case.allowed & READ or Feature.READ_TRACKED not in self.kvm
        return not (case.complete and readable)

    @property
    def lacking(self) -> int:
        """The bits of `kind` that the entries of a whole path do not allow."""
        always = 0 if Feature.READ_TRACKED in self.kvm else READ
        return self.kind & ~(self.case.allowed | always)


EMULATED = {Op.READ: READ, Op.WRITE: WRITE, Op.FETCH: FETCH, Op.RMW: WRITE}


# -- the qualification ---------------------------------------------------------------------------


def violation(met: Met[Out]) -> Known:
    """walk_addr_generic() for bits 6:0, nested_ept_inject_page_fault() for the others."""
    parts = (_kind(met), _linear(met), Known(_rights(met), 0))
    value = mask = 0
    for part in parts:
        value, mask = value | part.value, mask | part.mask
    return Known(value, mask | (ALL_BITS & ~(KIND | LINEAR | _advanced(met))))


def misconfiguration(met: Met[Out]) -> Known:
    """Before 6.10 it is the one with which the processor left EPT02, as it is: walk_addr_generic()
    masks it only where no reserved bit is the reason."""
    if Feature.MISCONFIG_CLEARED in met.kvm:
        return Known(0, ALL_BITS)
    if met.emulated:
        return Known(0, 0)  # that of the processor's last EPT violation
    if met.case.access.raw is not None:
        return Known(met.case.access.raw & ~met.fixed_up, ALL_BITS)
    nmi = NMI_UNBLOCKING if met.case.access.nmi_unblocking else 0
    told, kind = passed_on(met.processor, LINEAR | nmi), _kind(met)
    return Known(told.value | kind.value, told.mask | kind.mask | (ALL_BITS & ~NAMED))


def full_log(met: Met[Out]) -> Known:
    """nested_ept_inject_page_fault(): the processor's bit 12 and no other."""
    if Feature.NMI_KEPT not in met.kvm:
        return Known(0, ALL_BITS)
    if met.emulated:
        return Known(0, ALL_BITS & ~NMI_UNBLOCKING)
    told = passed_on(met.processor, NMI_UNBLOCKING)
    return Known(told.value, told.mask | (ALL_BITS & ~NMI_UNBLOCKING))


def _kind(met: Met[Out]) -> Known:
    if Feature.ONE_KIND in met.kvm:
        one = WRITE if met.kind & WRITE else FETCH if met.kind & FETCH else READ
        walking = met.case.access.stage is Stage.WALK
        return Known(one | (READ if walking else 0), KIND)
    if met.emulated:
        known = Feature.KIND_OF_WALK in met.kvm  # else those of the last EPT violation
        return Known(met.kind, KIND) if known else Known(0, 0)
    seen = met.case.access.raw is not None
    mask = KIND if seen else KIND & kind_of(met.processor).mask  # bit 0 of a read-modify-write
    return Known(met.kind & mask, mask)


def _linear(met: Met[Out]) -> Known:
    """Bits 11:7."""
    if not met.emulated:
        return passed_on(met.processor, LINEAR | _advanced(met))
    if Feature.LINEAR_SYNTHESISED not in met.kvm:
        return Known(0, _advanced(met))  # bits 8:7 are those of the last EPT violation
    return Known(qualify(met.case).value & LINEAR, LINEAR | _advanced(met))


def _advanced(met: Met[Out]) -> int:
    offered = met.case.cpu.ept_vpid_cap.advanced_exit
    return ADVANCED if Feature.ADVANCED in met.kvm and offered else 0


def _rights(met: Met[Out]) -> int:
    """Bits 6:3: the AND of the entries that KVM has read, an entry that is not present included;
    all of them if it could read none."""
    case = met.case
    rights = case.walk.rights
    allowed = rights.value & ALL_RIGHTS
    if Feature.RIGHTS_OF_ENTRIES not in met.kvm:
        allowed = _mixed(met)
    user = EptViolation.user_executable.mask if case.cpu.mbec and rights.user_execute else 0
    return allowed << EptViolation.readable.low | user


def _mixed(met: Met[Out]) -> int:
    """`pt_access & pte` before 4.12: what the tables allow as ACC_EXEC 1, ACC_WRITE 2, ACC_USER 4
    (until 4.8 always set), and the last entry as R 1, W 2, X 4."""
    walk = met.case.walk
    unread = walk.stop is not None and walk.stop.cause is Cause.NO_MEMORY
    tables = ALL_RIGHTS
    for step in walk.steps if unread else walk.steps[:-1]:
        user = step.entry.read if Feature.READ_TRACKED in met.kvm else 1
        tables &= step.entry.execute | step.entry.write << 1 | user << 2
    return tables & met.case.leaf.value & ALL_RIGHTS


# -- the addresses, and the rules that took part -------------------------------------------------


def guest_physical(met: Met[Out]) -> L2Phys:
    """All of it for an access of the processor; of the emulator's, the page (EMULATED_OFFSET_LOST:
    walk_addr_generic() of nested_mmu passes gfn_to_gpa(), and nonpaging_gva_to_gpa() all of it)."""
    access = met.case.access
    return L2Phys(access.gpa & ~PAGE_MASK) if _offset_lost(met) else access.gpa


def _offset_lost(met: Met[Out]) -> bool:
    return met.emulated and not met.case.access.unpaged


def guest_linear(met: Met[Out]) -> L2Virt | None:
    """What the processor left in vmcs02; after an emulated access that is an older exit's."""
    unknown = met.emulated or met.case.access.stage is Stage.PDPTE
    return None if unknown or Feature.LINEAR_COPIED not in met.kvm else met.case.access.gla


def rules(met: Met[Out], violation: bool) -> tuple[str, ...]:
    """Names of the deviations that took part in an exit; no other has all these fields."""
    if not met.emulated:
        return kind_of(met.processor).rules
    lost = _offset_lost(met) and met.case.access.gpa & PAGE_MASK
    found = [Habit.EMULATED_OFFSET_LOST] if lost else []
    if met.case.access.stage is Stage.WALK:
        found.append(Habit.EMULATED_WALK_WRITES)
    elif Feature.ONE_KIND not in met.kvm:
        found.append(Habit.EMULATED_READS_TOO)
    if violation and met.case.access.stage is Stage.FINAL and _advanced(met):
        found.append(Habit.EMULATED_ADVANCED_LOST)
    if met.reads_first:
        found.append(Habit.EMULATED_RMW_IN_TWO)
    if violation and Feature.LINEAR_COPIED in met.kvm:
        found.append(Habit.EMULATED_LINEAR_STALE)
    return tuple(each.name for each in found)
