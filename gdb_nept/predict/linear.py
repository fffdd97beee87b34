# SPDX-License-Identifier: GPL-2.0-or-later
"""What an instruction's access at a linear address must lead to.

An address that is not canonical, or that LASS keeps apart, is refused before anything is looked up
(walk/linear_address.py).
The processor reads L2's paging-structure entries through EPT, checks L2's own rights, sets
accessed and dirty flags through EPT, and only then makes the access itself (SDM vol. 3, June 2026,
31.3.3.2 and 31.3.3.3).  The first of these accesses that does not go through decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import Eptp
from gdb_nept.errors import BadInput, MemoryUnreadable
from gdb_nept.memory.reader import PAGE_MASK, PAGE_SIZE, PhysicalMemory
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.case import SDM, Deviation, Hardware
from gdb_nept.predict.marked import Marked
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Outcome, Prediction
from gdb_nept.walk.guest_paging import GuestPaging, GuestStep, Reference
from gdb_nept.walk.linear_address import lass_violation, not_canonical, too_wide, unmasked, wrapped
from gdb_nept.walk.paging import LinearWalk, TableAccess, walk_linear
from gdb_nept.walk.rights import Fault, refused, rights_of

LASS = "linear-address-space separation"
LAM = "linear-address masking"


@dataclass(frozen=True)
class LinearAccess:
    """`size` bytes at `linear`; `user` is CPL 3, `emulated` an access of KVM's emulator for L2,
    `implicit` the processor's own to a system structure (GDT, LDT, IDT, TSS), at any CPL;
    `event_delivery` is made while an event is delivered, `nmi_unblocking` by an IRET with NMIs
    blocked before it."""

    linear: L2Virt
    size: int
    op: Op
    user: bool = False
    emulated: bool = False
    implicit: bool = False
    shadow_stack: bool = False
    event_delivery: bool = False
    nmi_unblocking: bool = False

    @property
    def lam_exempt(self) -> bool:
        return self.op is Op.FETCH or self.implicit


@dataclass(frozen=True)
class LinearPrediction:
    """`access` and `prediction` are of the access that decides: the first that does not go
    through, or the last one.  With a `fault` it is L2's own page fault that comes first, at
    `linear`; with `refused`, which says why, the processor refuses the address itself.  `before`
    are the accesses that went through, in order.  `steps` are L2's entries that were read for
    `linear`; `walk` is how it translates, if all of them were.  `doubts` are what the answer hangs
    on and nobody told.  `rules` are the model's own by which it judges L2's tables."""

    linear: L2Virt
    access: Access | None
    prediction: Prediction[L1Phys] | None
    fault: Fault | None
    before: tuple[Access, ...]
    refused: str = ""
    steps: tuple[GuestStep, ...] = ()
    walk: LinearWalk | None = None
    doubts: tuple[str, ...] = ()
    never_run: tuple[str, ...] = ()  # rules that decide before any exit, from the manual alone
    rules: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        if self.refused:
            return Outcome.GENERAL_PROTECTION
        if self.fault is not None or self.prediction is None:
            return Outcome.PAGE_FAULT
        return self.prediction.outcome


@dataclass(frozen=True)
class Eyes:
    """What every access of one instruction is predicted with."""

    memory: PhysicalMemory[L1Phys]
    eptp: Eptp
    paging: GuestPaging
    cpu: Capabilities
    controls: Controls
    model: Model
    marked: Marked

    def predict(self, access: Access) -> Prediction[L1Phys]:
        found = self._with(access, self.marked.controls(self.controls))
        if found.outcome is Outcome.PML_FULL and self.marked.has_all(found.walk, access):
            found = self._with(access, replace(self.controls, pml=False))
        if found.outcome is Outcome.TRANSLATED and self.eptp.accessed_dirty:
            self.marked.mark(found.walk, access)
        return found

    def _with(self, access: Access, controls: Controls) -> Prediction[L1Phys]:
        return self.model.predict(self.memory, self.eptp, access, self.cpu, controls)


def predict_linear(
    memory: PhysicalMemory[L1Phys],
    eptp: Eptp,
    access: LinearAccess,
    paging: GuestPaging,
    cpu: Capabilities,
    controls: Controls,
    model: Model,
) -> LinearPrediction:
    """The outcome of the whole access; one over a page's end is translated page by page first.
    Raises BadInput for an address that L2 cannot form in its mode."""
    if too_wide(paging, access.linear):
        raise BadInput(
            f"L2 has no linear address {access.linear:#x}: it is not in IA-32e mode, where they "
            "have 32 bits"
        )
    tagged = unmasked(paging, access.linear, fetch=False) != access.linear
    access = replace(access, linear=unmasked(paging, access.linear, access.lam_exempt))
    found = _refused(paging, access)
    if found is None:
        judged = _as_judged(paging, model.hardware)
        marked = Marked.under(model.hardware)
        eyes = Eyes(memory, eptp, judged, cpu, controls, model, marked)
        found = _translate_all(eyes, access)
    return _with_never_run(found, LAM) if tagged else found


def _with_never_run(found: LinearPrediction, name: str) -> LinearPrediction:
    prediction = found.prediction
    if prediction is not None:
        prediction = replace(prediction, never_run=(name, *prediction.never_run))
    return replace(found, prediction=prediction, never_run=(name, *found.never_run))


def _translate_all(eyes: Eyes, access: LinearAccess) -> LinearPrediction:
    """Of an access at an address that the processor does not refuse."""
    before: list[Access] = []
    doubts: list[str] = []
    found: LinearPrediction | None = None
    for piece in _pieces(eyes.paging, access):
        found = _translate(eyes, access, piece, before)
        doubts += [one for one in found.doubts if one not in doubts]
        found = replace(found, doubts=tuple(doubts))
        if found.outcome is not Outcome.TRANSLATED:
            return found
        if found.access is not None:
            before.append(found.access)
    assert found is not None
    return replace(found, before=tuple(before[:-1]))


def _refused(paging: GuestPaging, access: LinearAccess) -> LinearPrediction | None:
    """What comes of an address that the processor refuses before it walks any table."""
    for end in (access.linear, _last_byte(paging, access)):
        if why := not_canonical(paging, end):
            return LinearPrediction(end, None, None, None, (), why)
        if why := lass_violation(paging, _reference(access, end)):
            return LinearPrediction(end, None, None, None, (), why, never_run=(LASS,))
    return None


def _pieces(paging: GuestPaging, access: LinearAccess) -> Iterator[L2Virt]:
    """The first byte in each page that is touched; addresses wrap around."""
    yield access.linear
    last = access.linear + max(access.size, 1) - 1
    for page in range((access.linear | PAGE_MASK) + 1, last + 1, PAGE_SIZE):
        yield wrapped(paging, page)


def _last_byte(paging: GuestPaging, access: LinearAccess) -> L2Virt:
    return wrapped(paging, access.linear + max(access.size, 1) - 1)


def _reference(whole: LinearAccess, linear: L2Virt, hardware: Hardware = SDM) -> Reference:
    """As `hardware` judges it: an implicit access may be just another of a supervisor's."""
    plain = whole.implicit and Deviation.IMPLICIT_LIFTED_BY_AC in hardware
    return Reference(
        linear,
        write=whole.op in (Op.WRITE, Op.RMW),
        fetch=whole.op is Op.FETCH,
        user=whole.user and not plain,
        implicit=whole.implicit and not plain,
        shadow_stack=whole.shadow_stack,
    )


def _as_judged(paging: GuestPaging, hardware: Hardware) -> GuestPaging:
    by_access = Deviation.KEYS_BY_ACCESS in hardware
    if paging.keys_by_access == by_access:
        return paging
    return replace(paging, keys_by_access=by_access)


def _departures(eyes: Eyes, whole: LinearAccess, walk: LinearWalk) -> tuple[str, ...]:
    """The rules of the hardware without which it would judge the rights of L2's entries otherwise:
    the fault, or that there is none."""
    cr4, fault, found = eyes.paging.cr4, walk.fault, []
    judged = walk.steps and walk.steps[-1].leaf
    if not judged or (fault and (fault.code.reserved or not fault.code.present)):
        return ()
    if not (whole.implicit or cr4.user_keys or cr4.supervisor_keys):
        return ()
    for rule in (Deviation.IMPLICIT_LIFTED_BY_AC, Deviation.KEYS_BY_ACCESS):
        hardware = eyes.model.hardware
        if rule not in hardware:
            continue
        less = replace(hardware, deviations=hardware.deviations - {rule})
        reference = _reference(whole, walk.linear, less)
        other = refused(rights_of(walk.steps), _as_judged(eyes.paging, less), reference)
        if (other and other.code) != (fault and fault.code):
            found.append(rule.name)
    return tuple(found)


def _translate(
    eyes: Eyes, whole: LinearAccess, linear: L2Virt, before: list[Access]
) -> LinearPrediction:
    walker = walk_linear(eyes.paging, _reference(whole, linear, eyes.model.hardware))
    sent: int | None = None
    verified = True
    while True:
        try:
            wanted = next(walker) if sent is None else walker.send(sent)
        except StopIteration as end:
            walk: LinearWalk = end.value
            break
        access = _table_access(wanted, whole, linear)
        prediction = eyes.predict(access)
        if prediction.outcome is not Outcome.TRANSLATED or prediction.hpa is None:
            return LinearPrediction(
                linear, access, prediction, None, tuple(before), steps=wanted.done
            )
        try:
            sent = int.from_bytes(eyes.memory.read(prediction.hpa, wanted.size), "little")
        except MemoryUnreadable as error:
            unknown = replace(prediction, outcome=Outcome.UNKNOWN, why=str(error))
            return LinearPrediction(linear, access, unknown, None, tuple(before), steps=wanted.done)
        before.append(access)
        verified = verified and bool(prediction.walk.steps[-1].entry.paging_write)
    doubts = (walk.unknown,) if walk.unknown else ()
    found = LinearPrediction(
        *(linear, None, None, walk.fault, tuple(before)),
        steps=walk.steps,
        walk=walk,
        doubts=doubts,
        rules=_departures(eyes, whole, walk),
    )
    if walk.fault is not None or walk.gpa is None:
        return found
    final = _final_access(walk, walk.gpa, whole)
    cr0 = eyes.paging.cr0
    final = replace(
        final, unpaged=not cr0.paging, real_mode=not cr0.protection, paging_verified=verified
    )
    prediction = eyes.predict(final)
    prediction = replace(prediction, rules=(*found.rules, *prediction.rules))
    return replace(found, access=final, prediction=prediction)


def _table_access(wanted: TableAccess, whole: LinearAccess, linear: L2Virt) -> Access:
    op = Op.RMW if wanted.update else Op.READ
    return Access(
        wanted.gpa,
        op,
        stage=Stage.WALK,
        gla=linear,
        emulated=whole.emulated,
        user=whole.user,
        event_delivery=whole.event_delivery,
        nmi_unblocking=whole.nmi_unblocking,
    )


def _final_access(walk: LinearWalk, gpa: L2Phys, whole: LinearAccess) -> Access:
    return Access(
        gpa,
        whole.op,
        user=walk.user,
        gla=walk.linear,
        linear_writable=walk.writable,
        linear_execute_disable=walk.execute_disable,
        shadow_stack=whole.shadow_stack,
        emulated=whole.emulated,
        event_delivery=whole.event_delivery,
        nmi_unblocking=whole.nmi_unblocking,
    )
