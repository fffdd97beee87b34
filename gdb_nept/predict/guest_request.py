# SPDX-License-Identifier: GPL-2.0-or-later
"""Predictions on request for a linear address: the registers of a guest, and its own tables in
guest-physical memory, which EPT translates.  doc/predictions.md has the format."""

from __future__ import annotations

from gdb_nept.address import L2Virt
from gdb_nept.arch.paging import PAGING_PAE, Mode
from gdb_nept.errors import BadInput
from gdb_nept.predict.access import Access, Op
from gdb_nept.predict.given import Object, choice, number_in, parsed, shown, truth
from gdb_nept.predict.linear import LinearAccess, LinearPrediction
from gdb_nept.walk.guest_paging import ALIGNMENT_CHECK, Cr0, Cr4, Efer, GuestPaging, GuestStep
from gdb_nept.walk.paging import LinearWalk

GUEST = ("cr0", "cr3", "cr4", "efer", "rflags", "pdptrs", "pkru", "pkrs", "pages_1g", "cpl")
LINEAR = (
    *("gla", "gpa", "op", "size", "user", "implicit", "shadow_stack", "emulated"),
    *("event_delivery", "nmi_unblocking"),
)
OPS = {op.value: op for op in Op}
PDPTRS = 4
MOST_BYTES = 1 << 16  # of one access: more than any instruction makes


def is_linear(request: Object, access: Object) -> bool:
    """Whether the guest's own tables are to be walked: there are registers, and no address that
    they have been walked to."""
    return request.get("guest") is not None and access.get("gpa") is None


def guest_paging(given: Object, maxphyaddr: int) -> GuestPaging:
    """The registers of "guest"; `maxphyaddr` is in bits."""
    return GuestPaging(
        cr0=Cr0(number_in(given, "cr0")),
        cr3=number_in(given, "cr3"),
        cr4=Cr4(number_in(given, "cr4")),
        efer=Efer(number_in(given, "efer", 0)),
        maxphyaddr=maxphyaddr,
        pdptrs=_pdptrs(given.get("pdptrs")),
        ac=bool(number_in(given, "rflags", 0) & ALIGNMENT_CHECK),
        pkru=_may_be_unknown(given, "pkru"),
        pkrs=_may_be_unknown(given, "pkrs"),
        pages_1g=truth(given, "pages_1g", otherwise=True),
    )


def _may_be_unknown(given: Object, key: str) -> int | None:
    """A register of 32 bits."""
    if given.get(key) is None:
        return None
    number = number_in(given, key)
    if number >> 32:
        raise BadInput(f"{key}: {number:#x} has more than 32 bits")
    return number


def _pdptrs(given: object) -> tuple[int, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) != PDPTRS:
        raise BadInput(f"pdptrs: {shown(given)} is not a list of {PDPTRS} numbers")
    return tuple(parsed(each, "pdptrs") for each in given)


def linear_access(guest: Object, given: Object) -> LinearAccess:
    """At the guest's CPL; where that is not told, `user` tells."""
    level = number_in(guest, "cpl", 3 if truth(given, "user") else 0)
    if level > 3:
        raise BadInput(f"cpl: {level} is not 0 to 3")
    size = number_in(given, "size", 1)
    if not 0 < size <= MOST_BYTES:
        raise BadInput(f"size: {size} is not 1 to {MOST_BYTES}")
    return LinearAccess(
        linear=L2Virt(number_in(given, "gla")),
        size=size,
        op=choice(given, "op", OPS),
        user=level == 3,
        emulated=truth(given, "emulated"),
        implicit=truth(given, "implicit"),
        shadow_stack=truth(given, "shadow_stack"),
        event_delivery=truth(given, "event_delivery"),
        nmi_unblocking=truth(given, "nmi_unblocking"),
    )


def of_guest(found: LinearPrediction, paging: GuestPaging) -> dict[str, object]:
    """What the guest's own tables came to."""
    fault = found.fault
    return {
        "guest": _translation(found.walk, paging.mode),
        "guest_steps": [_step(step) for step in found.steps],
        "page_fault": {
            "error_code": hex(fault.code.value),
            "cr2": hex(found.linear),
            "why": fault.why,
        }
        if fault
        else None,
        "access": _access(found.access) if found.access else None,
        "before": [_access(access) for access in found.before],
        "doubts": [*found.doubts, *_memory_for_registers(paging)],
    }


def _translation(walk: LinearWalk | None, mode: Mode | None) -> dict[str, object]:
    """All but the mode null where the linear address does not translate."""
    name = mode.name if mode else "no paging"
    if walk is None or walk.gpa is None:
        keys = ("gpa", "page_size", "user", "writable", "execute_disable")
        return {"mode": name, **dict.fromkeys(keys)}
    return {
        "mode": name,
        "gpa": hex(walk.gpa),
        "page_size": walk.page_size if mode else None,
        "user": walk.user,
        "writable": walk.writable,
        "execute_disable": walk.execute_disable,
    }


def _step(step: GuestStep) -> dict[str, object]:
    """`address` is null for a PDPTE register."""
    return {
        "level": step.level,
        "address": None if step.gpa is None else hex(step.gpa),
        "index": step.index,
        "entry": hex(step.entry.value),
        "leaf": step.leaf,
    }


def _access(access: Access) -> dict[str, object]:
    return {"gpa": hex(access.gpa), "op": access.op.value, "stage": access.stage.value}


def _memory_for_registers(paging: GuestPaging) -> list[str]:
    if paging.mode is not PAGING_PAE or paging.pdptrs:
        return []
    return [
        "pdptrs were not given: the table that CR3 points to is read for them, which the "
        "processor does at MOV to CR alone"
    ]


def without_exit(found: LinearPrediction) -> dict[str, object]:
    """The answer's keys where L2's own fault comes before any exit."""
    nothing = (
        *("exit_reason", "exit_qualification", "qualification_mask"),
        *("guest_physical_address", "guest_linear_address", "hpa"),
    )
    why = found.refused or (found.fault.why if found.fault else "")
    return {
        "outcome": found.outcome.value,
        **dict.fromkeys(nothing),
        **{"steps": [], "why": why, "change": "", "rules": found.rules},
        "never_run": found.never_run,
    }
