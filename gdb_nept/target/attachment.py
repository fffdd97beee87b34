# SPDX-License-Identifier: GPL-2.0-or-later
"""What is attached, how it is read, and what is missing: the answer of nept-target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gdb_nept.errors import NeptError
from gdb_nept.memory.transport import Refusal
from gdb_nept.target.kernel import LinuxKernel
from gdb_nept.target.kernel_types import BODIES
from gdb_nept.target.ports import Kernel
from gdb_nept.target.type_sources import modules_have_btf

if TYPE_CHECKING:
    from gdb_nept.target.debugged import DebuggedKernel

OURS = ("kvm", "kvm_intel", "kvm_amd")


@dataclass(frozen=True)
class Missing:
    """Something that we looked for and did not find, and what to do about it."""

    what: str
    advice: str


@dataclass(frozen=True)
class Attachment:
    """What nept-target tells."""

    target: str  # "remote 127.0.0.1:1234", "dump snapshot.raw"; "" if nothing is attached
    memory: str  # how physical memory is read; "" if it cannot be
    kernel: Kernel | None
    missing: tuple[Missing, ...]
    notes: tuple[str, ...] = ()
    transport: str = ""  # one of memory.transport.KINDS where a debugger is attached
    refused: tuple[Refusal, ...] = ()  # the faster ways, and why they are not used


def missing(error: NeptError) -> Missing:
    return Missing(error.message, error.advice)


def lacking(kernel: LinuxKernel | DebuggedKernel) -> tuple[Missing, ...]:
    """What was asked for so far and is missing; the list of modules is asked for here, and where
    modules have no BTF, what else there is of their types."""
    try:
        names = [one.name for one in kernel.modules() if one.name in BODIES]
        if isinstance(kernel, LinuxKernel) and not modules_have_btf(kernel):
            for name in names:
                kernel.types.module(name)
    except NeptError as error:
        return (missing(error), *(missing(error) for error in kernel.notes))
    return tuple(missing(error) for error in kernel.notes)


def modules_in_words(kernel: Kernel) -> str:
    """Where KVM's modules lie; or that there are none, or why that cannot be told."""
    found = ", ".join(
        f"{one.name} at {one.base:#x}" for one in kernel.modules() if one.name in OURS
    )
    if kernel.module_problem:
        told = f"{found}; whether others are loaded" if found else "whether kvm is loaded"
        return f"{told} cannot be told"
    return found or "kvm is not loaded as a module"
