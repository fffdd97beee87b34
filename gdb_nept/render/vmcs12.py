# SPDX-License-Identifier: GPL-2.0-or-later
"""A vmcs12: what nept-vmcs12 answers.

JSON: pointer (L1 physical), address (L0 kernel virtual), revision, launched, l2_active, layout,
fields [name, sdm_name, encoding, group, value, size, authority, why, bits (null if the field is no
word of bits that we decode, else as in nept-decode)], problems [text], vmcss_cleared (of a dump:
whether the loaded VMCSs were cleared before it was taken; null if that is not known, or no dump of
a crash), notes [text], unread (null, or why KVM's copy cannot be read, and then there are no
fields: {what, kind}).
"""

from __future__ import annotations

from gdb_nept.arch.bits import Word
from gdb_nept.arch.controls import (
    EntryControls,
    ExitControls,
    PinControls,
    PrimaryControls,
    SecondaryControls,
)
from gdb_nept.arch.ept import Eptp
from gdb_nept.arch.exits import EPT_VIOLATION, EptViolation, ExitReason
from gdb_nept.arch.vmcs import Encoding
from gdb_nept.errors import MemoryUnreadable
from gdb_nept.kvm.dumped_vmcs import dumped_in_words
from gdb_nept.kvm.nested_vmx import Nested
from gdb_nept.kvm.vmcs12 import Field, Vmcs12
from gdb_nept.memory.taken import Vmcss
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Status, Table
from gdb_nept.render.word import word_fields, word_table

#: The groups of SDM vol. 3, 27.3 (June 2026), in its order; the last is for fields unknown to us.
GROUPS = (
    "Guest-state area",
    "Host-state area",
    "VM-execution control fields",
    "VM-exit control fields",
    "VM-entry control fields",
    "VM-exit information fields",
    "Not known to gdb_nept",
)
GUEST, HOST, EXECUTION, EXIT, ENTRY, INFORMATION, UNKNOWN = GROUPS

#: KVM's names of the fields that are words of named bits.
WORDS: dict[str, type[Word]] = {
    "pin_based_vm_exec_control": PinControls,
    "cpu_based_vm_exec_control": PrimaryControls,
    "secondary_vm_exec_control": SecondaryControls,
    "vm_exit_controls": ExitControls,
    "vm_entry_controls": EntryControls,
    "ept_pointer": Eptp,
    "vm_exit_reason": ExitReason,
}


def vmcs12_page(
    vmcs12: Vmcs12,
    chosen: tuple[Field, ...] | None = None,
    every: bool = False,
    vmcss: Vmcss | None = None,
) -> Page:
    """All fields in groups, of each group those of one authority together, and behind them the
    names of those that are 0 alike; with `every` all of them.  Or those `chosen`, decoded."""
    fields = vmcs12.fields if chosen is None else chosen
    blocks: list[str | Table] = []
    if chosen is None:
        blocks.append(_head(vmcs12))
        for group in GROUPS:
            members = [field for field in fields if group_of(field) == group]
            members.sort(key=lambda field: field.encoding or 0)
            zeros: list[str] = []
            for authority in dict.fromkeys(map(_authority, members)):
                alike = [field for field in members if _authority(field) == authority]
                if every or any(field.value for field in alike):
                    blocks += _alike(group, authority, alike, every)
                else:
                    zeros += [field.name for field in alike]
            if zeros:
                blocks.append(f"{group}, all 0 (--all tells of each): {', '.join(zeros)}")
    else:
        blocks.append(_table(list(fields), authority=True))
        blocks += [part for field in fields for part in _decoded(vmcs12, field)]
    blocks += [f"problem: {problem}" for problem in vmcs12.problems]
    notes = dumped_in_words(vmcss, vmcs12)
    blocks += [f"note: {note}" for note in notes]
    return Page(tuple(blocks), {**_data(vmcs12, fields), **_taken(vmcss, notes)})


def unread_page(nested: Nested, error: MemoryUnreadable, vmcss: Vmcss | None = None) -> Page:
    """Of a vmcs12 whose copy in KVM cannot be read."""
    where = "unknown" if nested.current_vmptr is None else f"{nested.current_vmptr:#x}"
    runs = "L2 active" if nested.l2_active else "L1 runs"
    data: dict[str, Data] = {
        "pointer": hexed(nested.current_vmptr),
        "address": hexed(nested.cached_vmcs12),
        "revision": None,
        "launched": None,
        "l2_active": nested.l2_active,
        "layout": None,
        "fields": [],
        "problems": [error.message],
        **_taken(vmcss, ()),
        "unread": {"what": error.message, "kind": error.kind.value},
    }
    said = f"vmcs12 at L1 physical {where}: {runs}; KVM's copy cannot be read: {error.message}"
    return Page((said,), data, lambda: Status.NOT_FOUND)


def _taken(vmcss: Vmcss | None, notes: tuple[str, ...]) -> dict[str, Data]:
    known = vmcss in (Vmcss.CLEARED, Vmcss.KEPT)
    return {
        "vmcss_cleared": vmcss is Vmcss.CLEARED if known else None,
        "notes": list[Data](notes),
        "unread": None,
    }


def _authority(field: Field) -> str:
    return f"{field.authority.value}: {field.why}"


def _alike(group: str, authority: str, fields: list[Field], every: bool) -> list[str | Table]:
    """The fields of a group that one sentence is true of."""
    shown = [field for field in fields if every or field.value]
    zeros = len(fields) - len(shown)
    left = f" ({zeros} more: 0)" if zeros else ""
    return [f"{group}, {authority}{left}:", _table(shown)]


def group_of(field: Field) -> str:
    if field.encoding is None:
        return UNKNOWN
    kind = Encoding(field.encoding).type_name
    by_kind = {"guest state": GUEST, "host state": HOST, "read-only data": INFORMATION}
    if kind in by_kind:
        return by_kind[kind]
    name = field.sdm_name
    return EXIT if "VM-exit" in name else ENTRY if "VM-entry" in name else EXECUTION


def word_of(vmcs12: Vmcs12, field: Field) -> Word | None:
    """The field as a word of named bits, if it is one."""
    if field.name == "exit_qualification":
        reason = ExitReason(vmcs12.number("vm_exit_reason")).basic
        return EptViolation(field.value) if reason == EPT_VIOLATION else None
    kind = WORDS.get(field.name)
    return None if kind is None else kind(field.value)


def _head(vmcs12: Vmcs12) -> str:
    where = "unknown" if vmcs12.pointer is None else f"{vmcs12.pointer:#x}"
    cache = "" if vmcs12.address is None else f"cached by KVM at {vmcs12.address:#x}; "
    runs = "L2 active" if vmcs12.situation.l2_active else "L1 runs"
    state = "launched" if vmcs12.launched else "not launched"
    old = sum(bool(field.doubt) for field in vmcs12.fields)
    return (
        f"vmcs12 at L1 physical {where}: {state}, {runs}; "
        f"{old} of {len(vmcs12.fields)} fields may be old\n"
        f"{cache}revision {vmcs12.revision:#x}; layout: {vmcs12.layout.origin}"
    )


def _table(fields: list[Field], authority: bool = False) -> Table:
    rows = tuple(
        (
            "-" if field.encoding is None else f"{field.encoding:#06x}",
            field.name,
            f"{field.value:#x}",
            *((_authority(field),) if authority else ()),
        )
        for field in fields
    )
    headers = ("field", "name", "value", *(("authority",) if authority else ()))
    return Table(headers, rows, right=(2,))


def _decoded(vmcs12: Vmcs12, field: Field) -> list[str | Table]:
    word = word_of(vmcs12, field)
    if word is None:
        return []
    said = f": {word.name}" if isinstance(word, ExitReason) else ""
    table = word_table(word)
    return [f"{word.title} {word.value:#x}{said}:", table if table.rows else "  no bit is set"]


def _data(vmcs12: Vmcs12, fields: tuple[Field, ...]) -> dict[str, Data]:
    return {
        "pointer": hexed(vmcs12.pointer),
        "address": hexed(vmcs12.address),
        "revision": hexed(vmcs12.revision),
        "launched": vmcs12.launched,
        "l2_active": vmcs12.situation.l2_active,
        "layout": vmcs12.layout.origin,
        "fields": [_field_data(vmcs12, field) for field in fields],
        "problems": list[Data](vmcs12.problems),
    }


def _field_data(vmcs12: Vmcs12, field: Field) -> Data:
    word = word_of(vmcs12, field)
    return {
        "name": field.name,
        "sdm_name": field.sdm_name,
        "encoding": hexed(field.encoding),
        "group": group_of(field),
        "value": hexed(field.value),
        "size": field.size,
        "authority": field.authority.value,
        "why": field.why,
        "bits": None if word is None else word_fields(word),
    }
