# SPDX-License-Identifier: GPL-2.0-or-later
"""The nested state of a vCPU as a whole, to be held against itself at another stop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from gdb_nept.errors import NeptError, NoGuest
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.epts import Which
from gdb_nept.nested.session import Session
from gdb_nept.walk.runs import Unread

COMPARED = (Which.L1, Which.SHADOW)


@dataclass(frozen=True)
class Listed:
    """A present entry: where it lies (L1 physical of EPT12, host physical of EPT02), and it."""

    place: int
    value: int


#: By level and by the first L2 physical address that the entry is for.
Entries = Mapping["tuple[int, int]", Listed]


@dataclass(frozen=True)
class Tables:
    """All present entries of an EPT.  `missing` says why there is none; `notes` what of it could
    not be read."""

    eptp: int | None
    entries: Entries
    missing: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What is compared from one stop to the next: vmcs12's fields by name, and the EPTs."""

    vm: int
    vcpu: int
    vmcs12_at: int | None  # L1 physical, current_vmptr
    fields: Mapping[str, int]
    epts: Mapping[Which, Tables]


class TakesLong(NeptError):
    """More than the time that there was."""


def state_of(session: Session, chosen: Chosen, deadline: float = math.inf) -> State:
    """vmcs12, EPT12 and EPT02 as they stand; `deadline` is of time.monotonic().  Raises NoGuest
    where L1 has loaded no VMCS, TakesLong."""
    vmcs12 = session.vmcs12(chosen)
    return State(
        chosen.vm,
        chosen.place,
        vmcs12.pointer,
        {each.name: each.value for each in vmcs12.fields},
        {which: _tables(session, chosen, which, deadline) for which in COMPARED},
    )


def _tables(session: Session, chosen: Chosen, which: Which, deadline: float) -> Tables:
    try:
        ept = session.ept(chosen, which)
    except NoGuest as error:
        return Tables(None, {}, error.message)
    scan = session.scan(ept, 0, 1 << 57)
    scan.references = True
    entries, notes = {}, []
    for found in scan.entries():
        if isinstance(found, Unread):
            notes.append(f"from {found.start:#x} to {found.end - 1:#x}: {found.why}")
            continue
        entries[found.level, int(found.start)] = Listed(int(found.place), found.entry.value)
        if time.monotonic() > deadline:
            raise TakesLong(f"{which.value} is too large to be read in passing")
    return Tables(ept.eptp.value, entries, notes=tuple(notes))


# -- two states ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class FieldChange:
    """A field of vmcs12."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class EntryChange:
    """`before` or `after` is None where the entry is not present."""

    level: int
    start: int
    before: Listed | None
    after: Listed | None


@dataclass(frozen=True)
class EptChange:
    """`entries` are those that differ, by address, a table's entry before what is below it."""

    which: Which
    before: Tables
    after: Tables
    entries: tuple[EntryChange, ...]


@dataclass(frozen=True)
class Difference:
    """Two stops, and what changed from one to the other."""

    before: State
    after: State
    fields: tuple[FieldChange, ...]
    epts: tuple[EptChange, ...]


def difference(before: State, after: State) -> Difference:
    """What changed between two stops."""
    fields = tuple(
        FieldChange(name, before.fields[name], value)
        for name, value in after.fields.items()
        if before.fields.get(name, value) != value
    )
    epts = tuple(_changed(which, before.epts[which], after.epts[which]) for which in COMPARED)
    return Difference(before, after, fields, epts)


def _changed(which: Which, before: Tables, after: Tables) -> EptChange:
    keys = sorted({*before.entries, *after.entries}, key=lambda key: (key[1], -key[0]))
    pairs = ((key, before.entries.get(key), after.entries.get(key)) for key in keys)
    changes = (EntryChange(*key, old, new) for key, old, new in pairs if old != new)
    return EptChange(which, before, after, tuple(changes))
