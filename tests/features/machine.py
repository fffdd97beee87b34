# SPDX-License-Identifier: GPL-2.0-or-later
"""L1 as it was during a case of features.c, and what must be found there after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import EptEntry, Eptp, index
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.case import Deviation
from gdb_nept.predict.linear import LinearAccess, LinearPrediction, predict_linear
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Outcome
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.guest_paging import Cr4, GuestPaging
from tests.features import cases
from tests.guests.scenarios import AD, HOME, INS, OUTS, PATCH_WALK, USER
from tests.proof.log import CaseLine, PatchLine
from tests.proof.machine import ADDRESS, OPS, SIZES, Machine, Patched

PML_FULL, PML_LAST = 0xFFFF, 511
CR4_LA57, CR4_CET = 1 << 12, 1 << 23
EPTP_SSS = 1 << 7
WRITES = (Op.WRITE, Op.RMW)


def pml_index(features: int) -> int:
    """features.c pml_index_of()."""
    if features & cases.PML_FULL:
        return PML_FULL
    return 0 if features & cases.PML_ONE_LEFT else PML_LAST


@dataclass
class FeatureMachine:
    """`usual` is what all cases have in common.  The EPT entries of the memory have all flags.
    `still_blocked` are the cases of which NMI_BLOCKING_KEPT says that NMIs are blocked."""

    usual: Machine
    sppt: int
    pml5: int
    other_root: int
    first_switch: int  # the first case that was run with VMFUNC
    still_blocked: frozenset[CaseLine] = field(default_factory=frozenset)

    @property
    def cpu(self) -> Capabilities:
        return self.usual.cpu

    def eptp_of(self, case: CaseLine) -> Eptp:
        value = self.usual.eptp_of(case).value | (EPTP_SSS if case.features & cases.SSS else 0)
        if case.features & cases.SWITCH:
            value = value & ~ADDRESS | self.other_root
        return Eptp(value)

    def cpu_of(self, case: CaseLine) -> Capabilities:
        mbec, spp = bool(case.features & cases.MBEC), bool(case.features & cases.SPP)
        return replace(self.cpu, mbec=mbec, sub_page=spp)

    def controls_of(self, case: CaseLine) -> Controls:
        features = case.features
        return Controls(
            pml=bool(features & cases.PML),
            pml_index=pml_index(features),
            ve=bool(features & cases.VE),
            ve_busy=bool(features & cases.VE_BUSY),
            nmi_exiting=bool(features & cases.NMI_EXITING),
            virtual_nmis=bool(features & cases.VIRTUAL_NMIS),
            sppt_pointer=self.sppt if features & cases.SPP else None,
        )

    def paging_of(self, case: CaseLine) -> GuestPaging:
        paging, features = self.usual.paging, case.features
        more = CR4_CET if features & cases.SSS else 0
        if features & cases.LA57:
            more |= CR4_LA57
            paging = replace(paging, cr3=self.pml5)
        return replace(paging, cr4=Cr4(paging.cr4.value | more))

    def during(self, case: CaseLine) -> Patched:
        words: dict[int, bytes] = {}
        for place, patch in [(self._place(case, patch), patch) for patch in case.patches]:
            beyond = 1 << self.cpu.maxphyaddr if patch.beyond else 0
            before = words.get(place)
            value = (
                self.usual.memory.word(place)
                if before is None
                else int.from_bytes(before, "little")
            )
            value = value & patch.keep | patch.set | beyond
            words[place] = value.to_bytes(8, "little")
        return Patched(self.usual.memory, words)

    def _place(self, case: CaseLine, patch: PatchLine) -> int:
        """features.c feature_entry()."""
        if patch.space == cases.PATCH_SPPT:
            return self._sppt_entry(self.usual.guest_address(case.linear), patch.level)
        if patch.space == cases.PATCH_OTHER:
            return self.other_root + 8 * index(self.usual.guest_address(case.linear), 4)
        if patch.space == PATCH_WALK and patch.walk == cases.PML5E:
            return self.usual.ept_entry(self.pml5, patch.level)
        return self.usual.place(case, patch)

    def _sppt_entry(self, gpa: int, level: int) -> int:
        table = self.sppt
        for above in range(4, level, -1):
            table = self.usual.memory.word(table + 8 * index(gpa, above)) & ADDRESS
        return table + 8 * index(gpa, level)

    def predict(self, case: CaseLine, model: Model) -> LinearPrediction:
        """Reads the case and L1's tables, never the log.  L2 fetches its code first, which nothing
        but a full log can refuse."""
        if case.features & cases.PML_FULL:
            user = bool(case.flags & USER)
            fetch = LinearAccess(L2Virt(HOME), 1, Op.FETCH, user)
            fetched = self._predict(case, fetch, self.usual.eptp_of(case), model)
            if fetched.outcome is Outcome.PML_FULL:
                return fetched
        blocked = bool(case.features & cases.NMI_BLOCKED)
        if Deviation.NMI_BLOCKING_KEPT in model.hardware:
            blocked |= case in self.still_blocked
        access = LinearAccess(
            L2Virt(case.linear),
            SIZES[case.op],
            OPS[case.op],
            bool(case.flags & USER),
            emulated=self.usual.kvm and bool(case.op in (OUTS, INS) or case.features & cases.MOVS),
            shadow_stack=bool(case.features & cases.SHADOW_STACK),
            nmi_unblocking=blocked,
        )
        found = self._predict(case, access, self.eptp_of(case), model)
        return self._one_left(case, found, model) if case.features & cases.PML_ONE_LEFT else found

    def _one_left(self, case: CaseLine, found: LinearPrediction, model: Model) -> LinearPrediction:
        """`found`, or that an access finds the log full, one before having taken the last entry."""
        used = Used(self.during(case), self.eptp_of(case), self.cpu_of(case))
        full = replace(self.controls_of(case), pml_index=PML_FULL)
        last = (found.access,) if found.access else ()
        for n, access in enumerate((*found.before, *last)):
            if used.logged:
                told = model.predict(used.memory, used.eptp, access, used.cpu, full)
                if told.outcome is Outcome.PML_FULL:
                    return replace(found, access=access, prediction=told, before=found.before[:n])
            used.by(access)
        return found

    def _predict(
        self, case: CaseLine, access: LinearAccess, eptp: Eptp, model: Model
    ) -> LinearPrediction:
        return predict_linear(
            self.during(case),
            eptp,
            access,
            self.paging_of(case),
            self.cpu_of(case),
            self.controls_of(case),
            model,
        )

    # -- what the access leaves behind ----------------------------------------------------------

    def used(self, case: CaseLine, found: LinearPrediction) -> Used:
        """The flags and the log after the accesses that went through, in their order."""
        used = Used(self.during(case), self.eptp_of(case), self.cpu_of(case))
        done = list(found.before)
        if found.access is not None and found.outcome is Outcome.TRANSLATED:
            done.append(found.access)
        for access in done:
            used.by(access)
        if self.usual.kvm and found.outcome is Outcome.PML_FULL and found.access is not None:
            used.up_to_leaf(found.access)
        return used

    def path(self, case: CaseLine, memory: Patched) -> list[int]:
        """EPT12 (not the one switched to) on the way to the data, as cases.c ept_path() has it."""
        eptp = self.usual.eptp_of(case)
        gpa = L2Phys(self.usual.guest_address(case.linear))
        walk = walk_ept(memory, eptp, gpa, self.cpu)
        return [step.entry.value for step in walk.steps]


@dataclass
class Used:
    memory: Patched
    eptp: Eptp
    cpu: Capabilities
    logged: tuple[int, ...] = ()  # guest-physical addresses, first to last

    def by(self, access: Access) -> None:
        """SDM 31.3.5 and 31.3.6; L2's own entries are accessed as if written."""
        if not self.eptp.accessed_dirty:
            return
        writes = access.op in WRITES or access.stage is Stage.WALK
        for step in walk_ept(self.memory, self.eptp, access.gpa, self.cpu).steps:
            value = step.entry.value | EptEntry.accessed.mask
            if step.leaf and writes:
                if not step.entry.dirty:
                    self.logged += (access.gpa,)
                value |= EptEntry.dirty.mask
            self.memory.words[L1Phys(step.address)] = value.to_bytes(8, "little")

    def up_to_leaf(self, access: Access) -> None:
        """mmu/paging_tmpl.h update_accessed_dirty_bits(): KVM sets the flags from the top down, and
        finds the log full at the leaf."""
        for step in walk_ept(self.memory, self.eptp, access.gpa, self.cpu).steps[:-1]:
            value = step.entry.value | EptEntry.accessed.mask
            self.memory.words[L1Phys(step.address)] = value.to_bytes(8, "little")


def still_blocked(ran: Iterable[CaseLine]) -> frozenset[CaseLine]:
    """Of the cases in the order in which they ran: those whose IRET finds NMIs blocked (virtual
    ones if these are on) where VM entry blocks, and IRET alone unblocks: NMI_BLOCKING_KEPT, and
    ctrl_xfer64.cc IRET64().  With a full log no L2 gets as far as that (PML_CHECKED_ALWAYS)."""
    blocked = {True: False, False: False}  # virtual NMIs, and NMIs
    found = set()
    for case in ran:
        virtual = bool(case.features & cases.VIRTUAL_NMIS)
        blocked[virtual] |= bool(case.features & cases.NMI_BLOCKED)
        full = case.features & cases.PML_FULL and case.flags & AD
        if not case.features & cases.IRET or full:
            continue
        if blocked[virtual]:
            found.add(case)
        if virtual or not case.features & cases.NMI_EXITING:
            blocked[virtual] = False
    return frozenset(found)
