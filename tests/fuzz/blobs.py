# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes that a kernel's memory, a file or another program hands over, damaged: BTF, kallsyms,
vmcoreinfo, and requests for predictions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

from gdb_nept.address import HostPhys
from gdb_nept.errors import MemoryUnreadable, NeptError
from gdb_nept.predict.model import NAMES, model
from gdb_nept.predict.request import answer_lines
from gdb_nept.target.btf import Btf, check_whole
from gdb_nept.target.btf_types import BtfReader
from gdb_nept.target.kallsyms import NotKallsyms
from gdb_nept.target.kallsyms_search import digit_runs, search_back, token_table
from gdb_nept.target.ports import CType
from gdb_nept.target.vmcoreinfo import parse
from tests.target.btf_writer import BtfWriter
from tests.target.kallsyms_writer import STYLES
from tests.target.test_kallsyms import image
from tests.target.test_vmcoreinfo import TEXT


def damaged(dice: random.Random, data: bytes) -> bytes:
    """Some bytes of `data` changed, or a part cut out, doubled or moved."""
    found = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        place = dice.randrange(len(found))
        how = dice.randrange(6)
        if how < 3:
            found[place] = dice.choice((0, 0xFF, found[place] ^ 1 << dice.randrange(8)))
        elif how == 3:
            found[place : place + 4] = dice.choice((bytes(4), b"\xff" * 4, dice.randbytes(4)))
        elif how == 4:
            del found[place : place + dice.randrange(1, 64)]
            if not found:
                return b""
        else:
            part = found[place : place + dice.randrange(1, 64)]
            found[dice.randrange(len(found)) : 0] = part
    return bytes(found)


def btf(dice: random.Random) -> str:
    """Every type of a damaged BTF, two members deep."""
    data = damaged(dice, _btf().blob())
    try:
        blob = Btf(data)
        reader = BtfReader(blob)
    except NeptError:
        return ""
    for attempt in (lambda: check_whole(blob), *_asked(reader)):
        try:
            attempt()
        except NeptError:
            continue
    return ""


def _btf() -> BtfWriter:
    writer = BtfWriter()
    number = writer.integer("int", 4)
    row = writer.add(3, "", 0, number, number, 16)
    inner = writer.struct("", 8, ("x", number, 0), ("y", row, 32))
    outer = writer.struct("kvm", 80, ("a", number, 0), ("", inner, 64), ("rows", row, 128))
    pointer = writer.add(2, "", outer)
    writer.struct("kvm_vcpu", 16, ("kvm", pointer, 0), ("next", pointer + 2, 64))
    writer.add(2, "", pointer + 1)
    writer.flagged("flags", 8, ("low", number, 0, 3), ("high", number, 3, 5))
    writer.add(6, "kind", 4, 1, 0, 2, 1, count=1)
    return writer


def _asked(reader: BtfReader) -> Iterator[Callable[[], object]]:
    for name in ("kvm", "kvm_vcpu", "flags", "kind", "none"):
        yield lambda name=name: _explored(reader.named(name), 2)  # type: ignore[misc]
    for number in range(16):
        yield lambda number=number: _explored(reader.type(number), 2)  # type: ignore[misc]


def _explored(found: CType | None, depth: int) -> None:
    if found is None or depth < 0:
        return
    if found.target is not None:
        _explored(found.element(), depth - 1)
    for name in found.names() if found.names else ():
        _explored(found.member(name).type, depth - 1)


class Bytes:
    """Physical memory in one piece."""

    def __init__(self, start: int, data: bytes) -> None:
        self.start, self.data = start, data

    def read(self, address: HostPhys, size: int) -> bytes:
        offset = address - self.start
        if offset < 0 or offset + size > len(self.data):
            raise MemoryUnreadable(address, size, "no memory there")
        return self.data[offset : offset + size]


def kallsyms(dice: random.Random) -> str:
    """A search in damaged tables of any order."""
    memory, tables, _ = image(STYLES[dice.choice(list(STYLES))])
    start = min(tables.names, tables.entries) - 0x1000
    data = memory.read(HostPhys(start), tables.token_index + 0x1800 - start)
    here = Bytes(start, damaged(dice, data))
    for place in list(digit_runs(here.data))[:4]:
        try:
            search_back(here, token_table(here, HostPhys(start + place)), None)
        except (NotKallsyms, MemoryUnreadable):
            continue
    return ""


def vmcoreinfo(dice: random.Random) -> str:
    found = parse(damaged(dice, TEXT.encode()))
    if found is not None:  # what it tells can be asked for
        assert found.kaslr_offset >= 0
        assert found.levels in (4, 5)
    return ""


REQUEST = {
    "id": 1,
    "eptp": "0x101e",
    "ept_caps": "0xf0106734141",
    "maxphyaddr": 39,
    "mbec": False,
    "memory": {"0x1000": "0x2007", "0x2000": "0x3007", "0x3000": "0x4007", "0x4028": "0x1024035"},
    "access": {"gpa": "0x5108", "op": "write", "user": False, "stage": "final", "gla": "0x5108"},
    "controls": {"pml": True, "ve": False},
}
ODD: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1 << 64, 1 << 63, 1.5, "", "0x", "-1", "0xg", "5" * 5000, [], {}),
    *(" 12", "1_000", "0b1", "\u0663", "NaN", "write", "0x1000", 52, 53, 12, "0x105e", "0x1026"),
)


def requests(dice: random.Random) -> str:
    """One request with odd values, or as damaged text: one line, one answer that is JSON."""
    asked = json.loads(json.dumps(REQUEST))
    for _ in range(dice.randrange(4)):
        holder = dice.choice((asked, asked["memory"], asked["access"], asked["controls"]))
        if not isinstance(holder, dict) or not holder:
            continue
        key = dice.choice((*holder, "pml_index", "unmapped", "odd", "0x4028"))
        value = dice.choice(ODD)
        if holder is not asked or key not in ("memory", "access", "controls"):
            holder[key] = value
    line = json.dumps(asked).encode()
    if dice.random() < 0.3:
        line = damaged(dice, line).replace(b"\n", b" ")
    answers = list(answer_lines([line], model(dice.choice(NAMES))))
    if len(answers) != (1 if line.strip() else 0):
        return f"{len(answers)} answers for {line!r}"
    for answer in answers:
        found = json.loads(answer)
        if not {"error", "outcome"} & set(found) or "\n" in answer:
            return f"{answer} for {line!r}"
    return ""


KINDS: dict[str, Callable[[random.Random], str]] = {
    "btf": btf,
    "kallsyms": kallsyms,
    "vmcoreinfo": vmcoreinfo,
    "requests": requests,
}
