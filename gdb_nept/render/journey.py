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
host_physical, doubt}.
"""

from __future__ import annotations

from typing import Any

from gdb_nept.arch.cpu import Capabilities
from gdb_nept.arch.ept import LEVEL_NAMES, Eptp
from gdb_nept.kvm.shadow_page import NotShadowPage, ShadowPage
from gdb_nept.nested.agreement import Agreement, Fault, Verdict
from gdb_nept.nested.journey import Derived, Journey, ShadowWalk
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
    blocks = [
        "\n".join(filter(None, (headline(journey, found), _sentence(found), _fault(found)))),
        *refused_in_words(journey.refusal),
        f"VM {journey.vm}, vCPU {journey.vcpu}; EPTP {journey.eptp.value:#x}: "
        f"{eptp_in_words(journey.eptp)}",
        _own(journey),
        _slot(journey),
        host_lines(journey.host),
        _shadow("EPT02, KVM's shadow of EPT12, in host memory:", journey.shadow, tables)
        or f"EPT02: {journey.shadow_missing}",
        _shadow("EPT01, KVM's tables for L1, in host memory:", journey.ept01, tables),
        *(f"note: {note}" for note in journey.notes),
    ]
    status = STATUSES.get(found.agreement, Status.DONE)
    return Page(tuple(block for block in blocks if block), journey_data(journey), lambda: status)


def headline(journey: Journey, found: Verdict) -> str:
    """L2 0x2000000 -> L1 0x1020000 -> host 0x6020000   EPT12 RWX  EPT02 RWX   agree"""
    ends = [f"EPT12 {text.rights(journey.ept12.rights)}"] if journey.ept12.stop is None else []
    shadow = journey.shadow
    if shadow is not None and shadow.address is not None:
        ends.append(f"EPT02 {text.rights(shadow.walk.rights)}")
    return "   ".join(filter(None, (chain(journey, found), "  ".join(ends), found.agreement.value)))


def chain(journey: Journey, found: Verdict) -> str:
    """L2 0x2000000 -> L1 0x1020000 -> host 0x6020000"""
    l1, host = journey.ept12.address, journey.host_physical
    way = [f"L2 {journey.asked:#x}"]
    way += [f"L1 {l1:#x}"] if l1 is not None else []
    if host is not None:
        way.append(f"host {host:#x}")
    else:
        way.append("?" if found.agreement is Agreement.UNREADABLE else "nothing")
    return " -> ".join(way)


def _sentence(found: Verdict) -> str:
    return found.sentence[:1].upper() + found.sentence[1:] + "."


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


def _own(journey: Journey) -> str:
    steps = ept12_lines(journey.ept12, journey.cpu, journey.eptp)
    title = "EPT12, L1's tables, in L1 physical memory:"
    return "\n".join([title, *steps, end_line(journey.ept12, "L1 physical")])


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


def _slot(journey: Journey) -> str:
    if journey.slot is None or journey.host_virtual is None:
        return ""
    slot = journey.slot
    flags = "".join(f", {each.short}" for each in slot.flags.named())
    return (
        f"memslot {slot.id}: L1 physical {slot.start:#x}-{slot.start + slot.size - 1:#x}{flags}\n"
        f"  -> host virtual {journey.host_virtual:#x}"
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
    slot, found = journey.slot, verdict(journey)
    return {
        "asked": hexed(journey.asked),
        "vm": journey.vm,
        "vcpu": journey.vcpu,
        "eptp": hexed(journey.eptp.value),
        "entry_failure": journey.refusal or None,
        "ept12": walk_data(journey.ept12),
        "slot": None
        if slot is None
        else {
            "id": slot.id,
            "start": hexed(slot.start),
            "size": slot.size,
            "userspace_addr": hexed(slot.userspace_addr),
            "flags": list[Data](each.short for each in slot.flags.named()),
        },
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
