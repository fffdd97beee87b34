# SPDX-License-Identifier: GPL-2.0-or-later
"""All that an exit depends on, once the walk is done; and the processors that take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from gdb_nept.address import L2Phys, Out
from gdb_nept.arch.bits import ALL_BITS
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import SDM_EPTP, EptEntry, Eptp, EptpRule
from gdb_nept.arch.exits import EptViolation
from gdb_nept.predict.access import Access, Controls, Op, Plain, Stage
from gdb_nept.walk.result import Walk

READ, WRITE, FETCH = EptViolation.read.mask, EptViolation.write.mask, EptViolation.fetch.mask
KIND = READ | WRITE | FETCH


class Deviation(Plain):
    """Where Bochs departs from the SDM; the function is in bochs/cpu/paging.cc if not said."""

    WALK_WRITE_ONLY = "page-walk accesses with EPT A/D report bit 1 alone (nested walk: BX_WRITE)"
    WALK_UPDATE_UNCHECKED = (
        "updates of the guest's own A/D flags are not checked against EPT W "
        "(update_access_dirty writes the address that the read had translated)"
    )
    RMW_WRITE_ONLY = "a read-modify-write reports bit 1 alone (translate_linear: BX_RW is a write)"
    EXECUTE_ONLY_ASSUMED = "X without R is never a misconfiguration (translate_guest_physical)"
    USER_EXECUTE_IN_BIT_13 = "with MBEC, XU is reported in bit 13 (translate_guest_physical)"
    PML_CHECKED_ALWAYS = (
        "the PML index is checked on every access (vmexit.cc vmx_page_modification_logging)"
    )
    SPP_NEEDS_READ = (
        "a write is not eligible for sub-page permissions where R is clear as well "
        "(translate_guest_physical)"
    )
    EPTP_INDEX_KEPT = (
        "the EPTP index of a #VE is that of the last VMFUNC, whatever the VMCS has at VM entry "
        "(vmfunc.cc vmfunc_eptp_switching)"
    )
    NMI_BLOCKING_KEPT = (
        "VM entry blocks NMIs and never unblocks them: a blocking that no IRET has ended is still "
        "there for the next guest (vmx.cc VMenterLoadCheckGuestState; mended in 2.8)"
    )
    PML_OFFSET_LOGGED = (
        "an entry of the page-modification log keeps bits 11:0 "
        "(vmexit.cc vmx_page_modification_logging)"
    )
    LARGE_BIT_12_IGNORED = (
        "bit 12 of a 2-MByte or 1-GByte leaf is cleared before the reserved bits are looked at "
        "(translate_guest_physical)"
    )
    IMPLICIT_LIFTED_BY_AC = (
        "RFLAGS.AC lifts SMAP for implicit supervisor accesses too, at any CPL "
        "(check_leaf_entry_faults, once in each translate_linear_*)"
    )
    KEYS_BY_ACCESS = (
        "protection keys go by the mode of the access, not by the page's U/S: PKRU counts for "
        "every access (its access-disable bits for user mode's), IA32_PKRS for a supervisor's "
        "(handle_pkeys)"
    )
    LINEAR_ON_MISCONFIG = "the guest-linear address is written for a misconfiguration too"


@dataclass(frozen=True)
class Hardware:
    """A processor: the SDM's, less its named deviations.  `eptp` is what VM entry checks of it."""

    name: str
    deviations: frozenset[Deviation] = frozenset()
    eptp: EptpRule = SDM_EPTP

    def __contains__(self, deviation: Deviation) -> bool:
        return deviation in self.deviations


SDM = Hardware("sdm")
_BOCHS_EPTP = EptpRule(
    reserved_from=8,
    withheld=EptVpidCap.walk_length_5.mask,
    unasked=EptVpidCap.build(walk_length_4=1, memory_type_uc=1, memory_type_wb=1),
    source="bochs/cpu/vmx.cc is_eptptr_valid()",
)
_ONLY_2_7 = {Deviation.PML_OFFSET_LOGGED, Deviation.NMI_BLOCKING_KEPT}
#: The 2.7 of the lab has no mode-based execute control and no protection keys; its sub-page
#: permissions are other ones, and not run.
_ONLY_3_0 = {
    Deviation.USER_EXECUTE_IN_BIT_13,
    Deviation.SPP_NEEDS_READ,
    Deviation.KEYS_BY_ACCESS,
}
BOCHS = Hardware("bochs-2.7", frozenset(Deviation) - _ONLY_3_0, _BOCHS_EPTP)
BOCHS_3 = Hardware("bochs-3.0", frozenset(Deviation) - _ONLY_2_7, _BOCHS_EPTP)
#: By the version.
BOCHSES = {each.name.partition("-")[2]: each for each in (BOCHS, BOCHS_3)}


@dataclass(frozen=True)
class Case(Generic[Out]):
    """One access, its finished walk, and what is in force."""

    walk: Walk[L2Phys, Out]
    access: Access
    eptp: Eptp
    cpu: Capabilities
    controls: Controls
    hardware: Hardware

    @property
    def leaf(self) -> EptEntry:
        """The last entry read: the leaf, or the one where the walk stopped."""
        return self.walk.steps[-1].entry if self.walk.steps else EptEntry(0)

    @property
    def complete(self) -> bool:
        return self.walk.stop is None

    @property
    def needed(self) -> int:
        """The kind of the access as bits 2:0: the rights it needs (31.3.3.2)."""
        access = self.access
        if access.stage is Stage.PDPTE:
            return READ
        if access.stage is Stage.WALK:
            if self.eptp.accessed_dirty:
                return READ | WRITE
            updates = access.op in (Op.WRITE, Op.RMW)  # of A/D flags; an entry is never fetched
            if not updates or Deviation.WALK_UPDATE_UNCHECKED in self.hardware:
                return READ
            return READ | WRITE
        return NEEDS[access.op]

    @property
    def allowed(self) -> int:
        """Bits 2:0: the kinds of access that the entries on the path allow together."""
        rights, access = self.walk.rights, self.access
        kinds = rights.value & KIND  # R, W and X stand where their kinds do
        if self.cpu.mbec and self.user:
            kinds = kinds & ~FETCH | (FETCH if rights.user_execute else 0)
        if self.shadow_stack_rules:
            if not (kinds & READ and self._tables.write and self.leaf.supervisor_shadow_stack):
                return kinds & FETCH
            return kinds | READ | WRITE
        if self.cpu.paging_write and access.stage is Stage.WALK and self.leaf.paging_write:
            return kinds & ~WRITE | (WRITE if self._tables.write else 0)
        return kinds

    @property
    def user(self) -> bool:
        """Whether the linear address is a user-mode one: with CR0.PG clear, each is (31.3.3.2)."""
        return self.access.user or self.access.unpaged

    @property
    def on_shadow_stack(self) -> bool:
        """Whether it is a shadow-stack access: one of a page walk for it is none."""
        return self.access.shadow_stack and self.access.stage is Stage.FINAL

    @property
    def shadow_stack_rules(self) -> bool:
        """Whether rights are those of supervisor shadow-stack pages (31.3.3.2)."""
        return bool(self.on_shadow_stack and self.eptp.shadow_stack and not self.access.user)

    @property
    def no_linear_address(self) -> bool | None:
        """Whether bit 7 of the qualification is 0 (table 30-7); None if that is not known: of an
        asynchronous access of which the linear address is not told."""
        if self.access.stage is Stage.PDPTE:
            return True
        return None if self.access.asynchronous and self.access.gla is None else False

    @property
    def nmi_unblocking_told(self) -> bool:
        """Whether bit 12 of the qualification is defined (30.2.3)."""
        controls = self.controls
        exits_for_good = controls.nmi_exiting and not controls.virtual_nmis
        return not (self.access.event_delivery or exits_for_good)

    @property
    def _tables(self) -> EptEntry:
        """The AND of the entries that reference another structure."""
        value = ALL_BITS
        for step in self.walk.steps[:-1]:
            value &= step.entry.value
        return EptEntry(value)

    @property
    def unverified(self) -> bool:
        """Whether guest-paging verification refuses the access; it needs both controls."""
        return bool(
            self.cpu.verify_guest_paging
            and self.cpu.paging_write
            and self.access.stage is Stage.FINAL
            and self.leaf.verify_guest_paging
            and not self.access.paging_verified
        )


NEEDS = {Op.READ: READ, Op.WRITE: WRITE, Op.FETCH: FETCH, Op.RMW: READ | WRITE}
