# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers that decide how L2 translates linear addresses, and where each comes from.

While L2 is active KVM keeps its own copies of CR0, CR3, CR4 and EFER in kvm_vcpu_arch, some of them
older than what is in the processor's VMCS; after an exit to L1 they are in vmcs12, as far as the
controls in force had them loaded or saved (kvm/guest_state.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gdb_nept.address import L1Phys, L2Phys
from gdb_nept.arch.paging import PAGING_PAE
from gdb_nept.errors import MemberMissing, MemoryUnreadable, NoGuest
from gdb_nept.kvm.authority import Authority
from gdb_nept.kvm.guest_state import holds, kept
from gdb_nept.kvm.loaded import has_pages_1g
from gdb_nept.kvm.vcpu import Vcpu, pdptrs_cached
from gdb_nept.kvm.vmcs12 import Vmcs12
from gdb_nept.memory.reader import read_u64
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.walk.ept import walk_ept
from gdb_nept.walk.guest_entry import refusal
from gdb_nept.walk.guest_paging import ALIGNMENT_CHECK, Cr0, Cr4, Efer, GuestPaging

NAMES = {
    "cr0": "guest_cr0",
    "cr3": "guest_cr3",
    "cr4": "guest_cr4",
    "efer": "guest_ia32_efer",
    "rflags": "guest_rflags",
}
PDPTRS = 4
INTERCEPTED = ("cr0", "cr4", "efer")  # KVM sees each change that paging hangs on (Vcpu.pae)
CS_LONG, CS_DEFAULT_BIG = 1 << 13, 1 << 14  # of the access rights (table 27-2)


@dataclass(frozen=True)
class GuestRegister:
    """`doubt` says why the number may not be the true one; '' if it is.  `harmless`: where an
    address leads does not hang on what may be wrong."""

    name: str
    number: int
    origin: str
    doubt: str = ""
    harmless: bool = False


@dataclass(frozen=True)
class GuestRegisters:
    """What decides how L2's linear addresses translate, and where each number is from."""

    paging: GuestPaging
    registers: tuple[GuestRegister, ...]
    lost: tuple[str, ...] = ()  # what this kernel has no member for

    @property
    def doubts(self) -> tuple[str, ...]:
        """Each doubt once, with the registers that it is about; and what cannot be read."""
        reasons = dict.fromkeys(one.doubt for one in self.registers if one.doubt)
        named = (f"{self._named(reason)}: {reason}" for reason in reasons)
        return (*named, *(f"registers: not known: {each}" for each in self.lost))

    @property
    def translation_doubt(self) -> str:
        """Why L2's page tables may be others than `paging` says; '' if they are these.  What KVM
        may hold older copies of, in CR0 and CR4, has no part in where an address leads."""
        doubts = (one.doubt for one in self.registers if one.doubt and not one.harmless)
        return next(doubts, "")

    def refusal(self, user: bool = False) -> str:
        """Why VM entry refuses L2 with these, at CPL 3 if `user`; '' if it does not, or where they
        may not be L2's."""
        return "" if self.translation_doubt else refusal(self.paging, user)

    def _named(self, doubt: str) -> str:
        return ", ".join(one.name for one in self.registers if one.doubt == doubt)


def guest_registers(session: Session, chosen: Chosen) -> GuestRegisters:
    """L2's paging registers.  Raises NoGuest where L1 has loaded no VMCS."""
    vmcs12, vcpu = session.vmcs12(chosen), chosen.vcpu
    found = {name: _register(vcpu, vmcs12, name) for name in NAMES}
    if vcpu.capabilities is None:
        raise NoGuest("the vCPU has no nested state")
    paging = GuestPaging(
        cr0=Cr0(found["cr0"].number),
        cr3=found["cr3"].number,
        cr4=Cr4(found["cr4"].number),
        efer=Efer(found["efer"].number),
        maxphyaddr=vcpu.capabilities.maxphyaddr,
        pdptrs=_pdptrs(vcpu, vmcs12),
        ac=bool(found["rflags"].number & ALIGNMENT_CHECK),
        pages_1g=has_pages_1g(session.kernel) is not False,
    )
    loaded = _loaded(session, chosen, paging)
    if loaded is not None:
        return GuestRegisters(loaded.paging, (*found.values(), *loaded.registers), vcpu.lost)
    return GuestRegisters(paging, tuple(found.values()), vcpu.lost)


def _register(vcpu: Vcpu, vmcs12: Vmcs12, name: str) -> GuestRegister:
    """From the vCPU if L2 is active and KVM has it, else from vmcs12."""
    live = vcpu.register(name) if vmcs12.situation.l2_active else None
    if live is not None:
        doubt = live.why or _between(vcpu)
        harmless = name in INTERCEPTED and doubt == live.why
        return GuestRegister(name, live.number, f"kvm_vcpu_arch.{name}", doubt, harmless)
    if name == "efer" and not vmcs12.situation.l2_active and _is_l1s(vmcs12):
        return _efer_of_l1(vcpu, vmcs12)
    field = vmcs12.field(NAMES[name])
    # what L1 has written since an exit is for the next entry: it did not translate for the last
    left = not vmcs12.situation.l2_active and field.authority is Authority.MAYBE_STALE
    harmless = left or name == "rflags"
    return GuestRegister(name, field.value, f"vmcs12.{field.name}", field.doubt, harmless)


def _between(vcpu: Vcpu) -> str:
    """In the middle of a nested VM entry or exit KVM's copies are of neither for sure."""
    return vcpu.nested.disagreement if vcpu.nested else ""


def _is_l1s(vmcs12: Vmcs12) -> bool:
    """Whether L2 runs with L1's EFER: vmcs12 neither loads nor saves one."""
    now = vmcs12.situation.controls
    row = kept("guest_ia32_efer", vmcs12.situation.writes)
    return row is not None and holds(row.loaded, now) is False and holds(row.if_, now) is False


def _efer_of_l1(vcpu: Vcpu, vmcs12: Vmcs12) -> GuestRegister:
    """nested_vmx_calc_efer(), vmx/nested.c; L1's own is in kvm_vcpu_arch while L1 runs.  L1's list
    of MSRs to load at VM entry may give L2 another."""
    own = vcpu.register("efer")
    if own is None:
        raise NoGuest("the vCPU's EFER cannot be read")
    mode = Efer.long_mode.mask | Efer.long_mode_active.mask
    number = own.number | mode if vmcs12.entry.ia32e_guest else own.number & ~mode
    count = vmcs12.number("vm_entry_msr_load_count")
    doubt = own.why
    if count:
        doubt = f"L1 has {count} MSRs loaded at VM entry: that list is not looked at here"
    origin = (
        "L1's (kvm_vcpu_arch.efer), LMA and LME by VM-entry control bit 9: vmcs12 neither loads "
        "nor saves L2's (nested_vmx_calc_efer())"
    )
    return GuestRegister("efer", number, origin, doubt)


def _pdptrs(vcpu: Vcpu, vmcs12: Vmcs12) -> tuple[int, ...]:
    """Of use with PAE paging alone: arch.pdptrs since 7.2, before in the MMU that walks for L2.
    None where they are in vmcs02 alone."""
    if not vmcs12.situation.l2_active:
        return tuple(vmcs12.number(f"guest_pdptr{place}") for place in range(PDPTRS))
    arch = vcpu.value.member("arch")
    try:
        if not pdptrs_cached(vcpu):
            return ()
        array = arch if arch.has("pdptrs") else arch.member("walk_mmu").deref()
        return tuple(array.member("pdptrs").index(place).number() for place in range(PDPTRS))
    except (MemberMissing, MemoryUnreadable):
        return ()


def _loaded(session: Session, chosen: Chosen, paging: GuestPaging) -> GuestRegisters | None:
    """With the table that CR3 points to, where KVM has not read PDPTE registers."""
    if paging.mode is not PAGING_PAE or paging.pdptrs:
        return None
    why = (
        "in the loaded VMCS: the table that CR3 points to is taken for them, from which L2's last "
        "MOV CR3 has loaded them"
    )
    found = GuestRegister("pdptrs", paging.root, "the table at this L2 physical address", why)
    return GuestRegisters(
        replace(paging, pdptrs=pdptes_in_memory(session, chosen, paging.root)), (found,)
    )


def pdptes_in_memory(session: Session, chosen: Chosen, place: L2Phys) -> tuple[int, ...]:
    """The four entries of the table at CR3, through EPT12; none where it does not lead to them any
    more."""
    try:
        ept, memory = session.ept(chosen, Which.L1), session.l1_memory(chosen)
        where = walk_ept(memory, ept.eptp, place, ept.cpu).address
        if where is None:
            return ()
        return tuple(read_u64(memory, L1Phys(where + 8 * number)) for number in range(PDPTRS))
    except (NoGuest, MemoryUnreadable):
        return ()


def code_bits(session: Session, chosen: Chosen, of_l1: bool = False) -> int:
    """How wide L2's code is: 64, 32 or 16 bits, by EFER.LMA and CS.L and CS.D (SDM vol. 3, 5.2.1).
    Raises NoGuest where there is no L2; code `of_l1` is 64 bits wide then."""
    try:
        vmcs12 = session.vmcs12(chosen)
    except NoGuest:
        if of_l1:
            return 64
        raise
    rights = vmcs12.number("guest_cs_ar_bytes")
    efer = _register(chosen.vcpu, vmcs12, "efer").number
    if Efer(efer).long_mode_active and rights & CS_LONG:
        return 64
    return 32 if rights & CS_DEFAULT_BIG else 16
