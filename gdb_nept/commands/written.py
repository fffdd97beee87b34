# SPDX-License-Identifier: GPL-2.0-or-later
"""A number as the user wrote it: an expression may name registers of gdb's."""

from __future__ import annotations

import re

from gdb_nept.commands.context import Context
from gdb_nept.errors import BadInput
from gdb_nept.kvm.vcpu_registers import GENERAL
from gdb_nept.nested.choice import Chosen
from gdb_nept.nested.segments import SEGMENTS
from gdb_nept.nested.session import Session
from gdb_nept.nested.whose import not_l2s, own_registers

_NAME = re.compile(r"\$([a-z][a-z0-9_]*)")
_SAME = {"sp": "rsp", "pc": "rip", "fp": "rbp"}  # gdb's own names for them
_OTHERS = ("cr0", "cr2", "cr3", "cr4", "cr8", "eflags", "fs_base", "gs_base", "k_gs_base", "efer")


def registers_in(written: str) -> tuple[str, ...]:
    """The registers that an expression names, by the names of their 64 bits: rsp for $sp and $esp.
    Variables of the user's ($a) are none."""
    whole = (_whole(name) for name in _NAME.findall(written.lower()))
    return tuple(dict.fromkeys(name for name in whole if name))


def _whole(name: str) -> str:
    name = _SAME.get(name, name)
    if name in (*GENERAL, "rip", *_OTHERS, *SEGMENTS):
        return name
    narrow = re.fullmatch(r"(r(?:8|9|1[0-5]))[dwl]", name)
    if narrow:
        return narrow[1]
    low = re.fullmatch(r"([abcd])[lh]|(sp|bp|si|di)l", name)
    wide = f"r{low[1]}x" if low and low[1] else f"r{low[2]}" if low else f"r{name.lstrip('e')}"
    return wide if wide in (*GENERAL, "rip") else ""


def check_registers(context: Context, session: Session, chosen: Chosen, written: str) -> None:
    """Raises BadInput where `written` takes gdb's registers for those of an L2 that the processor
    does not run."""
    names = registers_in(written)
    why = not_l2s(session, chosen, context.selected()) if names else ""
    if not why:
        return
    lines = [
        f"L2's own {one.name}: {one.number:#x} ({one.origin}"
        + (f"; {one.doubt})" if one.doubt else ")")
        for one in own_registers(chosen, session.vmcs12(chosen), names)
    ]
    named = ", ".join(f"${name}" for name in names)
    lines.append("If L0 holds an address of L2's in a register, write the number itself.")
    raise BadInput(f"{named}: not of L2, but of the processor: {why}", "\n".join(lines))
