# SPDX-License-Identifier: GPL-2.0-or-later
"""What changed between two stops: what nept-diff answers.

JSON: vm, vcpu, stops and seconds (since the state that is compared with), vmcs12_before,
vmcs12_after (where it lies in L1), fields [name, before, after], epts [ept, eptp_before,
eptp_after, missing_before, missing_after, entries [level, l2_physical, before, after (null: not
present), before_at, after_at], notes].  Of a state alone: vm, vcpu, taken (counts).
"""

from __future__ import annotations

from gdb_nept.arch.bits import Bits
from gdb_nept.arch.ept import LEVEL_NAMES, EptEntry
from gdb_nept.live.state import Difference, EntryChange, EptChange, State
from gdb_nept.live.stops import Taken
from gdb_nept.nested.epts import Which
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Table

SHOWN = 40  # entries of one EPT, unless all are asked for
SPACES = {Which.L1: "L1", Which.SHADOW: "host"}


def taken_page(taken: Taken, marked: bool = False) -> Page:
    """A state that there is nothing to compare with yet, or that was to be kept."""
    state = taken.state
    counts = ", ".join(_counted(which, state) for which in state.epts)
    head = f"VM {state.vm}, vCPU {state.vcpu}: {'marked' if marked else 'taken'}: "
    blocks = [f"{head}{text.count(len(state.fields), 'field')} of vmcs12; {counts}"]
    if not marked:
        often = "at each stop" if taken.quick else "only at each nept-diff"
        blocks.append(f"that took {taken.seconds:.3f} s; from now on it is taken {often}")
    data: dict[str, Data] = {which.value: len(one.entries) for which, one in state.epts.items()}
    data["fields"] = len(state.fields)
    return Page(tuple(blocks), {"vm": state.vm, "vcpu": state.vcpu, "taken": data})


def _counted(which: Which, state: State) -> str:
    tables = state.epts[which]
    return tables.missing or f"{text.count(len(tables.entries), 'entry')} of {which.value}"


def diff_page(found: Difference, everything: bool, before: Taken, now: Taken) -> Page:
    after, stops, seconds = found.after, now.stop - before.stop, now.began - before.began
    when = {0: "this stop", 1: "the last stop"}.get(stops, f"{stops} stops ago")
    whose = f"VM {after.vm}, vCPU {after.vcpu}, against {when} ({seconds:.1f} s)"
    head = f"{whose}: {_changes(found)}"
    blocks: list[str | Table] = [head, *_fields(found)]
    for change in found.epts:
        blocks += _ept(change, everything)
    return Page(tuple(blocks), {**_data(found), "stops": stops, "seconds": round(seconds)})


def _changes(found: Difference) -> str:
    """2 fields of vmcs12, 1 entry of EPT12 changed"""
    parts = ["another vmcs12"] if found.before.vmcs12_at != found.after.vmcs12_at else []
    parts += [f"{text.count(len(found.fields), 'field')} of vmcs12"] if found.fields else []
    lost = []
    for change in found.epts:
        name = change.which.value
        if change.after.missing:
            lost.append(name)
        elif change.entries:
            parts.append(f"{text.count(len(change.entries), 'entry')} of {name}")
        elif change.before.eptp != change.after.eptp:
            parts.append(f"the EPTP of {name}")
    said = f"{', '.join(parts)} changed" if parts else "nothing changed"
    return f"{said}; {' and '.join(lost)} not known" if lost else said


def _fields(found: Difference) -> list[str | Table]:
    blocks: list[str | Table] = []
    if found.before.vmcs12_at != found.after.vmcs12_at:
        old, new = found.before.vmcs12_at, found.after.vmcs12_at
        blocks.append(
            f"vmcs12: another one is loaded: at L1 physical {_at(new)}, before {_at(old)}"
        )
    if not found.fields:
        return [*blocks, "vmcs12: no field changed"]
    rows = [(each.name, f"{each.before:#x}", f"{each.after:#x}") for each in found.fields]
    blocks.append(f"vmcs12: {text.count(len(rows), 'field')} changed:")
    return [*blocks, Table(("field", "before", "after"), tuple(rows), right=(1, 2))]


def _at(address: int | None) -> str:
    return "none" if address is None else f"{address:#x}"


def _ept(change: EptChange, everything: bool) -> list[str | Table]:
    name, old, new = change.which.value, change.before, change.after
    blocks: list[str | Table] = [f"note: {name}: {note}" for note in new.notes]
    if new.missing:
        return [*blocks, f"{name}: {new.missing}"]
    if old.eptp != new.eptp:
        blocks.append(f"{name}: EPTP {_at(new.eptp)}, before {_at(old.eptp)}")
    if not change.entries:
        return [*blocks, f"{name}: no entry changed"]
    count = len(change.entries)
    shown = change.entries if everything else change.entries[:SHOWN]
    blocks.append(f"{name}: {text.count(count, 'entry')} changed:")
    headers = ("L2 physical", "entry", "at " + SPACES[change.which], "change")
    blocks.append(Table(headers, tuple(_row(each, change) for each in shown)))
    if len(shown) < count:
        blocks.append(f"... and {count - len(shown)} more: nept-diff --all shows them")
    return blocks


def _row(change: EntryChange, ept: EptChange) -> tuple[str, ...]:
    place = change.after or change.before
    return (
        text.address(change.start),
        LEVEL_NAMES[change.level],
        text.address(place.place if place else None),
        _change(change, ept),
    )


def _change(change: EntryChange, ept: EptChange) -> str:
    """0x1020337 -> 0x1020335  -W"""
    values = [f"{one.value:#x}" for one in (change.before, change.after) if one is not None]
    return f"{' -> '.join(values)}  {_what(change, ept)}"


#: What the processor takes from an entry of EPT02; the other bits are KVM's own there.
SHADOWED = (
    *(EptEntry.read, EptEntry.write, EptEntry.execute, EptEntry.memory_type, EptEntry.ignore_pat),
    *(EptEntry.large, EptEntry.accessed, EptEntry.dirty, EptEntry.address),
)


def _what(change: EntryChange, ept: EptChange) -> str:
    """'new', 'gone', or each bit that came (+) or went (-)."""
    if change.before is None:
        return "new"
    if change.after is None:
        return "gone"
    fields = EptEntry.fields() if ept.which is Which.L1 else SHADOWED
    old, new = change.before.value, change.after.value
    parts = [_bit(field, old, new) for field in fields]
    rest = (old ^ new) & ~sum(field.mask for field in fields)
    if rest:
        parts.append(f"{'ignored bits' if ept.which is Which.L1 else 'bits of KVM'} {rest:#x}")
    if change.before.place != change.after.place and ept.before.eptp == ept.after.eptp:
        parts.append("in another table")
    return ", ".join(part for part in parts if part)


def _bit(field: Bits, old: int, new: int) -> str:
    if not (old ^ new) & field.mask:
        return ""
    if field.high > field.low:  # a number
        return field.name.replace("_", " ")
    return f"+{field.short}" if new & field.mask else f"-{field.short}"


def _data(found: Difference) -> dict[str, Data]:
    return {
        "vm": found.after.vm,
        "vcpu": found.after.vcpu,
        "vmcs12_before": hexed(found.before.vmcs12_at),
        "vmcs12_after": hexed(found.after.vmcs12_at),
        "fields": [
            {"name": each.name, "before": hexed(each.before), "after": hexed(each.after)}
            for each in found.fields
        ],
        "epts": [_ept_data(change) for change in found.epts],
    }


def _ept_data(change: EptChange) -> Data:
    return {
        "ept": change.which.value,
        "eptp_before": hexed(change.before.eptp),
        "eptp_after": hexed(change.after.eptp),
        "missing_before": change.before.missing,
        "missing_after": change.after.missing,
        "entries": [
            {
                "level": each.level,
                "l2_physical": hexed(each.start),
                "before": hexed(each.before.value if each.before else None),
                "after": hexed(each.after.value if each.after else None),
                "before_at": hexed(each.before.place if each.before else None),
                "after_at": hexed(each.after.place if each.after else None),
            }
            for each in change.entries
        ],
        "notes": list[Data](change.after.notes),
    }
