# SPDX-License-Identifier: GPL-2.0-or-later
"""Predictions on request: one JSON object in, one out.  The stable interface for other programs.

A request names the EPT, the capabilities, the memory and the access;
doc/predictions.md has the format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, Callable, NoReturn, Union

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import PAGE_SHIFT, WALK_LENGTHS, WIDEST, Eptp
from gdb_nept.errors import BadInput
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.predict.access import Access, Apic, Controls, Stage
from gdb_nept.predict.given import (
    Object,
    choice,
    each_key_once,
    number_in,
    numbers,
    object_in,
    others,
    parsed,
    shown,
    truth,
)
from gdb_nept.predict.guest_request import (
    GUEST,
    LINEAR,
    OPS,
    guest_paging,
    is_linear,
    linear_access,
    of_guest,
    without_exit,
)
from gdb_nept.predict.hardware import NO_CONTROLS
from gdb_nept.predict.linear import predict_linear
from gdb_nept.predict.model import Model, Processor
from gdb_nept.predict.outcome import Prediction
from gdb_nept.walk.guest_entry import refusal

Decoder = Callable[[str], Any]

STAGES = {stage.value: stage for stage in Stage}
FLAGS = dict.fromkeys((
    "user", "linear_writable", "linear_execute_disable", "shadow_stack", "paging_verified",
    "asynchronous", "event_delivery", "nmi_unblocking", "unpaged", "real_mode", "emulated",
))  # fmt: skip
ACCESS = dict.fromkeys(("gpa", "op", "stage", "gla", "raw", *FLAGS))
CONTROLS = dict.fromkeys((
    "pml", "pml_index", "ve", "ve_busy", "sppt_pointer", "paging_write", "verify_guest_paging",
    "nmi_exiting", "virtual_nmis", "apic_access_address", "tpr_shadow",
    "apic_register_virtualization", "virtual_interrupt_delivery",
))  # fmt: skip
OF_APIC = ("tpr_shadow", "apic_register_virtualization", "virtual_interrupt_delivery")
REFUSED = "entry_failure"
MOST_RANGES = 1000  # without memory, in one request


def answer_lines(lines: Iterable[Union[str, bytes, None]], model: Model) -> Iterator[str]:
    """An answer for each line that is not blank, and for None, one that is too long to be read; a
    bad request gets an `error` and costs no other its answer."""
    decoder = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=each_key_once)
    decode = decoder.decode
    encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
    for line in lines:
        if line is None:
            yield encode({"id": None, "error": "the line is too long for a request"})
        elif line.strip():
            yield encode(_answer_line(line, decode, model))


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")  # Python's json would take NaN and Infinity


def _answer_line(line: Union[str, bytes], decode: Decoder, model: Model) -> dict[str, object]:
    try:
        request = decode(line if isinstance(line, str) else line.decode())
    except RecursionError:
        return {"id": None, "error": "not JSON that we read: nested too deeply"}
    except ValueError as error:
        return {"id": None, "error": f"not JSON: {error}"}
    except BadInput as error:
        return {"id": None, "error": error.message}
    if not isinstance(request, dict):
        return {"id": None, "error": "a request is an object"}
    name = request.get("id")
    if isinstance(name, bool) or not (name is None or isinstance(name, (str, int))):
        return {"id": None, "error": "id: neither a string nor an integer"}
    try:
        return answer(request, model)
    except BadInput as error:
        return {"id": name, "error": error.message}


def answer(request: Object, model: Model) -> dict[str, object]:
    """Raises BadInput, which names the key at fault."""
    controls, access = object_in(request, "controls", {}), object_in(request, "access")
    linear = is_linear(request, access)
    ignored = others(access, LINEAR if linear else ACCESS, "access")
    ignored += others(controls, CONTROLS, "controls") if controls else []
    if isinstance(model, Processor) and access.get("emulated"):
        ignored.append("access.emulated")
    if controls and controls.get("apic_access_address") is None:
        ignored += [f"controls.{key}" for key in OF_APIC if controls.get(key)]
    machine = (
        number_in(request, "eptp"),
        number_in(request, "ept_caps"),
        number_in(request, "maxphyaddr"),
        truth(request, "mbec"),
        truth(controls, "paging_write"),
        truth(controls, "verify_guest_paging"),
        controls.get("sppt_pointer") is not None,
    )
    eptp, cpu = _machine(*machine)
    in_force = _controls(request, controls)
    memory = _memory(object_in(request, "memory"), request.get("unmapped"))
    if linear:
        ignored += others(object_in(request, "guest"), GUEST, "guest")
        found = _linear(request, access, memory, eptp, cpu, in_force, model)
    else:
        ignored += ["guest"] if request.get("guest") is not None else []
        found = as_json(model.predict(memory, eptp, _access(access), cpu, in_force))
    refused = _refused(model, in_force, *machine) or found.get(REFUSED)
    return {"id": request.get("id"), **found, REFUSED: refused, "ignored": ignored}


def _linear(
    request: Object,
    access: Object,
    memory: SparseMemory[L1Phys],
    eptp: Eptp,
    cpu: Capabilities,
    controls: Controls,
    model: Model,
) -> dict[str, object]:
    """The whole two-dimensional walk: of the access that decides, and of the guest's tables."""
    guest = object_in(request, "guest")
    paging = guest_paging(guest, cpu.maxphyaddr)
    whole = linear_access(guest, access)
    found = predict_linear(memory, eptp, whole, paging, cpu, controls, model)
    exit_ = as_json(found.prediction) if found.prediction else without_exit(found)
    return {**exit_, **of_guest(found, paging), REFUSED: refusal(paging, whole.user) or None}


def as_json(found: Prediction[L1Phys]) -> dict[str, object]:
    """The prediction with its numbers as hex strings; null where the field is undefined."""
    reason = found.reason
    exits = reason is not None
    return {
        "outcome": found.outcome.value,
        "exit_reason": reason,
        "exit_qualification": hex(found.qualification) if exits else None,
        "qualification_mask": hex(found.mask) if exits else None,
        "guest_physical_address": _hex(found.gpa),
        "guest_linear_address": _hex(found.gla),
        "hpa": _hex(found.hpa),
        "steps": [
            {
                "level": step.level,
                "address": hex(step.address),
                "index": step.index,
                "entry": hex(step.entry.value),
            }
            for step in found.walk.steps
        ],
        "why": found.why,
        "change": found.change,
        "rules": found.rules,
        "never_run": found.never_run,
    }


def _hex(number: int | None) -> str | None:
    return None if number is None else hex(number)


@lru_cache(maxsize=256)
def _machine(
    pointer: int, caps: int, maxphyaddr: int, mbec: bool, write: bool, verify: bool, sub_page: bool
) -> tuple[Eptp, Capabilities]:
    """Kept from one request to the next, since they come in thousands for one machine."""
    if not PAGE_SHIFT < maxphyaddr <= WIDEST:
        raise BadInput(f"maxphyaddr: {maxphyaddr} is not between {PAGE_SHIFT + 1} and {WIDEST}")
    eptp, cpu = Eptp(pointer), Capabilities(maxphyaddr, EptVpidCap(caps), mbec)
    if eptp.levels not in WALK_LENGTHS:
        raise BadInput(f"eptp: a page-walk length of {eptp.levels} is neither 4 nor 5")
    cpu = replace(cpu, paging_write=write, verify_guest_paging=verify, sub_page=sub_page)
    return eptp, cpu


@lru_cache(maxsize=256)
def _refused(model: Model, controls: Controls, *machine: Any) -> str:
    """Kept for the same reason, and by the same numbers."""
    eptp, cpu = _machine(*machine)
    return model.refuses(eptp, cpu, controls)


def _access(given: Object) -> Access:
    gla, raw = given.get("gla"), given.get("raw")
    flags = {key: truth(given, key) for key in given if key in FLAGS and given[key] is not None}
    return Access(
        gpa=L2Phys(number_in(given, "gpa")),
        op=choice(given, "op", OPS),
        stage=choice(given, "stage", STAGES, Stage.FINAL),
        gla=None if gla is None else L2Virt(parsed(gla, "gla")),
        raw=None if raw is None else parsed(raw, "raw"),
        **flags,
    )


def _controls(request: Object, given: Object) -> Controls:
    """`pml_index` stands in the request itself; it switches PML on unless "pml" says otherwise."""
    holder = request if "pml_index" in request else given
    has_index = holder.get("pml_index") is not None
    if not (given or has_index):
        return NO_CONTROLS
    sppt = given.get("sppt_pointer")
    return Controls(
        pml=truth(given, "pml", has_index),
        pml_index=number_in(holder, "pml_index") if has_index else Controls.pml_index,
        ve=truth(given, "ve"),
        ve_busy=truth(given, "ve_busy"),
        nmi_exiting=truth(given, "nmi_exiting"),
        virtual_nmis=truth(given, "virtual_nmis"),
        sppt_pointer=None if sppt is None else number_in(given, "sppt_pointer"),
        apic=_apic(given),
    )


def _apic(given: Object) -> Apic | None:
    """None if APIC accesses are not virtualized."""
    if given.get("apic_access_address") is None:
        return None
    return Apic(
        number_in(given, "apic_access_address"),
        truth(given, "tpr_shadow"),
        truth(given, "apic_register_virtualization"),
        truth(given, "virtual_interrupt_delivery"),
    )


def _memory(given: Object, unmapped: object) -> SparseMemory[L1Phys]:
    words = numbers(given, "memory")
    missing = _ranges(unmapped) if unmapped is not None else ()
    for place in words:
        if place & 7:
            raise BadInput(f"memory: {place:#x} is not a multiple of 8")
        if missing and any(low <= place < high for low, high in missing):
            raise BadInput(f"memory: {place:#x} is unmapped")
    if len(words) != len(given):
        raise BadInput("memory: one address is given twice")
    return SparseMemory(words, missing)


def _ranges(given: object) -> tuple[tuple[int, int], ...]:
    """[[low, high], ...]: from low up to, and without, high."""
    if not isinstance(given, list) or len(given) > MOST_RANGES:
        raise BadInput(f"unmapped: not a list of at most {MOST_RANGES} ranges")
    found = []
    for pair in given:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadInput(f"unmapped: {shown(pair)} is not [low, high]")
        low, high = parsed(pair[0], "unmapped"), parsed(pair[1], "unmapped")
        if low >= high:
            raise BadInput(f"unmapped: {shown(pair)} has nothing in it")
        found.append((low, high))
    return tuple(found)
