# SPDX-License-Identifier: GPL-2.0-or-later
"""Layouts of C types out of a file, for a kernel that carries no BTF of its own.

`scripts/layouts` makes such a file from DWARF; `data/layouts/` has those of some Debian kernels.

    {"format": "gdb_nept layouts 1", "release": "5.10.0-32-cloud-amd64", "source": "…",
     "build_ids": {"kvm": "eebf…", "kvm_intel": "954f…"},
     "types": {"kvm": {"struct kvm_mmu": {"size": 456, "members": {"root_hpa": [72, "u64"], …}}}}}

`build_ids` and `types` are by module, or "vmlinux"; what two modules have alike stands with the
first.  A member is [offset in bytes, type]; a bit field [offset in bytes, type, first bit, bits].

A type is read from the left: "u64", "s32"; "struct kvm_vcpu*[288]" are 288 pointers, "fn(3)*" is a
pointer to a function of three parameters.  A structure without a name is called after the member
that it is: "struct kvm_vcpu_arch.apf".  One that is not in the file is vmlinux'.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdb_nept.errors import BadInput, MemberMissing
from gdb_nept.target.btf_types import Elsewhere
from gdb_nept.target.ports import CType, Member

FORMAT = "gdb_nept layouts 1"
VMLINUX = "vmlinux"
FOLDER = Path(__file__).resolve().parents[1] / "data" / "layouts"
KINDS = ("struct", "union", "enum")
POINTER_SIZE = 8
DEEPEST = 16  # pointers to arrays of pointers
_LAST = re.compile(r"(?P<inner>.*?)(?P<suffix>\*|\[(?P<count>\d+)\])$")
_SCALAR = re.compile(r"(?P<kind>[usf])(?P<bits>\d+)")
_FUNCTION = re.compile(r"fn\((?P<count>\d+)\)")
_SCALARS = {"u": "int", "s": "int", "f": "float"}

Bodies = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Layouts:
    """One file: the build IDs of the objects that it tells the types of, and the types."""

    path: Path
    release: str
    build_ids: Mapping[str, str]
    types: Mapping[str, Bodies]

    def bodies(self, module: str) -> Bodies:
        """The types of `module`, and what it has like those before it in the file."""
        return {**{key: body for each in self.types.values() for key, body in each.items()},
                **self.types.get(module, {})}  # fmt: skip


def is_layouts(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{"


def parse(path: Path, data: bytes) -> Layouts:
    """Raises BadInput for what is no file of layouts, or a damaged one."""
    try:
        found = json.loads(data)
        if found["format"] != FORMAT:
            raise BadInput(f"{path} is of the format '{found['format']}', wanted is '{FORMAT}'")
        layouts = Layouts(path, found["release"], found["build_ids"], found["types"])
        for body in (body for each in layouts.types.values() for body in each.values()):
            _checked(body)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise BadInput(f"{path} holds no layouts", "Make it with scripts/layouts.") from None
    return layouts


def _checked(body: Mapping[str, Any]) -> None:
    """Raises one of the errors that parse() catches."""
    int(body["size"])
    for place in body.get("members", {}).values():
        if len(place) not in (2, 4) or not isinstance(place[1], str):
            raise ValueError(place)
    dict(body.get("enumerators", {}))


def shipped(folder: Path = FOLDER) -> Iterator[Layouts]:
    """Those that come with this program."""
    for path in sorted(folder.glob("*.json")):
        yield parse(path, path.read_bytes())


class LayoutReader:
    """The types of one module, each built when it is first asked for.  `elsewhere` finds a
    structure that the file has not."""

    def __init__(self, bodies: Bodies, elsewhere: Elsewhere) -> None:
        self._bodies = bodies
        self._elsewhere = elsewhere
        self._types: dict[str, CType] = {}

    def named(self, name: str) -> CType | None:
        """struct or union `name` of this file itself."""
        found = (f"{kind} {name}" for kind in ("struct", "union"))
        return next((self.type(key) for key in found if key in self._bodies), None)

    def type(self, written: str, depth: int = 0) -> CType:
        """The type that the file writes so.  Raises BadInput."""
        if written not in self._types:
            if depth > DEEPEST:
                raise BadInput(f"the layouts' type '{written}' is nested too deep")
            self._types[written] = self._build(written, depth)
        return self._types[written]

    def _build(self, written: str, depth: int) -> CType:
        last = _LAST.match(written)
        if last and last["suffix"] == "*":
            return CType("pointer", "", POINTER_SIZE, target=lambda: self.type(last["inner"]))
        if last:
            element, count = self.type(last["inner"], depth + 1), int(last["count"])
            return CType("array", "", element.size * count, count=count, target=lambda: element)
        kind, _, name = written.partition(" ")
        if kind in KINDS:
            return self._named(kind, name, written)
        return _plain(written)

    def _named(self, kind: str, name: str, written: str) -> CType:
        body = self._bodies.get(written)
        if body is None:
            return self._elsewhere(name) or _unknown(kind, name)
        if kind == "enum":
            values = tuple(dict(body["enumerators"]).items())
            return CType(kind, name, body["size"], bool(body.get("signed")), enumerators=values)
        return self._structure(kind, name, body)

    def _structure(self, kind: str, name: str, body: Mapping[str, Any]) -> CType:
        members = body["members"]

        def lookup(wanted: str) -> Member:
            if wanted not in members:
                raise MemberMissing(name, wanted)
            offset, written, *bits = members[wanted]
            first, size = bits or (0, 0)
            return Member(wanted, offset * 8 + first, size, self.type(written))

        return CType(kind, name, body["size"], lookup=lookup, names=lambda: tuple(members))


def _plain(written: str) -> CType:
    scalar = _SCALAR.fullmatch(written)
    if scalar:
        signed = scalar["kind"] == "s"
        return CType(_SCALARS[scalar["kind"]], written, int(scalar["bits"]) // 8, signed)
    function = _FUNCTION.fullmatch(written)
    if function:
        return CType("function", "", 0, count=int(function["count"]))
    if written == "void":
        return CType("void", written, 0)
    raise BadInput(f"the layouts have a type '{written}' that we do not know")


def _unknown(kind: str, name: str) -> CType:
    def lookup(member: str) -> Member:
        raise MemberMissing(f"{name} (which neither the layouts nor vmlinux have)", member)

    return CType(kind, name, 0, lookup=lookup, names=lambda: ())
