# SPDX-License-Identifier: GPL-2.0-or-later
"""Who has a page of the host: what nept-who answers.

JSON: page (host physical), l1 [vm, address, slot, host_virtual], l2 [vm, vcpu, address, ept12 and
ept02: rights, null where it does not lead there, unread: which of the two may, in a table that
cannot be read], shared (more than one L1 page has it), complete, notes [text].
"""

from __future__ import annotations

from gdb_nept.arch.ept import EptEntry
from gdb_nept.nested.epts import Which
from gdb_nept.nested.owners import L2Page, Owners
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Status, Table


def owners_page(found: Owners) -> Page:
    blocks: list[str | Table] = [_head(found)]
    if found.l1:
        rows = tuple(
            (str(one.vm), f"{one.address:#x}", str(one.slot), f"{one.host_virtual:#x}")
            for one in found.l1
        )
        headers = ("VM", "L1 physical", "memslot", "host virtual")
        blocks.append(Table(headers, rows, right=(0, 1, 2)))
    if found.l2:
        blocks.append(_l2(found))
    blocks += [f"note: {note}" for note in found.notes]
    return Page(tuple(blocks), _data(found), lambda: _status(found))


def _data(found: Owners) -> dict[str, Data]:
    return {
        "page": hexed(found.page),
        "l1": [
            {
                "vm": one.vm,
                "address": hexed(one.address),
                "slot": one.slot,
                "host_virtual": hexed(one.host_virtual),
            }
            for one in found.l1
        ],
        "l2": [
            {
                "vm": one.vm,
                "vcpu": one.vcpu,
                "address": hexed(one.address),
                "ept12": _rights(one.ept12) if one.ept12 else None,
                "ept02": _rights(one.ept02) if one.ept02 else None,
                "unread": [which.value for which in one.unread],
            }
            for one in found.l2
        ],
        "shared": len(found.l1) > 1,
        "complete": found.complete,
        "notes": list[Data](found.notes),
    }


def _l2(found: Owners) -> Table:
    rows = tuple((str(one.vm), str(one.vcpu), f"{one.address:#x}", *_both(one)) for one in found.l2)
    return Table(("VM", "vCPU", "L2 physical", "EPT12", "EPT02"), rows, right=(0, 1, 2))


def _head(found: Owners) -> str:
    """host 0x6020000: 1 page of L1's and 2 of L2's, in VM 0"""
    where = f"host {found.page:#x}"
    so_far = "" if found.complete else ", as far as was looked"
    if not found.l1 and not found.l2:
        return f"{where}: no VM has this page{so_far}"
    vms = ", ".join(map(str, found.vms))
    said = f"{text.count(len(found.l1), 'page')} of L1's and {len(found.l2)} of L2's"
    shared = "; it is shared" if len(found.l1) > 1 else ""
    named = "VM" if len(found.vms) == 1 else "VMs"
    return f"{where}: {said}, in {named} {vms}{shared}{so_far}"


def _both(one: L2Page) -> tuple[str, str]:
    """What cannot be read may lead there."""
    sides = ((Which.L1, one.ept12), (Which.SHADOW, one.ept02))
    ept12, ept02 = (
        "?" if rights is None and which in one.unread else _rights(rights)
        for which, rights in sides
    )
    return ept12, ept02


def _rights(rights: EptEntry | None) -> str:
    return "-" if rights is None else text.rights(rights)


def _status(found: Owners) -> Status:
    if not found.complete:
        return Status.INCOMPLETE
    if found.unread:
        return Status.UNREAD
    return Status.DONE if found.l1 or found.l2 else Status.NOT_FOUND
