# SPDX-License-Identifier: GPL-2.0-or-later
"""Where each field lies in struct vmcs12 of the kernel at hand.

Three sources, best first: the type itself; the table by which KVM's own VMREAD finds a field, out
of kvm-intel.ko; the layouts built in (data/vmcs12.json).  All layouts carry one revision
identifier, so it cannot tell them apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from typing import Callable

from gdb_nept.address import KernelVirt
from gdb_nept.arch.controls import EntryControls, PinControls
from gdb_nept.arch.vmcs import Encoding
from gdb_nept.errors import NeptError, TypeMissing
from gdb_nept.kvm.variables import variable_address
from gdb_nept.target.ports import CType, Kernel

HEADER = ("hdr", "revision_id", "abort", "launch_state", "padding", "padding64", "paddingl")
NO_FIELDS = (*HEADER, "padding32", "dead_space", "shadow_vmcs")
MAX_OFFSET = 4096  # VMCS12_SIZE
FIRST_OFFSET = 40  # below are the header and padding, in every layout
PLAUSIBLE_FIELDS = 120  # the smallest layout has 137


@dataclass(frozen=True)
class Place:
    """One field.  `encoding` is None for a member that this project does not know yet."""

    name: str
    encoding: int | None
    offset: int
    size: int

    def value_in(self, data: bytes) -> int:
        """Of the field, in the bytes of a vmcs12."""
        return int.from_bytes(data[self.offset : self.offset + self.size], "little")


@dataclass(frozen=True)
class Layout:
    """All fields, in the order of memory.  `origin` tells where the layout comes from.

    `not_offered` are the fields to which L1's VMREAD and VMWRITE fail."""

    origin: str
    size: int
    places: tuple[Place, ...]
    not_offered: frozenset[str] = frozenset()

    @cached_property
    def _named(self) -> dict[str, Place]:
        return {place.name: place for place in self.places}

    def place(self, name: str) -> Place | None:
        return self._named.get(name)


@dataclass(frozen=True)
class Known:
    """What the project knows of a field whatever the kernel: a row of data/vmcs12.json."""

    name: str
    encoding: int
    offset: int
    keeper: str
    shadowed: str

    @property
    def size(self) -> int:
        return Encoding(self.encoding).size


@dataclass(frozen=True)
class OddLayout:
    """A layout that put fields in between: 4.12, and 4.14 to 4.15."""

    name: str
    size: int
    moved: tuple[tuple[int, int], ...]  # from this common offset on: this many bytes further
    inserted: dict[str, int]
    absent: frozenset[str]

    def offset(self, field: Known) -> int:
        if field.name in self.inserted:
            return self.inserted[field.name]
        shifts = [shift for start, shift in self.moved if field.offset >= start]
        return field.offset + (shifts[-1] if shifts else 0)


@dataclass(frozen=True)
class BuiltIn:
    """data/vmcs12.json: the layout of today, and how that of odd releases departs from it."""

    revision: int
    size: int
    fields: tuple[Known, ...]
    odd: tuple[OddLayout, ...]


@cache
def built_in() -> BuiltIn:
    """The project's own table, read on first use."""
    package = resources.files("gdb_nept")
    data = json.loads((package / "data" / "vmcs12.json").read_text("utf-8"))
    fields = (Known(row[0], int(row[1], 16), *row[2:]) for row in data["fields"])
    odd = (
        OddLayout(
            name,
            row["size"],
            tuple((start, shift) for start, shift in row["moved"]),
            row["inserted"],
            frozenset(row["absent"]),
        )
        for name, row in data["odd_layouts"].items()
    )
    return BuiltIn(int(data["revision"], 16), data["size"], tuple(fields), tuple(odd))


@cache
def known_field(name: str) -> Known | None:
    return next((field for field in built_in().fields if field.name == name), None)


def layout_of(kernel: Kernel, sample: Callable[[], bytes]) -> Layout:
    """The layout in force.  `sample()` reads a whole vmcs12, and is called only if no better
    source is there and the built-in layouts must be told apart by what they hold.

    Raises NeptError if no source knows, and what `sample` raises.
    """
    table = from_table(kernel)
    try:
        found = from_type(kernel.types.struct("vmcs12", "kvm_intel"))
    except TypeMissing:
        return table or by_content(sample())
    if not _within_a_page(found):  # the type is damaged
        return table or by_content(sample())
    return replace(found, not_offered=_lacking(found, table)) if table else found


def _within_a_page(layout: Layout) -> bool:
    """Whether it is one of a page, VMCS12_SIZE, with every field within it."""
    last = max((place.offset + place.size for place in layout.places), default=0)
    return last <= layout.size <= MAX_OFFSET


def _lacking(layout: Layout, table: Layout) -> frozenset[str]:
    """The fields that KVM's table has not, though vmcs12 has a place for them.  Since 7.1 the table
    is filled by what the processor has (vmx/vmcs12.c, nested_vmx_setup_vmcs12_fields())."""
    offered = {place.name for place in table.places}
    known = (place.name for place in layout.places if place.encoding is not None)
    return frozenset(name for name in known if name not in offered)


def from_type(struct: CType) -> Layout:
    """The layout as the type struct vmcs12 has it."""
    names = struct.names() if struct.names else tuple(row.name for row in built_in().fields)
    places = []
    for name in names:
        if name in NO_FIELDS or not struct.has(name):
            continue
        member = struct.member(name)
        known = known_field(name)
        encoding = known.encoding if known else None
        places.append(Place(name, encoding, member.offset, member.type.size))
    return Layout("type struct vmcs12 of kvm_intel", struct.size, _in_order(places))


TABLES = ("vmcs12_field_offsets", "vmcs_field_to_offset_table")  # 5.17+, before


def rol16(value: int, count: int) -> int:
    return (value << count | value >> (16 - count)) & 0xFFFF


def from_table(kernel: Kernel) -> Layout | None:
    """The u16 table of kvm-intel.ko, by symbol alone: indexed by the encoding up to 4.17, by
    ROL16(encoding, 6) since 4.18; 0 where KVM has no such field.  None if there is no table."""
    for name in TABLES:
        address = variable_address(kernel, name, "kvm_intel")
        if address is None:
            continue
        for index in (_rotated, _plain):
            places = _table_places(kernel, address, index)
            if len(places) >= PLAUSIBLE_FIELDS:
                size = max(place.offset + place.size for place in places)
                return Layout(f"{name} of kvm_intel", size, _in_order(places))
    return None


def _rotated(encoding: int) -> int:
    return rol16(encoding, 6)


def _plain(encoding: int) -> int:
    return encoding


def _table_places(kernel: Kernel, table: KernelVirt, index: Callable[[int], int]) -> list[Place]:
    """The fields by this way of indexing; few or none if it is not this kernel's way.

    Places that overlap speak against it, so all of them are dropped.
    """
    places = []
    for field in built_in().fields:
        try:
            raw = kernel.read(KernelVirt(table + 2 * index(field.encoding)), 2)
        except NeptError:
            continue  # the other way of indexing leads far beyond the table's end
        offset = int.from_bytes(raw, "little")
        if FIRST_OFFSET <= offset <= MAX_OFFSET - field.size:
            places.append(Place(field.name, field.encoding, offset, field.size))
    ordered = sorted(places, key=lambda place: place.offset)
    clash = {
        name
        for low, high in zip(ordered, ordered[1:])
        if low.offset + low.size > high.offset
        for name in (low.name, high.name)
    }
    return [place for place in places if place.name not in clash]


def by_content(data: bytes) -> Layout:
    """The built-in layout in which this vmcs12 makes sense.

    The reserved bits of the pin-based and VM-entry controls that must be 1 show where those words
    lie.  Raises NeptError unless exactly one layout fits.
    """
    fitting = [layout for layout in built_in_layouts() if _fits(layout, data)]
    if len(fitting) == 1:
        return fitting[0]
    what = "no built-in layout fits" if not fitting else "more than one built-in layout fits"
    raise NeptError(
        f"the layout of struct vmcs12 is unknown: {what}",
        "Load the debug symbols of kvm-intel.ko (BTF or DWARF), or CONFIG_KALLSYMS_ALL.",
    )


def built_in_layouts() -> tuple[Layout, ...]:
    """The common layout, then the odd ones."""
    table = built_in()
    common = [Place(row.name, row.encoding, row.offset, row.size) for row in table.fields]
    layouts = [Layout("built in: 4.9, 4.10, 4.18 and later", table.size, _in_order(common))]
    for odd in table.odd:
        places = [
            Place(row.name, row.encoding, odd.offset(row), row.size)
            for row in table.fields
            if row.name not in odd.absent
        ]
        layouts.append(Layout(f"built in: {odd.name}", odd.size, _in_order(places)))
    return tuple(layouts)


def _fits(layout: Layout, data: bytes) -> bool:
    pin = PinControls(number_at(layout, data, "pin_based_vm_exec_control"))
    entry = EntryControls(number_at(layout, data, "vm_entry_controls"))
    return not pin.missing_default1 and not entry.missing_default1


def number_at(layout: Layout, data: bytes, name: str) -> int:
    """Field `name` of a vmcs12 whose bytes are `data`; 0 if the layout has no such field."""
    place = layout.place(name)
    return place.value_in(data) if place else 0


def _in_order(places: list[Place]) -> tuple[Place, ...]:
    return tuple(sorted(places, key=lambda place: place.offset))
