# SPDX-License-Identifier: GPL-2.0-or-later
"""Predictions on request: one JSON object in, one out.  The stable interface for other programs.

A request names the EPT, the capabilities, the memory and the access; README.md has the format.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from functools import lru_cache
from typing import Any, Callable, NoReturn, TypeVar, Union

from gdb_nept.address import L1Phys, L2Phys, L2Virt
from gdb_nept.arch.cpu import Capabilities, EptVpidCap
from gdb_nept.arch.ept import PAGE_SHIFT, WALK_LENGTHS, WIDEST, Eptp
from gdb_nept.errors import BadInput
from gdb_nept.memory.sparse import SparseMemory
from gdb_nept.predict.access import Access, Controls, Op, Stage
from gdb_nept.predict.hardware import NO_CONTROLS
from gdb_nept.predict.model import Model
from gdb_nept.predict.outcome import Prediction

Object = Mapping[str, object]
Decoder = Callable[[str], Any]
Choice = TypeVar("Choice", bound=Enum)

OPS = {op.value: op for op in Op}
STAGES = {stage.value: stage for stage in Stage}
FLAGS = dict.fromkeys((
    "user", "linear_writable", "linear_execute_disable", "shadow_stack", "paging_verified",
    "asynchronous", "event_delivery", "nmi_unblocking", "unpaged", "real_mode", "emulated",
))  # fmt: skip
ACCESS = dict.fromkeys(("gpa", "op", "stage", "gla", "raw", *FLAGS))
CONTROLS = dict.fromkeys((
    "pml", "pml_index", "ve", "ve_busy", "sppt_pointer", "paging_write", "verify_guest_paging",
    "nmi_exiting", "virtual_nmis",
))  # fmt: skip
LARGEST = (1 << 64) - 1
MOST_RANGES = 1000  # without memory, in one request
SHOWN = 60  # characters of a bad value that an error repeats


def answer_lines(lines: Iterable[Union[str, bytes]], model: Model) -> Iterator[str]:
    """An answer for each line that is not blank; a bad request gets an `error` and costs no other
    its answer."""
    decode = json.JSONDecoder(parse_constant=_no_number).decode
    encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
    for line in lines:
        if line.strip():
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
    if not isinstance(request, dict):
        return {"id": None, "error": "a request is an object"}
    name = request.get("id")
    if not (name is None or isinstance(name, (str, int))):
        return {"id": None, "error": "id: neither a string nor an integer"}
    try:
        return answer(request, model)
    except BadInput as error:
        return {"id": name, "error": error.message}


def answer(request: Object, model: Model) -> dict[str, object]:
    """Raises BadInput, which names the key at fault."""
    controls, access = _object(request, "controls", {}), _object(request, "access")
    ignored = [*_others(access, ACCESS, "access"), *_others(controls, CONTROLS, "controls")]
    eptp, cpu = _machine(
        _number(request, "eptp"),
        _number(request, "ept_caps"),
        _number(request, "maxphyaddr"),
        _truth(request, "mbec"),
        _truth(controls, "paging_write"),
        _truth(controls, "verify_guest_paging"),
        controls.get("sppt_pointer") is not None,
    )
    in_force = _controls(request, controls)
    memory = _memory(_object(request, "memory"), request.get("unmapped"))
    found = as_json(model.predict(memory, eptp, _access(access), cpu, in_force))
    refused = model.refuses(eptp, cpu, in_force) or None
    return {"id": request.get("id"), **found, "entry_failure": refused, "ignored": ignored}


def as_json(found: Prediction[L1Phys]) -> dict[str, object]:
    """The prediction with its numbers as hex strings; null where the field is undefined."""
    exits = found.reason is not None
    return {
        "outcome": found.outcome.value,
        "exit_reason": found.reason,
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


def _access(given: Object) -> Access:
    gla, raw = given.get("gla"), given.get("raw")
    flags = {key: _truth(given, key) for key in given if key in FLAGS and given[key] is not None}
    return Access(
        gpa=L2Phys(_number(given, "gpa")),
        op=_choice(given, "op", OPS),
        stage=_choice(given, "stage", STAGES, Stage.FINAL),
        gla=None if gla is None else L2Virt(_number(given, "gla")),
        raw=None if raw is None else _number(given, "raw"),
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
        pml=_truth(given, "pml", has_index),
        pml_index=_number(holder, "pml_index") if has_index else Controls.pml_index,
        ve=_truth(given, "ve"),
        ve_busy=_truth(given, "ve_busy"),
        nmi_exiting=_truth(given, "nmi_exiting"),
        virtual_nmis=_truth(given, "virtual_nmis"),
        sppt_pointer=None if sppt is None else _number(given, "sppt_pointer"),
    )


def _memory(given: Object, unmapped: object) -> SparseMemory[L1Phys]:
    words = {_parse(place, "memory"): _parse(word, place) for place, word in given.items()}
    missing = _ranges(unmapped) if unmapped is not None else ()
    for place in words:
        if place & 7:
            raise BadInput(f"memory: {place:#x} is not a multiple of 8")
        if any(low <= place < high for low, high in missing):
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
            raise BadInput(f"unmapped: {_shown(pair)} is not [low, high]")
        low, high = _parse(pair[0], "unmapped"), _parse(pair[1], "unmapped")
        if low >= high:
            raise BadInput(f"unmapped: {_shown(pair)} has nothing in it")
        found.append((low, high))
    return tuple(found)


# -- values, each named when it is bad ----------------------------------------------------------


def _number(holder: Object, key: str) -> int:
    if key not in holder:
        raise BadInput(f"{key}: missing")
    return _parse(holder[key], key)


def _parse(given: object, name: str) -> int:
    number = given
    if isinstance(given, str):
        try:
            number = int(given, 0)
        except ValueError:
            raise BadInput(f"{name}: {_shown(given)} is not a number") from None
    if type(number) is not int:  # true and false are ints to isinstance()
        raise BadInput(f"{name}: {_shown(given)} is not a number")
    if not 0 <= number <= LARGEST:
        raise BadInput(f"{name}: {_shown(given)} is not a 64-bit number")
    return number


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _truth(holder: Object, key: str, otherwise: bool = False) -> bool:
    """null is the same as no such key."""
    given = holder.get(key)
    if given is None:
        return otherwise
    if not isinstance(given, bool):
        raise BadInput(f"{key}: {_shown(given)} is neither true nor false")
    return given


def _choice(
    holder: Object, key: str, known: Mapping[str, Choice], otherwise: Choice | None = None
) -> Choice:
    given = holder.get(key)
    if given is None and otherwise is not None:
        return otherwise
    if not isinstance(given, str) or given not in known:
        raise BadInput(f"{key}: {_shown(given)} is none of {', '.join(known)}")
    return known[given]


def _object(holder: Object, key: str, otherwise: Object | None = None) -> Object:
    given = holder.get(key)
    if given is None and otherwise is not None:
        return otherwise
    if not isinstance(given, dict):
        raise BadInput(f"{key}: {'missing' if given is None else 'not an object'}")
    return given


def _others(given: Object, known: Collection[str], name: str) -> list[str]:
    """The keys that we do not know: told in the answer, since one may be a known one misspelt."""
    return [f"{name}.{key}"[:SHOWN] for key in given if key not in known]
