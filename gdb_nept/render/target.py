# SPDX-License-Identifier: GPL-2.0-or-later
"""What is attached and what is missing: what nept-target answers.

JSON: target, memory, transport (process, file, phymem, direct; null for a dump), not_used
[transport, why, advice] (the faster ways), kernel (null if none was found) {release, types,
symbols, modules [name, base, size]}, missing [what, advice], notes [text].
"""

from __future__ import annotations

from gdb_nept.memory.transport import Refusal
from gdb_nept.render.json import hexed
from gdb_nept.render.page import Data, Page, Status
from gdb_nept.target.attachment import Attachment, Missing, modules_in_words
from gdb_nept.target.ports import Kernel


def target_page(found: Attachment) -> Page:
    lines = [
        f"target:   {found.target or 'none'}",
        f"memory:   {found.memory or 'not readable'}",
        *_kernel_lines(found.kernel),
    ]
    lines += [f"note:     {note}" for note in found.notes]
    lines += [_refusal(one) for one in found.refused]
    problems = [_missing(one) for one in found.missing]
    status = Status.DONE if found.kernel is not None else Status.NOT_FOUND
    return Page(("\n".join(lines), *problems), _data(found), lambda: status)


def _kernel_lines(kernel: Kernel | None) -> list[str]:
    if kernel is None:
        return ["kernel:   not found"]
    return [
        f"kernel:   Linux {kernel.release}",
        f"symbols:  {kernel.symbols.origin}",
        f"types:    {kernel.types.origin}",
        f"modules:  {modules_in_words(kernel)}",
    ]


def _missing(one: Missing) -> str:
    advice = "\n".join(f"  {line}" for line in one.advice.splitlines())
    return f"missing:  {one.what}" + (f"\n{advice}" if advice else "")


def _refusal(one: Refusal) -> str:
    return f"note:     memory is not read through {one}" + (
        f"\n  {one.advice}" if one.advice else ""
    )


def _data(found: Attachment) -> dict[str, Data]:
    kernel = found.kernel
    return {
        "target": found.target or None,
        "memory": found.memory or None,
        "transport": found.transport or None,
        "not_used": [
            {"transport": one.kind, "why": one.why, "advice": one.advice or None}
            for one in found.refused
        ],
        "kernel": None if kernel is None else _kernel_data(kernel),
        "missing": [{"what": one.what, "advice": one.advice or None} for one in found.missing],
        "notes": list[Data](found.notes),
    }


def _kernel_data(kernel: Kernel) -> Data:
    modules: list[Data] = [
        {"name": one.name, "base": hexed(one.base), "size": one.size} for one in kernel.modules()
    ]
    return {
        "release": kernel.release,
        "types": kernel.types.origin,
        "symbols": kernel.symbols.origin,
        "modules": modules,
    }
