# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of an L2 linear address: what nept-walk --virtual answers.

JSON: linear, translated (without what LAM masks), vm, vcpu, nesting, entry_failure (null, or why
VM entry refuses L2's registers), mode, registers [name, value,
origin, doubt], guest_steps [level, register (null, or which PDPTE register), entry_address, index,
entry, leaf, meaning, ept12 (null, or the walk that found it)], hidden_by (null, or the walk through
EPT12 that leads to no next entry), gpa, page_size, user, writable, execute_disable (null unless
L2's tables lead to a page), ept_rights, references, why (null, or why there is no page), warnings
[text], journey (null, or as nept-walk), l1_physical, host_virtual, host_physical.
"""

from __future__ import annotations

from gdb_nept.arch.ept import LEVEL_NAMES
from gdb_nept.arch.paging import Entry, Mode
from gdb_nept.memory.reader import PAGE_SIZE
from gdb_nept.nested.agreement import Agreement
from gdb_nept.nested.nesting import SAYS, Nesting
from gdb_nept.nested.verdict import verdict
from gdb_nept.nested.virtual import Found, GuestEntry, VirtualWalk
from gdb_nept.render import text
from gdb_nept.render.ept import refused_in_words
from gdb_nept.render.host import entry_marks, host_lines
from gdb_nept.render.journey import (
    chain,
    end_line,
    ept12_lines,
    journey_data,
    journey_page,
    walk_data,
)
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Status
from gdb_nept.walk.guest_paging import GuestStep
from gdb_nept.walk.linear_address import not_canonical
from gdb_nept.walk.paging import LinearWalk


def virtual_page(found: VirtualWalk, brief: bool = False, tables: bool = False) -> Page:
    """The whole way in one line; a line for each entry of L2's with EPT12's behind it, and then the
    journey."""
    journey = journey_page(found.journey, tables) if found.journey else None
    mode = found.registers.paging.mode
    blocks = [
        _headline(found),
        *refused_in_words(found.registers.refusal(), "these registers"),
        f"VM {found.vm}, vCPU {found.vcpu}; {_nesting(found)}\n{_registers(found)}",
        _own_tables(found, brief)
        if mode
        else "L2 does not use paging: this is its L2 physical address",
        _rights(found),
        f"memory references: {found.references} with nothing cached",
        *(f"warning: {each}" for each in found.warnings),
    ]
    landing = found.landing
    if landing is not None:
        slot = f"memslot {landing.slot.id}" if landing.slot else "in no memslot"
        blocks += [f"L1 physical {landing.address:#x}, {slot}", host_lines(landing.host)]
        kvm = f"host physical {landing.kvm:#x}" if landing.kvm is not None else landing.kvm_why
        own = "EPT01" if found.nesting is Nesting.SHADOW_ON_EPT else "its shadow of L1's shadow"
        blocks.append(f"KVM's own tables ({own}): {kvm}")
    status = journey.status if journey else lambda: Status.DONE if landing else Status.NOT_FOUND
    after = journey.blocks if journey else ()
    return Page((*(block for block in blocks if block), *after), _data(found), status)


def _headline(found: VirtualWalk) -> str:
    """linear 0x1000 -> L2 0x1000 -> L1 0x1020000 -> host 0x6020000   agree; with less of what lies
    between, which stands below, where that is wider than a page.  What LAM masks, and why it leads
    nowhere, is told in a line of its own."""
    start = f"linear {found.asked:#x}"
    masked = f"translated as {found.linear:#x}" if found.linear != found.asked else ""
    if found.journey is None and found.landing is None:
        head, below = f"{start} -> nothing   {_obstacle(found)}", found.why
    else:
        ways, outcome = _ways(found)
        head = text.first_whole(*(f"{start} -> {each}   {outcome}" for each in ways))
        below = ""
    return text.lines(head, text.sentence(masked), text.sentence(below))


def _ways(found: VirtualWalk) -> tuple[tuple[str, ...], str]:
    """From the linear address on, the whole first, and how far the ways agree."""
    if found.journey is not None:
        said = verdict(found.journey)
        way = chain(found.journey, said)
        l2, *_, end = way.split(" -> ")
        return (way, f"{l2} -> {end}", end), said.agreement.value
    landing = found.landing
    assert landing is not None, "one or the other"
    host = landing.host.physical if landing.host else None
    end = f"host {host:#x}" if host is not None else "nothing"
    return (f"L1 {landing.address:#x} -> {end}", end), landing.agreement.value


def _obstacle(found: VirtualWalk) -> str:
    """What stands in the way, in a word or two."""
    if found.hidden is not None:
        return "hidden by EPT12"
    if found.walk is not None:
        return "page fault in L2"
    refused = not_canonical(found.registers.paging, found.linear)
    return "not canonical" if refused else Agreement.UNREADABLE.value


def _nesting(found: VirtualWalk) -> str:
    return f"{found.nesting.value}: {SAYS[found.nesting]}"


def _registers(found: VirtualWalk) -> str:
    mode = found.registers.paging.mode
    named = ", ".join(f"{one.name} {one.number:#x}" for one in found.registers.registers)
    lines = [f"{mode.name} paging" if mode else "no paging", named]
    if mode and mode.levels == 3 and found.registers.paging.pdptrs:
        pdptrs = " ".join(f"{each:#x}" for each in found.registers.paging.pdptrs)
        lines.append(f"PDPTE registers {pdptrs}")
    return "; ".join(lines)


def _own_tables(found: VirtualWalk, brief: bool) -> str:
    title = "L1's shadow of L2's tables, in L1 physical memory:"
    if found.nesting is Nesting.EPT_ON_EPT:
        title = "L2's own tables, in L2 physical memory" + (":" if brief else ", found by EPT12:")
    lines = [title]
    for entry in found.entries:
        way = entry.found_by
        if way is not None and not brief:
            lines += _by_ept12(found, way)
        lines.append(_entry(entry))
    if found.hidden is not None:
        lines += _by_ept12(found, found.hidden)
        lines.append("    " + end_line(found.hidden, "L1 physical"))
    walk = found.walk
    if walk is not None and walk.gpa is not None:
        space = "L2 physical" if found.landing is None else "L1 physical"
        lines.append(f"  -> {space} {walk.gpa:#x}, in a page of {text.size(walk.page_size)}")
    elif found.why:
        lines.append(f"  stops: {found.why}")
    return "\n".join(lines)


def _by_ept12(found: VirtualWalk, way: Found) -> list[str]:
    assert found.ept12 is not None, "it found this way"
    return [f"    {line}" for line in ept12_lines(way, found.ept12.cpu, found.ept12.eptp)]


def _entry(entry: GuestEntry) -> str:
    step = entry.step
    name = LEVEL_NAMES[step.level]
    place = f"register {step.index}".ljust(17)
    if step.gpa is not None:
        size = 8 if isinstance(step.entry, Entry) else 4
        place = f"{text.address(step.gpa - step.index * size)}[{step.index:3}]"
    return f"  {name:5} {place}  {text.word(step.entry.value)}  {_marks(step)}"


def _marks(step: GuestStep) -> str:
    entry = step.entry
    if step.gpa is None or not entry.present:
        return entry_in_words(step)
    if isinstance(entry, Entry):
        return entry_marks(entry, step.leaf)
    used = text.flags(entry.accessed, entry.dirty if step.leaf else None)
    return text.columns("RWX" if entry.write else "R-X", used, "user" if entry.user else "")


def entry_in_words(step: GuestStep) -> str:
    """RW-; user; accessed, dirty; key 3."""
    entry = step.entry
    if not entry.present:
        return "not present"
    if step.gpa is None:
        return "present"
    executable = not (isinstance(entry, Entry) and entry.execute_disable)
    can = f"R{'W' if entry.write else '-'}{'X' if executable else '-'}"
    used = ["accessed"] if entry.accessed else []
    used += ["dirty"] if step.leaf and entry.dirty else []
    parts = [can, "user" if entry.user else "", ", ".join(used)]
    if isinstance(entry, Entry):
        parts += [f"key {entry.protection_key}"] if step.leaf and entry.protection_key else []
    return "; ".join(part for part in parts if part)


def _rights(found: VirtualWalk) -> str:
    walk = found.walk
    if walk is None or walk.gpa is None:
        return ""
    who = "user and supervisor" if walk.user else "supervisor alone"
    can = f"R{'W' if walk.writable else '-'}{'-' if walk.execute_disable else 'X'}"
    whose = "L2's tables" if found.nesting is Nesting.EPT_ON_EPT else "L1's shadow"
    lines = f"rights: by {whose} {can}, {who}"
    ept = _ept_rights(found)
    return lines + (f"; by EPT12 {ept}" if ept else "")


def _ept_rights(found: VirtualWalk) -> str:
    journey = found.journey
    if journey is None or journey.ept12.stop is not None:
        return ""
    return text.rights(journey.ept12.rights)


def _data(found: VirtualWalk) -> dict[str, Data]:
    mode = found.registers.paging.mode
    return {
        "linear": hexed(found.asked),
        "translated": hexed(found.linear),
        "vm": found.vm,
        "vcpu": found.vcpu,
        "nesting": _nesting(found),
        "entry_failure": found.registers.refusal() or None,
        "mode": mode.name if mode else "no paging",
        "registers": [
            {
                "name": one.name,
                "value": hexed(one.number),
                "origin": one.origin,
                "doubt": one.doubt or None,
            }
            for one in found.registers.registers
        ],
        "guest_steps": [_step_data(entry) for entry in found.entries],
        "hidden_by": walk_data(found.hidden) if found.hidden else None,
        **_translation_data(found.walk, mode),
        "ept_rights": _ept_rights(found) or None,
        "references": found.references,
        "why": found.why or None,
        "warnings": list[Data](found.warnings),
        "journey": journey_data(found.journey) if found.journey else None,
        **_place_data(found),
    }


def _translation_data(walk: LinearWalk | None, mode: Mode | None) -> dict[str, Data]:
    """All null where the linear address does not translate."""
    if walk is None or walk.gpa is None:
        return dict.fromkeys(("gpa", "page_size", "user", "writable", "execute_disable"))
    return {
        "gpa": hexed(walk.gpa),
        "page_size": walk.page_size if mode else PAGE_SIZE,
        "user": walk.user,
        "writable": walk.writable,
        "execute_disable": walk.execute_disable,
    }


def _place_data(found: VirtualWalk) -> dict[str, Data]:
    """Where it lies, by whichever way there is."""
    landing, journey = found.landing, found.journey
    l1 = landing.address if landing else journey.ept12.address if journey else None
    virtual = landing.host_virtual if landing else journey.host_virtual if journey else None
    host = landing.host if landing else journey.host if journey else None
    return {
        "l1_physical": hexed(l1),
        "host_virtual": hexed(virtual),
        "host_physical": hexed(host.physical) if host else None,
    }


def _step_data(entry: GuestEntry) -> Data:
    step = entry.step
    return {
        "level": step.level,
        "register": step.index if step.gpa is None else None,
        "entry_address": hexed(step.gpa),
        "index": step.index,
        "entry": hexed(step.entry.value),
        "leaf": step.leaf,
        "meaning": entry_in_words(step),
        "ept12": walk_data(entry.found_by) if entry.found_by else None,
    }
