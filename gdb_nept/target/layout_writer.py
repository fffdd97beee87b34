# SPDX-License-Identifier: GPL-2.0-or-later
"""Layouts (`layouts.py`) out of the debug info that a debugger has read; `scripts/layouts` runs it
inside gdb.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gdb_nept.target.debugger import Debugger, ctype
from gdb_nept.target.layouts import FORMAT, VMLINUX
from gdb_nept.target.ports import CType

#: What is looked up by name, by the object that defines it; the first of each must be there.
ROOTS = {
    "kvm": (
        *("kvm", "kvm_vcpu", "kvm_mmu", "kvm_mmu_page", "kvm_memslots", "kvm_memory_slot"),
        *("x86_exception", "kvm_x86_ops", "kvm_x86_nested_ops", "kvm_page_fault"),
        *("pte_list_desc", "tdp_iter"),
    ),
    "kvm_intel": ("vcpu_vmx", "kvm_vmx", "nested_vmx", "loaded_vmcs", "vmcs12"),
    VMLINUX: (
        *("module", "list_head", "rb_root", "rb_node", "xarray", "xa_node", "page"),
        *("mm_struct", "task_struct", "pid", "btf_module", "btf"),
    ),
}
#: Of these, what a pointer leads to is told as well; other structures are left to vmlinux.
FOLLOWED = re.compile(r"kvm|vmx|vmcs|vcpu|nested|loaded|pte_|tdp_|module|mod_|btf")


class Descriptions:
    """The types asked for, and all that they are made of."""

    def __init__(self) -> None:
        self.types: dict[str, dict[str, Any]] = {}

    def add(self, found: CType, name: str) -> str:
        """How the file writes `found`, which is called `name` where it has no name."""
        if found.kind in ("pointer", "array"):
            element = found.element()
            if found.kind == "array":
                return f"{self.add(element, name)}[{found.count}]"
            return f"{self._pointed(element, name)}*"
        if found.kind in ("struct", "union"):
            return self._structure(found, found.name or name)
        if found.kind == "enum":
            return self._enum(found, found.name or name)
        if found.kind == "function":
            return f"fn({found.count})"
        if found.kind == "void":
            return "void"
        letter = "f" if found.kind == "float" else "s" if found.signed else "u"
        return f"{letter}{found.size * 8}"

    def _pointed(self, found: CType, name: str) -> str:
        apart = found.kind in ("struct", "union") and found.name
        if apart and not FOLLOWED.match(found.name):
            return f"{found.kind} {found.name}"
        return self.add(found, name)

    def _structure(self, found: CType, name: str) -> str:
        key = f"{found.kind} {name}"
        if key in self.types or found.names is None or not found.size:
            return key
        members: dict[str, list[int | str]] = {}
        self.types[key] = {"size": found.size, "members": members}
        for each in found.names():
            member = found.member(each)
            bits = [member.bit_offset % 8, member.bit_size] if member.bit_size else []
            written = self.add(member.type, f"{name}.{each}")
            members[each] = [member.offset, written, *bits]
        return key

    def _enum(self, found: CType, name: str) -> str:
        key = f"enum {name}"
        sign = {"signed": True} if found.signed else {}
        self.types[key] = {
            "size": found.size,
            **sign,
            "enumerators": dict(found.enumerators),
        }
        return key


def described(debugger: Debugger, module: str) -> dict[str, dict[str, Any]]:
    """The types of one object; empty if the debugger has no debug info of it."""
    names = ROOTS[module]
    found = {name: debugger.struct(name) for name in names}
    if found[names[0]] is None:
        return {}
    descriptions = Descriptions()
    for name, each in found.items():
        if each is not None:
            descriptions.add(ctype(debugger, each), name)
    return descriptions.types


def dump(debugger: Debugger, module: str, target: Path) -> None:
    """Write what `described` says, as JSON; to be called inside gdb."""
    target.write_text(json.dumps(described(debugger, module)))


def written(
    release: str,
    source: str,
    build_ids: Mapping[str, str],
    types: Mapping[str, Mapping[str, Any]],
) -> str:
    """The text of the file, a type a line.  What an object has like one before it is left out."""
    known: dict[str, Any] = {}
    parts = []
    for module, bodies in types.items():
        own = {key: body for key, body in bodies.items() if known.get(key) != body}
        known.update(own)
        parts.append(f"{json.dumps(module)}: {_block(own)}")
    head = {"format": FORMAT, "release": release, "source": source, "build_ids": dict(build_ids)}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    return "{" + ",\n".join([*lines, '"types": {' + ",\n".join(parts) + "}"]) + "}\n"


def _block(bodies: Mapping[str, Any]) -> str:
    return "{\n" + ",\n".join(_lines(bodies.items())) + "}"


def _lines(bodies: Iterable[tuple[str, Any]]) -> list[str]:
    compact = (",", ":")
    return [f"{json.dumps(key)}: {json.dumps(body, separators=compact)}" for key, body in bodies]
