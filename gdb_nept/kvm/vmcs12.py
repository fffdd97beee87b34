# SPDX-License-Identifier: GPL-2.0-or-later
"""vmcs12: the VMCS that L1 made for L2, as KVM keeps it.

While a vmcs12 is loaded, `nested.cached_vmcs12` is the vmcs12; the page that L1 named by VMPTRLD is
written back only when L1 gives the VMCS up.  But not every field of the cache is current at every
moment: arch/x86/kvm/vmx/nested.c, sync_vmcs02_to_vmcs12(), copy_shadow_to_vmcs12(),
vmx_get_nested_state() (which states the rules in a comment).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gdb_nept.address import KernelVirt, L1Phys
from gdb_nept.arch.controls import (
    EntryControls,
    ExitControls,
    PinControls,
    PrimaryControls,
    SecondaryControls,
)
from gdb_nept.arch.ept import Eptp
from gdb_nept.arch.vmcs import field_name
from gdb_nept.errors import NoGuest
from gdb_nept.kvm.nested_vmx import Nested
from gdb_nept.kvm.vmcs12_layout import Layout, Place, built_in, known_field, layout_of
from gdb_nept.target.ports import Kernel

VMCS12_SIZE = 4096
SHADOW_INDICATOR = 1 << 31


class Authority(Enum):
    """How far the cached value of a field can be trusted just now."""

    AUTHORITATIVE = "authoritative"
    STALE = "stale"
    MAYBE_STALE = "maybe stale"
    LAST_EXIT = "last exit"  # exit information: right, and about the last exit that L1 saw


@dataclass(frozen=True)
class Judgement:
    authority: Authority
    why: str


@dataclass(frozen=True)
class Situation:
    """What decides about the fields: read from Nested, and apart from it for tests."""

    loaded: bool
    l2_active: bool
    run_pending: bool = False
    rare_sync_pending: bool = False
    shadowing: bool = False  # L1 has a hardware shadow VMCS
    newer_in_cache: bool = False  # the cache waits to be copied to the shadow VMCS or eVMCS
    evmcs: bool = False


@dataclass(frozen=True)
class Field:
    """One field.  `name` is KVM's; `encoding` is None for a member unknown to this project."""

    name: str
    encoding: int | None
    offset: int
    size: int
    value: int
    authority: Authority
    why: str

    @property
    def sdm_name(self) -> str:
        return self.name if self.encoding is None else field_name(self.encoding)


@dataclass(frozen=True)
class Vmcs12:
    """A decoded vmcs12; `problems` tell what makes it doubtful."""

    address: KernelVirt | None
    pointer: L1Phys | None
    layout: Layout
    situation: Situation
    revision: int
    shadow_indicator: bool
    abort: int
    launched: bool
    fields: tuple[Field, ...]
    problems: tuple[str, ...]

    def find(self, name: str) -> Field | None:
        """By KVM's name ('ept_pointer'), the SDM's ('EPT pointer'), or the encoding ('0x201a')."""
        wanted = name.strip().lower()
        for field in self.fields:
            encoding = "" if field.encoding is None else hex(field.encoding)
            if wanted in (field.name, field.sdm_name.lower(), encoding):
                return field
        return None

    def field(self, name: str) -> Field:
        """As find(); raises NoGuest if this kernel's vmcs12 has no such field."""
        found = self.find(name)
        if found is None:
            raise NoGuest(
                f"this kernel's vmcs12 has no field '{name}'", f"Layout: {self.layout.origin}."
            )
        return found

    def number(self, name: str) -> int:
        """The value of a field; 0 if this kernel's vmcs12 has none of that name."""
        found = self.find(name)
        return found.value if found else 0

    @property
    def pin(self) -> PinControls:
        return PinControls(self.number("pin_based_vm_exec_control"))

    @property
    def primary(self) -> PrimaryControls:
        return PrimaryControls(self.number("cpu_based_vm_exec_control"))

    @property
    def secondary(self) -> SecondaryControls:
        """The secondary controls in force: none unless the primary ones activate them."""
        active = self.primary.secondary_controls
        return SecondaryControls(self.number("secondary_vm_exec_control") if active else 0)

    @property
    def exit(self) -> ExitControls:
        return ExitControls(self.number("vm_exit_controls"))

    @property
    def entry(self) -> EntryControls:
        return EntryControls(self.number("vm_entry_controls"))

    @property
    def eptp(self) -> Eptp:
        """EPTP12.  Always current for a loaded vmcs12, VMFUNC's EPTP switching included."""
        return Eptp(self.number("ept_pointer"))

    @property
    def ept_enabled(self) -> bool:
        return bool(self.secondary.ept)


def read_vmcs12(kernel: Kernel, nested: Nested, layout: Layout | None = None) -> Vmcs12:
    """The vmcs12 in KVM's cache; `layout` is this kernel's, where that is known already.

    Raises NoGuest if the vCPU has none (no VMXON), MemoryUnreadable, and NeptError if the layout
    is unknown.
    """
    address = nested.cached_vmcs12
    if address is None:
        advice = "L1 has executed no VMXON." if not nested.vmxon else "Perhaps it is just entering."
        raise NoGuest("the vCPU has no cached vmcs12", advice)
    layout = layout or layout_of(kernel, lambda: kernel.read(address, VMCS12_SIZE))
    data = kernel.read(address, layout.size)
    return decode(data, layout, situation_of(nested), address, nested)


def situation_of(nested: Nested) -> Situation:
    evmcs = nested.evmcs_state == "valid"
    return Situation(
        loaded=nested.has_vmcs12,
        l2_active=nested.l2_active,
        run_pending=nested.run_pending,
        rare_sync_pending=nested.rare_sync_pending,
        shadowing=nested.shadow.address is not None and not evmcs,
        newer_in_cache=nested.shadow.newer_in_cache,
        evmcs=evmcs,
    )


def decode(
    data: bytes,
    layout: Layout,
    situation: Situation,
    address: KernelVirt | None = None,
    nested: Nested | None = None,
) -> Vmcs12:
    """The vmcs12 whose bytes are `data`, at least `layout.size` of them."""
    head = int.from_bytes(data[0:4], "little")
    revision = head & ~SHADOW_INDICATOR
    problems = []
    expected = built_in().revision
    if revision != expected:
        problems.append(f"revision identifier {revision:#x} is not {expected:#x} (VMCS12_REVISION)")
    if not situation.loaded:
        problems.append("no vmcs12 is loaded: the cache holds what was loaded last, if anything")
    return Vmcs12(
        address=address,
        pointer=nested.current_vmptr if nested else None,
        layout=layout,
        situation=situation,
        revision=revision,
        shadow_indicator=bool(head & SHADOW_INDICATOR),
        abort=int.from_bytes(data[4:8], "little"),
        launched=bool(int.from_bytes(data[8:12], "little")),
        fields=tuple(
            _field(place, data, situation, place.name in layout.not_offered)
            for place in layout.places
        ),
        problems=tuple(problems),
    )


def _field(place: Place, data: bytes, situation: Situation, not_offered: bool) -> Field:
    value = int.from_bytes(data[place.offset : place.offset + place.size], "little")
    found = NOT_OFFERED if not_offered and situation.loaded else judge(place.name, situation)
    return Field(
        place.name, place.encoding, place.offset, place.size, value, found.authority, found.why
    )


def judge(name: str, now: Situation) -> Judgement:
    """Whether the cached value of field `name` is the true one just now."""
    known = known_field(name)
    if not now.loaded:
        return Judgement(Authority.STALE, "no vmcs12 is loaded")
    if known is None:
        return Judgement(Authority.MAYBE_STALE, "a field that this program does not know")
    if known.keeper in WRITTEN_AT:
        return Judgement(Authority.LAST_EXIT, WRITTEN_AT[known.keeper])
    if now.l2_active:
        return _while_l2_runs(known.keeper, now.run_pending)
    return _while_l1_runs(known.keeper, known.shadowed, now)


#: Fields that report: when KVM writes them.
WRITTEN_AT = {
    "exit": "written at the last exit to L1",
    "ept-exit": "written at the last exit to L1 because of EPT, whatever exits came since",
    "vmfail": "written when a VMX instruction of L1's failed last",
}
OWN = Judgement(Authority.AUTHORITATIVE, "L1 alone writes it")
NOT_OFFERED = Judgement(
    Authority.AUTHORITATIVE, "L1 cannot access it: KVM does not offer it on this processor"
)
SHARED = Judgement(
    Authority.AUTHORITATIVE, "L1 writes it, and KVM changes it here as hardware would"
)
IN_VMCS02 = Judgement(Authority.STALE, "L2 runs: the value is in vmcs02; this is the last entry's")


def _while_l2_runs(keeper: str, run_pending: bool) -> Judgement:
    if keeper in ("guest", "rare"):
        if run_pending:
            return Judgement(Authority.AUTHORITATIVE, "VM entry is pending: L2 has not run with it")
        return IN_VMCS02
    if keeper == "msr":
        why = "KVM updates it when it intercepts L2's WRMSR"
        return Judgement(Authority.MAYBE_STALE, why)
    if keeper == "entry":
        why = "L1 alone writes it, but for bit 9 (IA-32e mode guest): the last entry's"
        return Judgement(Authority.AUTHORITATIVE, why)
    return SHARED if keeper == "kvm" else OWN


def _while_l1_runs(keeper: str, shadowed: str, now: Situation) -> Judgement:
    if now.evmcs and not now.newer_in_cache:
        why = "L1 writes its enlightened VMCS; KVM reads it at the next VM entry"
        return Judgement(Authority.MAYBE_STALE, why)
    if keeper == "rare" and now.rare_sync_pending:
        why = "put off (need_sync_vmcs02_to_vmcs12_rare): still only in vmcs02"
        return Judgement(Authority.STALE, why)
    if shadowed == "rw" and now.shadowing and not now.newer_in_cache:
        why = "L1's newest VMWRITE may be only in the hardware shadow VMCS until the next VM entry"
        return Judgement(Authority.MAYBE_STALE, why)
    if keeper in ("guest", "rare"):
        return Judgement(Authority.AUTHORITATIVE, "refreshed from vmcs02 at the last exit to L1")
    return SHARED if keeper == "kvm" else OWN
