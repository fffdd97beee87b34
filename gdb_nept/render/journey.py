# SPDX-License-Identifier: GPL-2.0-or-later
"""The journey of an address: what nept-walk answers.

JSON: asked, vm, vcpu, eptp, entry_failure (null, or why VM entry refuses it), ept12 (a walk), slot
(null or {id, start, size, userspace_addr, flags}), host_virtual, host (null or {steps, address,
page_size, why, unread}), ept02 and ept01 (null or a walk), ept02_missing, host_physical, agreement,
verdict, fault (who is at fault: "nobody", "L1", "KVM", "the VMM", "not known"), fault_why (what L1
forgot, or which of KVM's functions should have caught it), notes [text]. A walk: root, steps,
address (null if it stops), page_size, stop (null or {cause, level, why, unread}). A step: level,
name, table, index, entry_address, entry, leaf, rights, meaning. unread, also of host: null, or what
became of memory that cannot be read ("filtered", "cut", "no RAM", ...). ept02 and ept01 also have
tables [kvm_mmu_page (null: why), what, gfn_address, unsync, obsolete, role], one a step. hops: how
each is known ("read", "derived", "missing", "none"); derived: null, or what KVM's shadow tells of
an EPT12 that cannot be read {tables [level, table, index], address (L1 physical), rights_at_least,
host_physical, doubt, page_size, slot, host_virtual (as above)}.
"""

from __future__ import annotations

from typing import Any, Callable

from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import LEVEL_NAMES, Eptp
from gdb_nept.kvm.memslots import Slot
from gdb_nept.kvm.shadow_page import NotShadowPage, ShadowPage
from gdb_nept.nested.agreement import Agreement, Fault, Verdict
from gdb_nept.nested.journey import Along, Derived, Hop, Journey, ShadowWalk
from gdb_nept.nested.verdict import verdict
from gdb_nept.render import text
from gdb_nept.render.ept import eptp_in_words, refused_in_words
from gdb_nept.render.host import host_data, host_lines
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Status
from gdb_nept.render.spte import spte_in_words, spte_marks
from gdb_nept.walk.result import Step, Walk


def journey_page(journey: Journey, tables: bool = False) -> Page:
    """The whole way in one line, and the verdict; then one line an entry read, in the order of the
    journey.  With `tables` also what KVM keeps of each of its tables."""
    found = verdict(journey)
    marked = _marks(journey)
    blocks = [
        text.lines(headline(journey, found), text.sentence(found.sentence), _fault(found)),
        *refused_in_words(journey.refusal),
        f"VM {journey.vm}, vCPU {journey.vcpu}; EPTP {journey.eptp.value:#x}: "
        f"{eptp_in_words(journey.eptp)}",
        _own(journey, marked("EPT12")),
        _slot(journey.along, marked("memslot")),
        host_lines(journey.along.host, marked("host page tables")),
        _shadow(
            f"EPT02, KVM's shadow of EPT12, in host memory{marked('EPT02')}:",
            journey.shadow,
            tables,
        )
        or f"EPT02: {journey.shadow_missing}",
        _shadow(
            f"EPT01, KVM's tables for L1, in host memory{marked('EPT01')}:", journey.ept01, tables
        ),
        *(f"note: {note}" for note in journey.notes),
    ]
    status = STATUSES.get(found.agreement, Status.DONE)
    return Page(tuple(block for block in blocks if block), journey_data(journey), lambda: status)


def headline(journey: Journey, found: Verdict) -> str:
    """L2 0x2000000 -> L1 0x1020000 -> host 0x6020000   EPT12 RWX  EPT02 RWX   agree; without the
    rights and what lies between, which stand below, where that is wider than a page."""
    ends = [f"EPT12 {text.rights(journey.ept12.rights)}"] if journey.ept12.stop is None else []
    shadow = journey.shadow
    if shadow is not None and shadow.address is not None:
        ends.append(f"EPT02 {text.rights(shadow.walk.rights)}")
    way, outcome = chain(journey, found), found.agreement.value
    return text.first_whole(
        "   ".join(filter(None, (way, "  ".join(ends), outcome))),
        f"{way}   {outcome}",
        f"{ends_of(way)}   {outcome}",
    )


def chain(journey: Journey, found: Verdict) -> str:
    """L2 0x2000000 -> L1 0x1020000 -> host 0x6020000; "L1 0x1020000 (derived)" by KVM's shadow"""
    l1, host = journey.ept12.address, journey.along.host
    way = [f"L2 {journey.asked:#x}"]
    way += [f"L1 {l1:#x}"] if l1 is not None else []
    if journey.derived is not None and journey.derived.address is not None:
        way.append(f"L1 {journey.derived.address:#x} ({Hop.DERIVED.value})")
    if host is not None and host.physical is not None:
        way.append(f"host {host.physical:#x}")
    else:
        way.append("?" if found.agreement is Agreement.UNREADABLE else "nothing")
    return " -> ".join(way)


def ends_of(way: str) -> str:
    """A chain() without what lies between its ends."""
    first, *_, last = way.split(" -> ")
    return f"{first} -> {last}"


#: Of the others, no way contradicts another.
STATUSES = {
    Agreement.STALE: Status.DIFFERS,
    Agreement.BROKEN: Status.DIFFERS,
    Agreement.UNREADABLE: Status.NOT_FOUND,
}


def _fault(found: Verdict) -> str:
    """At fault: KVM: kvm_mmu_track_write() should have dropped its entry"""
    if found.fault is Fault.NOBODY:
        return ""
    return f"At fault: {found.fault.value}" + (f": {found.why}" if found.why else "")


def _marks(journey: Journey) -> Callable[[str], str]:
    """Of a hop, " (read)", " (derived)" or " (missing)", if not all hops are read."""
    hops = journey.hops
    if not {Hop.DERIVED, Hop.MISSING} & set(hops.values()):
        return lambda name: ""
    return lambda name: "" if hops[name] is Hop.NONE else f" ({hops[name].value})"


def _own(journey: Journey, mark: str) -> str:
    steps = ept12_lines(journey.ept12, journey.cpu, journey.eptp)
    title = f"EPT12, L1's tables, in L1 physical memory{mark}:"
    found = [title, *steps, end_line(journey.ept12, "L1 physical")]
    return "\n".join(found + (_derived(journey.derived, len(steps)) if journey.derived else []))


def _derived(found: Derived, read: int) -> list[str]:
    """Below the tables that were read, those that KVM's shadow tells of, and where they lead."""
    lines = [f"  by KVM's shadow{f'; {found.doubt}' if found.doubt else ''}:"]
    for table in found.tables[read:]:
        place = f"{text.address(table.table)}[{table.index:3}]"
        lines.append(f"  {LEVEL_NAMES[table.level]:5} {place}  {Hop.DERIVED.value}")
    if found.address is not None:
        lines.append(
            f"  -> L1 physical {found.address:#x}, in a page of {text.size(found.size)}, with "
            f"{text.rights(found.rights)} at least"
        )
    return lines


def ept12_lines(walk: Walk[Any, Any], cpu: Capabilities | None, eptp: Eptp) -> list[str]:
    return [step_line(each, text.marks(each.entry, each.leaf, cpu, eptp)) for each in walk.steps]


def step_line(step: Step[Any], words: str) -> str:
    """PDE  0x0000103000[ 12]  0x0000000000104007  RWX  A"""
    place = f"{text.address(step.table)}[{step.index:3}]"
    return f"  {LEVEL_NAMES[step.level]:5} {place}  {text.word(step.entry.value)}  {words}"


def end_line(walk: Walk[Any, Any], space: str) -> str:
    if walk.stop is not None:
        return f"  stops: {walk.stop.why}"
    return f"  -> {space} {walk.address:#x}, in a page of {text.size(walk.size)}"


def _slot(along: Along, mark: str) -> str:
    slot = along.slot
    if slot is None or along.host_virtual is None:
        return ""
    flags = "".join(f", {each.short}" for each in slot.flags.named())
    return (
        f"memslot {slot.id}{mark}: L1 physical "
        f"{slot.start:#x}-{slot.start + slot.size - 1:#x}{flags}\n"
        f"  -> host virtual {along.host_virtual:#x}"
    )


def _shadow(title: str, found: ShadowWalk | None, tables: bool) -> str:
    if found is None:
        return ""
    lines = [title]
    for step, spte, page in zip(found.walk.steps, found.sptes, found.pages):
        lines += [f"    table {step.table:#x}: {_page_in_words(page)}"] if tables else []
        lines.append(step_line(step, spte_marks(spte)))
    return "\n".join([*lines, end_line(found.walk, "host physical")])


def _page_in_words(page: ShadowPage | NotShadowPage) -> str:
    """EPT02, shadows EPT12: L1's table at 0xdfc000; level 4, guest_mode 1, access 7"""
    if isinstance(page, NotShadowPage):
        return f"no kvm_mmu_page ({page.why})"
    what = "maps from" if page.direct else "L1's table at"
    words = [f"{page.what}: {what} {page.gfn_address:#x}"]
    words += ["unsync"] if page.unsync else []
    words += ["obsolete"] if page.obsolete else []
    role = ", ".join(f"{bit.name} {bit.number}" for bit in page.role.bits if bit.number)
    return f"{', '.join(words)}; role {page.role.word:#x} ({role})"


def journey_data(journey: Journey) -> dict[str, Data]:
    found = verdict(journey)
    return {
        "asked": hexed(journey.asked),
        "vm": journey.vm,
        "vcpu": journey.vcpu,
        "eptp": hexed(journey.eptp.value),
        "entry_failure": journey.refusal or None,
        "ept12": walk_data(journey.ept12),
        "slot": _slot_data(journey.slot),
        "host_virtual": hexed(journey.host_virtual),
        "host": host_data(journey.host),
        "ept02": _shadow_data(journey.shadow),
        "ept02_missing": journey.shadow_missing or None,
        "ept01": _shadow_data(journey.ept01),
        "host_physical": hexed(journey.host_physical),
        "agreement": found.agreement.value,
        "verdict": found.sentence,
        "fault": found.fault.value,
        "fault_why": found.why or None,
        "notes": list[Data](journey.notes),
        "hops": {name: hop.value for name, hop in journey.hops.items()},
        "derived": _derived_data(journey.derived),
    }


def _slot_data(slot: Slot | None) -> Data:
    if slot is None:
        return None
    return {
        "id": slot.id,
        "start": hexed(slot.start),
        "size": slot.size,
        "userspace_addr": hexed(slot.userspace_addr),
        "flags": list[Data](each.short for each in slot.flags.named()),
    }


def _derived_data(found: Derived | None) -> Data:
    if found is None:
        return None
    tables: list[Data] = [
        {"level": each.level, "table": hexed(each.table), "index": each.index}
        for each in found.tables
    ]
    return {
        "tables": tables,
        "address": hexed(found.address),
        "rights_at_least": text.rights(found.rights),
        "host_physical": hexed(found.host_physical),
        "doubt": found.doubt or None,
        "page_size": found.size or None,
        "slot": _slot_data(found.slot),
        "host_virtual": hexed(found.host_virtual),
    }


def walk_data(walk: Walk[Any, Any], words: tuple[str, ...] = ()) -> dict[str, Data]:
    meanings = words or tuple(text.in_words(step.entry, step.leaf) for step in walk.steps)
    stop = walk.stop
    return {
        "root": hexed(walk.root),
        "steps": [_step_data(step, said) for step, said in zip(walk.steps, meanings)],
        "address": hexed(walk.address),
        "page_size": walk.size if stop is None else None,
        "stop": None
        if stop is None
        else {
            "cause": stop.cause.value,
            "level": stop.level,
            "why": stop.why,
            "unread": stop.unread.value if stop.unread else None,
        },
    }


def _shadow_data(found: ShadowWalk | None) -> Data:
    if found is None:
        return None
    data = walk_data(found.walk, tuple(spte_in_words(spte) for spte in found.sptes))
    return {**data, "tables": [_page_data(page) for page in found.pages]}


def _page_data(page: ShadowPage | NotShadowPage) -> Data:
    if isinstance(page, NotShadowPage):
        return {"kvm_mmu_page": None, "why": page.why}
    return {
        "kvm_mmu_page": hexed(page.address),
        "what": page.what,
        "gfn_address": hexed(page.gfn_address),
        "unsync": page.unsync,
        "obsolete": page.obsolete,
        "role": {bit.name: bit.number for bit in page.role.bits},
    }


def _step_data(step: Step[Any], meaning: str) -> Data:
    return {
        "level": step.level,
        "name": LEVEL_NAMES[step.level],
        "table": hexed(step.table),
        "index": step.index,
        "entry_address": hexed(step.address),
        "entry": hexed(step.entry.value),
        "leaf": step.leaf,
        "rights": text.rights(step.entry),
        "meaning": meaning,
    }
