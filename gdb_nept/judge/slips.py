# SPDX-License-Identifier: GPL-2.0-or-later
"""What single mistakes make of a fault that was to be told to L1.

Each function takes the prediction of a model that makes no mistake, and gives what L1 would find
after the mistake; or the prediction as it is, where the mistake does not come to bear.  `Slip` has
the words, with the functions of arch/x86/kvm where the thing is done rightly today.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic

from gdb_nept.address import L2Phys, Out
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import ENTRY_SIZE, Eptp
from gdb_nept.arch.exits import EptViolation
from gdb_nept.memory.reader import PAGE_MASK, PhysicalMemory
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.case import KIND
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.predict.passed_on import LINEAR
from gdb_nept.predict.qualification import ADVANCED, NMI_UNBLOCKING, RIGHTS_LOW, USER_EXECUTABLE
from gdb_nept.walk.guest_paging import PageFault
from gdb_nept.walk.result import Cause

READ, WRITE = EptViolation.read.mask, EptViolation.write.mask
RAW = USER_EXECUTABLE | ADVANCED | NMI_UNBLOCKING
RIGHTS = 7 << RIGHTS_LOW
GUEST_STAGE = 3 << 32  # PFERR_GUEST_FINAL_MASK and PFERR_GUEST_PAGE_MASK, from 6.12.117 on


class Slip:
    """What is said of each mistake."""

    TOLD_48 = (
        "reason 48 where 49 is due: an EPT misconfiguration told as a violation "
        "(vmx/nested.c nested_ept_inject_page_fault() asks for PFERR_RSVD_MASK, 25d92081ae2f)"
    )
    TOLD_49 = (
        "reason 49 where 48 is due: an EPT violation told as a misconfiguration "
        "(vmx/nested.c nested_ept_inject_page_fault(): only with PFERR_RSVD_MASK, 25d92081ae2f, "
        "whatever the reason for which the processor left EPT02)"
    )
    NO_TABLE = (
        "a table of EPT12 could not be read when KVM walked it, being in no memslot then: "
        "bits 5:3 are the rights of the levels above (mmu/paging_tmpl.h walk_addr_generic())"
    )
    RAW_BITS = (
        "raw bits from 6 up, of the processor's own exit from EPT02, passed on "
        "(as Xen does, mm/hap/nested_ept.c nept_translate_l2ga(); KVM makes them itself, "
        "mmu/paging_tmpl.h walk_addr_generic())"
    )
    RAW_WHOLE = (
        "the processor's own qualification passed on as it is: its bits 5:3 are the rights of "
        "EPT02 and not of EPT12 (mmu/paging_tmpl.h walk_addr_generic() takes them from EPT12)"
    )
    OFFSET_LOST = (
        "the page offset lost: bits 11:0 of the guest-physical address are 0 for an access of the "
        "processor (mmu/paging_tmpl.h walk_addr_generic() passes the whole address, fault.address)"
    )
    LINEAR_BITS_LOST = (
        "bits 8:7 lost, which say what the guest-linear address is to the access "
        "(vmx/nested.c nested_ept_inject_page_fault() takes them from the processor's exit, "
        "a9466078687f; before 6.10 mmu/paging_tmpl.h walk_addr_generic())"
    )
    WALK_READS = (
        "a page walk told as a plain read, though EPT12's accessed and dirty flags make it a write "
        "(SDM vol. 3, 31.3.3.2; vmx/vmx.c handle_ept_violation() must clear no W, 995f00a61958)"
    )
    ERROR_CODE = (
        "the error code of KVM's own walk in the qualification's place "
        "(vmx/nested.c nested_ept_inject_page_fault(): fault->error_code for "
        "fault->exit_qualification, a9466078687f)"
    )


@dataclass(frozen=True)
class Question(Generic[Out]):
    """All that a model is asked."""

    memory: PhysicalMemory[Out]
    eptp: Eptp
    access: Access
    cpu: Capabilities
    controls: Controls
    base: Model

    def put_to(self, model: Model) -> Prediction[Out]:
        return model.predict(self.memory, self.eptp, self.access, self.cpu, self.controls)


class Blanked(Generic[Out]):
    """A memory with 0 in place of the entry at `entry`."""

    def __init__(self, below: PhysicalMemory[Out], entry: Out) -> None:
        self._below, self._entry = below, entry

    def read(self, address: Out, size: int) -> bytes:
        data = bytearray(self._below.read(address, size))
        first, last = self._entry - address, self._entry + ENTRY_SIZE - address
        for place in range(max(first, 0), min(last, size)):
            data[place] = 0
        return bytes(data)


# -- the exit reason -----------------------------------------------------------------------------


def told_48(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    """The misconfigured entry is taken for one that is not present."""
    if rightly.outcome is not Outcome.MISCONFIG:
        return rightly
    blank = Blanked(asked.memory, rightly.walk.steps[-1].address)
    return replace(asked, memory=blank).put_to(asked.base)


def told_48_with_rights(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    """The rights of the misconfigured entry count as those of any other."""
    found = told_48(asked, rightly)
    if found is rightly or found.outcome is not Outcome.VIOLATION:
        return rightly
    rights = KIND
    for step in rightly.walk.steps:
        rights &= step.entry.value
    value = found.qualification & ~RIGHTS | rights << RIGHTS_LOW
    return replace(found, qualification=value, mask=found.mask | RIGHTS)


def told_48_as_it_is(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    """With the qualification of the misconfiguration, 0."""
    if rightly.outcome is not Outcome.MISCONFIG:
        return rightly
    return replace(rightly, outcome=Outcome.VIOLATION, qualification=0, mask=ALL_BITS)


def told_49(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    """With the qualification of the violation."""
    if rightly.outcome is not Outcome.VIOLATION:
        return rightly
    return replace(rightly, outcome=Outcome.MISCONFIG)


def told_49_cleared(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    if rightly.outcome is not Outcome.VIOLATION:
        return rightly
    return replace(rightly, outcome=Outcome.MISCONFIG, qualification=0, mask=ALL_BITS)


# -- the qualification ---------------------------------------------------------------------------


def raw_bits(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    """Bits 11:9, 6 and 12 are those of the processor's own exit, where that was seen."""
    if not _of_the_processor(asked, rightly):
        return rightly
    raw = asked.access.raw
    value, mask = rightly.qualification & ~RAW, rightly.mask & ~RAW
    if raw is not None:
        value, mask = value | raw & RAW, mask | RAW
    return replace(rightly, qualification=value, mask=mask)


def raw_whole(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    """Only where it was seen: what EPT02 allows follows from nothing in EPT12."""
    raw = asked.access.raw
    if raw is None or not _of_the_processor(asked, rightly):
        return rightly
    return replace(rightly, qualification=raw, mask=ALL_BITS)


def linear_bits_lost(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    return _without(LINEAR, asked, rightly)


def translated_lost(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    return _without(EptViolation.translated.mask, asked, rightly)


def _without(bits: int, asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    """Bits 11:9 are defined only beside bits 8:7 (table 30-7): without these they may be any."""
    if not _of_the_processor(asked, rightly):
        return rightly
    mask = (rightly.mask | bits) & ~ADVANCED
    return replace(rightly, qualification=rightly.qualification & ~bits, mask=mask)


def walk_reads(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    walking = asked.access.stage is Stage.WALK and asked.access.op is Op.READ
    if not (walking and asked.eptp.accessed_dirty and _of_the_processor(asked, rightly)):
        return rightly
    value = rightly.qualification & ~KIND | READ
    return replace(rightly, qualification=value, mask=rightly.mask | KIND)


def error_code(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    """mmu/paging_tmpl.h walk_addr_generic(): P if the walk came to an end, U of a data read."""
    if asked.access.emulated or rightly.outcome not in (Outcome.VIOLATION, Outcome.MISCONFIG):
        return rightly
    stop, (kind, known) = rightly.walk.stop, _kind(asked)
    reserved = stop is not None and stop.cause is Cause.MISCONFIGURED
    code = PageFault.build(
        present=int(stop is None or reserved),
        write=int(bool(kind & WRITE)),
        user=int(bool(kind & READ)),
        reserved=int(reserved),
    )
    mask = ALL_BITS & ~GUEST_STAGE
    if not known & READ:
        mask &= ~PageFault.user.mask
    if asked.access.op is Op.FETCH:
        mask &= ~PageFault.fetch.mask  # only where L2 has NX or SMEP on
    return replace(rightly, qualification=code & mask, mask=mask)


# -- the address ---------------------------------------------------------------------------------


def offset_lost(asked: Question[Out], rightly: Prediction[Out]) -> Prediction[Out]:
    if rightly.gpa is None or asked.access.emulated:
        return rightly
    return replace(rightly, gpa=L2Phys(rightly.gpa & ~PAGE_MASK))


def _of_the_processor(asked: Question[Out], rightly: Prediction[Out]) -> bool:
    """Whether it is a violation for an access that the processor made."""
    return rightly.outcome is Outcome.VIOLATION and not asked.access.emulated


def _kind(asked: Question[Out]) -> tuple[int, int]:
    """Bits 2:0 of the access, and a mask of all bits but those that a processor may choose."""
    access = asked.access
    if access.stage is not Stage.FINAL:
        updating = access.stage is Stage.WALK and (
            bool(asked.eptp.accessed_dirty) or access.op is not Op.READ
        )
        return (READ | WRITE, ALL_BITS & ~READ) if updating else (READ, ALL_BITS)
    if access.op is Op.RMW:
        return READ | WRITE, ALL_BITS & ~READ
    kinds = {Op.READ: READ, Op.WRITE: WRITE, Op.FETCH: EptViolation.fetch.mask}
    return kinds[access.op], ALL_BITS
