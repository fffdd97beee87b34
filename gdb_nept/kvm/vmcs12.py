# SPDX-License-Identifier: GPL-2.0-or-later
"""vmcs12: the VMCS that L1 made for L2, as KVM keeps it.

While a vmcs12 is loaded, `nested.cached_vmcs12` is the vmcs12; the page that L1 named by VMPTRLD is
written back only when L1 gives the VMCS up.  But not every field of the cache is current at every
moment: kvm/authority.py.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from functools import cached_property

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
from gdb_nept.kvm.authority import CURRENT, NOT_OFFERED, Authority, Situation, judge
from gdb_nept.kvm.guest_state import InForce, is_pae
from gdb_nept.kvm.nested_vmx import Nested
from gdb_nept.kvm.vmcs12_layout import Layout, Place, built_in, layout_of, number_at
from gdb_nept.target.ports import Kernel

VMCS12_SIZE = 4096
SHADOW_INDICATOR = 1 << 31


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

    @property
    def doubt(self) -> str:
        """Why the value may not be the true one just now; '' if it is."""
        return "" if self.authority in CURRENT else f"{self.authority.value}: {self.why}"


@dataclass(frozen=True)
class Vmcs12:
    """A decoded vmcs12: a field is taken from `data`, and judged, when it is asked for.
    `problems` tell what makes it doubtful."""

    address: KernelVirt | None
    pointer: L1Phys | None
    layout: Layout
    situation: Situation
    revision: int
    launched: bool
    data: bytes = dataclasses.field(repr=False)
    problems: tuple[str, ...]

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All, in the order of memory."""
        return tuple(map(self._field, self.layout.places))

    def _field(self, place: Place) -> Field:
        offered = not self.situation.loaded or place.name not in self.layout.not_offered
        found = judge(place.name, self.situation) if offered else NOT_OFFERED
        return Field(
            name=place.name,
            encoding=place.encoding,
            offset=place.offset,
            size=place.size,
            value=place.value_in(self.data),
            authority=found.authority,
            why=found.why,
        )

    def find(self, name: str) -> Field | None:
        """By KVM's name ('ept_pointer'), the SDM's ('EPT pointer'), or the encoding ('0x201a')."""
        wanted = name.strip().lower()
        place = self.layout.place(wanted)
        if place is not None:
            return self._field(place)
        for each in self.fields:
            encoding = "" if each.encoding is None else hex(each.encoding)
            if wanted in (each.sdm_name.lower(), encoding):
                return each
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
        """The value of a field, by KVM's name.  Raises NoGuest if this kernel's vmcs12 has no such
        field."""
        place = self.layout.place(name)
        return place.value_in(self.data) if place else self.field(name).value

    @property
    def pin(self) -> PinControls:
        return PinControls(self.number("pin_based_vm_exec_control"))

    @property
    def primary(self) -> PrimaryControls:
        return PrimaryControls(self.number("cpu_based_vm_exec_control"))

    @property
    def secondary(self) -> SecondaryControls:
        """The secondary controls in force: none unless the primary ones activate them.  Where the
        primary ones may be older than what L1 has written, they are taken to (`assumed`)."""
        active = self.primary.secondary_controls or self.assumed
        return SecondaryControls(self.number("secondary_vm_exec_control") if active else 0)

    @property
    def assumed(self) -> str:
        """That the secondary controls are taken as activated, and why; '' if the primary controls
        decide.  Primary controls are in the hardware shadow VMCS that L1 writes, and secondary
        ones are not (vmx/vmcs_shadow_fields.h)."""
        if self.primary.secondary_controls:
            return ""
        primary = self.field("cpu_based_vm_exec_control")
        if primary.authority is not Authority.MAYBE_STALE:
            return ""
        return (
            f"the primary controls in KVM's cache, {primary.value:#x}, do not activate the "
            f"secondary ones, but are maybe stale: {primary.why}; taken as if they did"
        )

    @property
    def caveats(self) -> tuple[str, ...]:
        """What there is to say before EPT12 is taken from this vmcs12."""
        fields = [self.find(name) for name in ("secondary_vm_exec_control", "ept_pointer")]
        told: dict[str, list[str]] = {}
        for field in fields:
            if field is not None and field.authority is not Authority.AUTHORITATIVE:
                told.setdefault(f"{field.authority.value}: {field.why}", []).append(field.name)
        doubts = tuple(f"{' and '.join(names)}: {why}" for why, names in told.items())
        return (self.assumed, *doubts) if self.assumed and self.secondary.ept else doubts

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

    @property
    def pae(self) -> bool | None:
        """Whether L2 uses PAE paging, and so loads PDPTE registers; None if that is not known."""
        return None if self.situation.controls is None else self.situation.controls.pae


def read_vmcs12(
    kernel: Kernel, nested: Nested, layout: Layout | None = None, pae: bool | None = None
) -> Vmcs12:
    """The vmcs12 in KVM's cache; `layout` is this kernel's, where that is known already, and `pae`
    whether who runs on the vCPU uses PAE paging.

    Raises NoGuest if the vCPU has none (no VMXON), MemoryUnreadable, and NeptError if the layout
    is unknown.
    """
    address = nested.cached_vmcs12
    if address is None:
        advice = "L1 has executed no VMXON." if not nested.vmxon else "Perhaps it is just entering."
        raise NoGuest("the vCPU has no cached vmcs12", advice)
    layout = layout or layout_of(kernel, lambda: kernel.read(address, VMCS12_SIZE))
    data = kernel.read(address, layout.size)
    return decode(data, layout, situation_of(nested), address, nested, pae)


def situation_of(nested: Nested) -> Situation:
    """What decides about the fields, as it is read from `nested`."""
    evmcs = nested.evmcs_state == "valid"
    return Situation(
        loaded=nested.has_vmcs12,
        l2_active=nested.l2_active,
        run_pending=nested.run_pending,
        rare_sync_pending=nested.rare_sync_pending,
        shadowing=nested.shadow.address is not None and not evmcs,
        newer_in_cache=nested.shadow.newer_in_cache,
        evmcs=evmcs,
        writes=nested.writes,
    )


def decode(
    data: bytes,
    layout: Layout,
    situation: Situation,
    address: KernelVirt | None = None,
    nested: Nested | None = None,
    pae: bool | None = None,
) -> Vmcs12:
    """The vmcs12 whose bytes are `data`, at least `layout.size` of them."""
    situation = replace(situation, controls=controls_in(data, layout, situation, pae))
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
        launched=bool(int.from_bytes(data[8:12], "little")),
        data=data,
        problems=tuple(problems),
    )


def _maybe_stale(name: str, situation: Situation) -> bool:
    return judge(name, situation).authority is Authority.MAYBE_STALE


def controls_in(
    data: bytes, layout: Layout, situation: Situation, pae: bool | None = None
) -> InForce:
    """The controls of this vmcs12.  `pae`, of the vCPU, is L2's while L2 runs; after an exit
    vmcs12 itself tells: KVM has written CR0, CR4 and the IA-32e mode bit back."""

    def number(name: str) -> int:
        return number_at(layout, data, name)

    primary = PrimaryControls(number("cpu_based_vm_exec_control"))
    active = primary.secondary_controls or _maybe_stale("cpu_based_vm_exec_control", situation)
    entry = EntryControls(number("vm_entry_controls"))
    if not situation.l2_active:
        pae = is_pae(number("guest_cr0"), number("guest_cr4"), bool(entry.ia32e_guest))
    return InForce(
        PinControls(number("pin_based_vm_exec_control")),
        SecondaryControls(number("secondary_vm_exec_control") if active else 0),
        ExitControls(number("vm_exit_controls")),
        entry,
        pae,
    )
