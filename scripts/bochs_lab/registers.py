# SPDX-License-Identifier: GPL-2.0-or-later
"""The registers of the processor, from the parameter tree that the debugger of Bochs prints.

The tree is taken and not the commands r, creg and sreg, because these know no 64-bit bases
of segments, no MSRs and nothing of VMX.
"""

from __future__ import annotations

import re
from typing import Any, Union

from .bochs import Bochs
from .errors import LabError

Tree = dict[str, Any]  # of names to words as Bochs prints them, or to such a tree

GENERAL = (
    *("RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP", "R8", "R9", "R10", "R11"),
    *("R12", "R13", "R14", "R15", "RIP", "EFLAGS"),
)
CONTROL = ("CR0", "CR2", "CR3", "CR4", "XCR0")
SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR")
_LINE = re.compile(r"^\s*(\w+) = (\{|\S+)$|^\s*(\})$")


def registers(bochs: Bochs) -> dict[str, Any]:
    """Every register by its name; numbers as hexadecimal strings."""
    output = bochs.command('show "cpu0"')
    cpu = parse(output).get("cpu0", {})
    missing = [name for name in (*GENERAL, *CONTROL, *SEGMENTS, "MSR", "VMX") if name not in cpu]
    if missing:
        raise LabError(f"Bochs shows its processor in an unknown form: no {', '.join(missing)}")
    return {
        **{name.lower(): cpu[name] for name in (*GENERAL, *CONTROL)},
        "efer": cpu["MSR"]["EFER"],
        "segments": {name.lower(): _segment(cpu[name]) for name in SEGMENTS},
        "gdtr": cpu["GDTR"],
        "idtr": cpu["IDTR"],
        "msr": cpu["MSR"],
        "vmx": cpu["VMX"],
    }


def parse(output: str) -> Tree:
    """The nested form `name = word` and `name = { … }`."""
    tree: Tree = {}
    open_trees = [tree]
    for line in output.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        name, value, closing = match.groups()
        if closing:
            open_trees.pop()
            if not open_trees:
                break
            continue
        inner: Union[str, Tree] = {} if value == "{" else value
        open_trees[-1][name] = inner
        if isinstance(inner, dict):
            open_trees.append(inner)
    return tree


def _segment(tree: Tree) -> dict[str, str]:
    return {"selector": tree["selector"], "base": tree["base"], "limit": tree["limit_scaled"]}
