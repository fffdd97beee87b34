# SPDX-License-Identifier: GPL-2.0-or-later
"""vmcs12 pages found by their content: what nept-scan answers.

JSON: pages [address (host physical), whose (null if not known), shadow, empty, launched, layout
(null if none fits), eptp (null if EPT is not used), guest_rip, guest_cr3, exit_reason, doubts
[text]], owners_unknown (why no owner is told, or null), unread (bytes that were not looked at,
since they cannot be read or the dump leaves them out).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gdb_nept.address import HostPhys
from gdb_nept.arch.exits import ExitReason
from gdb_nept.kvm.vmcs12_scan import Vmcs12Page
from gdb_nept.render import text
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Status, Table

HEADERS = ("host physical", "EPTP", "L2's RIP", "L2's CR3", "what it is")


def scan_page(
    found: Sequence[Vmcs12Page],
    whose: Mapping[HostPhys, str],
    unread: int = 0,
    no_owners: str = "",
) -> Page:
    """`unread` bytes could not be looked at; `no_owners` is why nobody could be asked whose they
    are."""
    blocks: list[str | Table] = [_head(found)]
    if found:
        rows = [_row(page, whose.get(page.place, "")) for page in found]
        blocks.append(Table(HEADERS, rows))
    if no_owners:
        blocks.append(f"whose they are cannot be told: {no_owners}")
    if unread:
        told = "cannot be read, or the dump leaves it out: there may be more such pages"
        blocks.append(f"note: {text.size(unread)} of memory {told}")
    pages: list[Data] = [_data(page, whose.get(page.place)) for page in found]
    data: dict[str, Data] = {
        "pages": pages,
        "owners_unknown": no_owners or None,
        "unread": unread,
    }
    return Page(tuple(blocks), data, lambda: Status.UNREAD if unread else Status.DONE)


def _head(found: Sequence[Vmcs12Page]) -> str:
    if not found:
        return "no page begins with the revision identifier of KVM's vmcs12"
    empty = sum(page.empty for page in found)
    doubtful = sum(bool(page.doubts) for page in found)
    entered = len(found) - empty - doubtful
    noun = "page begins" if len(found) == 1 else "pages begin"
    return (
        f"{len(found)} {noun} as KVM's vmcs12: {entered} as L1 could have entered, {empty} empty, "
        f"{doubtful} doubtful"
    )


def _row(page: Vmcs12Page, whose: str) -> tuple[str, ...]:
    told = [whose] if whose else []
    if page.empty:
        told.append("empty: a VMXON region, or not yet written to")
    else:
        reason = ExitReason(page.number("vm_exit_reason"))
        told.append("launched" if page.launched else "not launched")
        told.append(f"last exit {reason.name}")
    if page.shadow:
        told.append("a shadow VMCS of L1's")
    told += [f"doubtful: {doubt}" for doubt in page.doubts]
    eptp = page.eptp
    return (
        text.address(page.place),
        "-" if eptp is None else f"{eptp.value:#x}",
        "-" if page.empty else f"{page.number('guest_rip'):#x}",
        "-" if page.empty else f"{page.number('guest_cr3'):#x}",
        "; ".join(told),
    )


def _data(page: Vmcs12Page, whose: str | None) -> Data:
    eptp = page.eptp
    return {
        "address": hexed(page.place),
        "whose": whose,
        "shadow": page.shadow,
        "empty": page.empty,
        "launched": page.launched,
        "layout": None if page.layout is None else page.layout.origin,
        "eptp": None if eptp is None else hexed(eptp.value),
        "guest_rip": hexed(page.number("guest_rip")),
        "guest_cr3": hexed(page.number("guest_cr3")),
        "exit_reason": ExitReason(page.number("vm_exit_reason")).basic,
        "doubts": list(page.doubts),
    }
